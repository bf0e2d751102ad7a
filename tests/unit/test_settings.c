/* SPDX-License-Identifier: Apache-2.0 */
/* tarn.conf: plugin/settings.c. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/log.h"
#include "plugin/settings.h"

static char path[64];

static int load_bytes(const void *text, size_t len, struct settings *s, struct err *e)
{
	int fd, r;

	snprintf(path, sizeof(path), "/tmp/settings.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, len), 0);
	close(fd);
	*e = (struct err)ERR_INIT;
	r = settings_load(path, s, e);
	unlink(path);
	return r;
}

static int load(const char *text, struct settings *s, struct err *e)
{
	settings_default(s);
	return load_bytes(text, strlen(text), s, e);
}

static void expect_refused(const char *text, int line, const char *words)
{
	struct settings s, before;
	struct err e;
	char place[100];

	settings_default(&before);
	memcpy(&s, &before, sizeof(s));
	assert_int_equal(load_bytes(text, strlen(text), &s, &e), -EINVAL);
	snprintf(place, sizeof(place), "settings %s, line %d: ", path, line);
	assert_ptr_equal(strstr(e.text, place), e.text);
	if (!strstr(e.text, words))
		fail_msg("'%s' is not in '%s'", words, e.text);
	assert_memory_equal(&s, &before, sizeof(s));
}

static void defaults(void **state)
{
	struct settings s;
	struct err e;

	assert_int_equal(load("", &s, &e), 0);
	assert_int_equal(s.deadline_ms, 30000);
	assert_int_equal(s.exec_fill_max, 64 << 20);
	assert_int_equal(s.exec_wait_ms, 10000);
	assert_int_equal(s.readahead, 4 << 20);
	assert_int_equal(s.fetchers, 0);
	assert_int_equal(s.erofs_ra_kb, 512);
	assert_int_equal(s.connect_timeout_ms, 10000);
	assert_int_equal(s.stall_timeout_ms, 15000);
	assert_string_equal(s.group, "");
	assert_int_equal(s.log_level, LOG_INFO);
}

static void every_key(void **state)
{
	struct settings s;
	struct err e;

	assert_int_equal(load("# comment\n"
			      "\n"
			      "fault.deadline = 5m\n"
			      "  exec.fill_max=1G   # the large ones\n"
			      "exec.wait\t=\t0\n"
			      "cache.max = 20G\n"
			      "cache.low = 15G\n"
			      "fill.readahead = 512K\n"
			      "fill.fetchers = 7\r\n"
			      "mount.readahead = 2M\n"
			      "http.connect_timeout = 3\n"
			      "http.stall_timeout = 4s\n"
			      "socket.group = docker\n"
			      "log.level = debug",
			      &s, &e),
			 0);
	assert_int_equal(s.deadline_ms, 300000);
	assert_int_equal(s.exec_fill_max, 1 << 30);
	assert_int_equal(s.exec_wait_ms, 0);
	assert_int_equal(s.cache_max, 20ull << 30);
	assert_int_equal(s.cache_low, 15ull << 30);
	assert_int_equal(s.readahead, 512 << 10);
	assert_int_equal(s.fetchers, 7);
	assert_int_equal(s.erofs_ra_kb, 2048);
	assert_int_equal(s.connect_timeout_ms, 3000);
	assert_int_equal(s.stall_timeout_ms, 4000);
	assert_string_equal(s.group, "docker");
	assert_int_equal(s.log_level, LOG_DEBUG);
	assert_int_equal(load("socket.group =\nlog.level=error\nlog.level=warn\n", &s, &e), 0);
	assert_string_equal(s.group, "");
	assert_int_equal(s.log_level, LOG_WARN); /* the last one counts */
}

static void what_the_command_line_said_wins(void **state)
{
	static const char text[] = "log.level = warn\nfill.fetchers = 3\n";
	static const int level[] = {LOG_ERROR, LOG_WARN, LOG_DEBUG};
	struct settings s = {.fetchers = 9};
	struct err e = ERR_INIT;
	int fd;

	snprintf(path, sizeof(path), "/tmp/settings.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
	close(fd);
	for (int verbose = -1; verbose <= 1; verbose++) {
		assert_int_equal(settings_read(path, verbose, &s, &e), 0);
		assert_int_equal(s.log_level, level[verbose + 1]);
		assert_int_equal(s.fetchers, 3);
	}
	unlink(path);
	assert_int_equal(settings_read(path, 0, &s, &e), -ENOENT);
	assert_int_equal(s.fetchers, 3);
	/* Without a file, the defaults. */
	assert_int_equal(settings_read(NULL, 0, &s, &e), 0);
	assert_int_equal(s.log_level, LOG_INFO);
	assert_int_equal(s.fetchers, 0);
}

static void a_reread_leaves_what_counts_at_the_start(void **state)
{
	static const char text[] = "fill.fetchers = 3\nsocket.group = wheel\nexec.wait = 7s\n";
	struct settings s;
	struct err e = ERR_INIT;
	int fd;

	settings_default(&s);
	s.fetchers = 9;
	snprintf(s.group, sizeof(s.group), "docker");
	snprintf(path, sizeof(path), "/tmp/settings.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
	close(fd);
	assert_int_equal(settings_reread(path, 0, &s, &e), 0);
	unlink(path);
	assert_int_equal(s.exec_wait_ms, 7000);
	assert_int_equal(s.fetchers, 9);
	assert_string_equal(s.group, "docker");
	assert_int_equal(settings_reread(path, 0, &s, &e), -ENOENT);
	assert_int_equal(s.exec_wait_ms, 7000);
}

static void bad_values_name_their_place(void **state)
{
	expect_refused("fault.deadline = soon\n", 1, "'soon' is no value for fault.deadline");
	expect_refused("\n\nexec.fill_max = 1X", 3, "'1X' is no value for exec.fill_max");
	expect_refused("#\nexec.wait = -1\n", 2, "'-1' is no value for exec.wait");
	expect_refused("fill.readahead = 2G\n", 1, "'2G' is no value for fill.readahead");
	expect_refused("fill.fetchers = 257\n", 1, "'257' is no value for fill.fetchers");
	expect_refused("mount.readahead = 2G\n", 1, "'2G' is no value for mount.readahead");
	expect_refused("http.connect_timeout =\n", 1, "'' is no value for http.connect_timeout");
	expect_refused("http.stall_timeout = 1w\n", 1, "'1w' is no value for http.stall_timeout");
	expect_refused("socket.group = a-name-of-more-than-thirty-one-bytes\n", 1, "socket.group");
	expect_refused("log.level = loud\n", 1, "'loud' is no value for log.level");
	expect_refused("fill.readahead = 1M\nsnow = 1\n", 2, "there is no setting 'snow'");
	expect_refused("fault.deadline 3\n", 1, "'fault.deadline 3' is not of the form");
	expect_refused("= 3\n", 1, "there is no setting ''");
	expect_refused("Fault.deadline = 3\n", 1, "there is no setting 'Fault.deadline'");
}

/* Values that are numbers and would do something nobody can have meant. */
static void values_that_make_no_sense(void **state)
{
	/* Every reader that has to wait would get EIO at once. */
	expect_refused("fault.deadline = 0\n", 1, "'0' is no value for fault.deadline");
	expect_refused("fault.deadline = Never\n", 1, "'Never' is no value for fault.deadline");
	expect_refused("fault.warn = never\n", 1, "'never' is no value for fault.warn");
	expect_refused("fault.deadline = 4294968\n", 1, "is no value for fault.deadline");
	/* The kernel takes whole KiB. */
	expect_refused("mount.readahead = 512\n", 1, "'512' is no value for mount.readahead");
	/* More milliseconds than fit. */
	expect_refused("exec.wait = 50d\n", 1, "'50d' is no value for exec.wait");
}

static void files_that_are_none(void **state)
{
	static char big[LIMIT_SETTINGS + 1];
	struct settings s;
	struct err e = ERR_INIT;

	settings_default(&s);
	assert_int_equal(settings_load("/nonexistent/tarn.conf", &s, &e), -ENOENT);
	assert_non_null(strstr(e.text, "settings /nonexistent/tarn.conf"));
	memset(big, '\n', sizeof(big));
	assert_int_equal(load_bytes(big, LIMIT_SETTINGS - 1, &s, &e), 0);
	assert_int_equal(load_bytes(big, sizeof(big), &s, &e), -EFBIG);
	/* What is behind a NUL would not be read, and nobody would know. */
	assert_int_equal(load_bytes("exec.wait = 1\n\0log.level = warn\n", 32, &s, &e), -EINVAL);
	assert_non_null(strstr(e.text, path));
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t v;
	} good[] = {
		{"0", 0},
		{"1", 1},
		{"007", 7},
		{"512K", 512 << 10},
		{"4M", 4 << 20},
		{"10G", 10ull << 30},
		{"3T", 3ull << 40},
		{"18446744073709551615", UINT64_MAX},
		{"16777215T", 16777215ull << 40},
	};
	static const char *const bad[] = {"",
					  " 1",
					  "1 ",
					  "-1",
					  "+1",
					  "K",
					  "1k",
					  "1KB",
					  "1.5M",
					  "0x10",
					  "1P",
					  "16777216T",
					  "18446744073709551616"};
	uint64_t v;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(parse_size(good[i].text, &v), 0);
		assert_true(v == good[i].v);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		v = 77;
		assert_int_equal(parse_size(bad[i], &v), -EINVAL);
		assert_int_equal(v, 77);
	}
}

static void times(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {
		{"0", 0},        {"30", 30000},    {"30s", 30000}, {"5m", 300000},
		{"2h", 7200000}, {"1d", 86400000}, {"0d", 0},      {"100d", 8640000000},
	};
	static const char *const bad[] = {"",
					  "s",
					  "1ms",
					  "1S",
					  "1w",
					  "-3",
					  " 1",
					  "1 ",
					  "1.5",
					  "99999999999999999999",
					  "18446744073709551615d"};
	uint64_t v;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(parse_time_ms(good[i].text, &v), 0);
		assert_true(v == good[i].ms);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(parse_time_ms(bad[i], &v), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(every_key),
		cmocka_unit_test(what_the_command_line_said_wins),
		cmocka_unit_test(a_reread_leaves_what_counts_at_the_start),
		cmocka_unit_test(bad_values_name_their_place),
		cmocka_unit_test(values_that_make_no_sense),
		cmocka_unit_test(files_that_are_none),
		cmocka_unit_test(sizes),
		cmocka_unit_test(times),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
