/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/ref.h"

/* The command line is in no archive; what it is made of is tested as it is. */
#include "plugin/cli/login.c"
#include "plugin/cli/login_helper.c"
#include "plugin/cli/tool.c"
#include "tests/unit/scratch.h"

/* A home directory of its own. */
static int make_home(void **state)
{
	static char dir[64];
	char path[128];

	snprintf(dir, sizeof(dir), "/tmp/test_login.XXXXXX");
	assert_non_null(mkdtemp(dir));
	unsetenv("REGISTRY_AUTH_FILE");
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("DOCKER_CONFIG");
	setenv("HOME", dir, 1);
	snprintf(path, sizeof(path), "%s/bin:/usr/bin:/bin", dir);
	setenv("PATH", path, 1);
	*state = dir;
	return 0;
}

static int drop_home(void **state)
{
	return scratch_remove(*state);
}

static void put(const char *dir, const char *sub, const char *name, const char *text)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, sub);
	for (char *p = path + strlen(dir); p; p = strchr(p + 1, '/')) {
		char c = *p;

		*p = '\0';
		mkdir(path, 0700);
		*p = c;
	}
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/%s/%s", dir, sub, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
	close(fd);
}

/* Asks with @authfile (NULL: the usual places); @ret_text gets "user/secret", or the error. */
static int ask(const char *source, const char *authfile, char text[256])
{
	_cleanup_(login_done) struct login login = {.user = NULL};
	struct err e = ERR_INIT;
	struct ref ref;
	int r;

	assert_int_equal(ref_parse(source, &ref, &e), 0);
	r = login_find(&ref, authfile, &login, &e);
	assert_true(r > 0 || !login.user);
	if (r > 0)
		snprintf(text, 256, "%s/%s", login.user, login.secret);
	else
		snprintf(text, 256, "%.255s", e.text);
	return r;
}

/* @want: "user/secret", or NULL when none is to be found. */
static void check_login(const char *source, const char *want)
{
	char got[256];

	assert_int_equal(ask(source, NULL, got), want ? 1 : 0);
	assert_string_equal(got, want ? want : "");
}

static void check_failure(const char *source, const char *authfile, const char *want)
{
	char got[256];

	assert_true(ask(source, authfile, got) < 0);
	if (!strstr(got, want))
		fail_msg("'%s' does not say '%s'", got, want);
}

/* docker-credential-@name answers with what @script, a shell's, prints. */
static void put_helper(const char *dir, const char *name, const char *script)
{
	char file[64], text[512], path[128];

	snprintf(file, sizeof(file), "docker-credential-%s", name);
	snprintf(text, sizeof(text), "#!/bin/sh\n[ \"$1\" = get ] || exit 3\nserver=$(cat)\n%s\n",
		 script);
	put(dir, "bin", file, text);
	snprintf(path, sizeof(path), "%s/bin/%s", dir, file);
	assert_int_equal(chmod(path, 0700), 0);
}

/* a:b = YTpi, u:pa:ss = dTpwYTpzcw==, user:secret = dXNlcjpzZWNyZXQ= */
static void logins_are_found(void **state)
{
	put(*state, ".config/containers", "auth.json",
	    "{\"auths\":{\"r.example\":{\"auth\":\"YTpi\"},"
	    "\"r.example/team\":{\"auth\":\"dTpwYTpzcw==\"},"
	    "\"docker.io\":{\"auth\":\"dXNlcjpzZWNyZXQ=\"}}}");
	check_login("r.example/x:1", "a/b");
	check_login("r.example/team/x:1", "u/pa:ss");
	check_login("r.example/teams/x:1", "a/b");
	check_login("docker.io/library/x", "user/secret");
	check_login("other.example/x", NULL);
	check_login("oci:/tmp/x", NULL);
}

static void docker_keys_are_understood(void **state)
{
	put(*state, ".docker", "config.json",
	    "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"YTpi\"},"
	    "\"https://h.example:5000\":{\"auth\":\"YTpi\"}}}");
	check_login("docker.io/library/x", "a/b");
	check_login("h.example:5000/x", "a/b");
	check_login("h.example/x", NULL);
}

static void auth_file_variable_is_alone(void **state)
{
	char path[128];

	put(*state, ".config/containers", "auth.json",
	    "{\"auths\":{\"r.example\":{\"auth\":\"YTpi\"}}}");
	put(*state, "own", "a.json", "{\"auths\":{}}");
	snprintf(path, sizeof(path), "%s/own/a.json", (char *)*state);
	setenv("REGISTRY_AUTH_FILE", path, 1);
	check_login("r.example/x", NULL);
	unsetenv("REGISTRY_AUTH_FILE");
	check_login("r.example/x", "a/b");
}

static void odd_logins_are_none(void **state)
{
	static const char *const bad[] = {"", "YTp", "!!!!", "YWI=", "===="};
	char text[128];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(text, sizeof(text), "{\"auths\":{\"r.example\":{\"auth\":\"%s\"}}}",
			 bad[i]);
		put(*state, ".docker", "config.json", text);
		check_login("r.example/x", NULL);
	}
	put(*state, ".docker", "config.json", "{\"auths\":{\"r.example\":{}},\"credHelpers\":{}}");
	check_login("r.example/x", NULL);
	put(*state, ".docker", "config.json", "{}");
	check_login("r.example/x", NULL);
}

static void damaged_auth_file_is_an_error(void **state)
{
	put(*state, ".docker", "config.json", "{\"auths\":");
	check_failure("r.example/x", NULL, ".docker/config.json");
}

static void a_named_file_is_alone_and_must_be_there(void **state)
{
	char path[128], got[256];

	put(*state, ".docker", "config.json", "{\"auths\":{\"s.example\":{\"auth\":\"YTpi\"}}}");
	put(*state, "own", "a.json", "{\"auths\":{\"r.example\":{\"auth\":\"YTpi\"}}}");
	snprintf(path, sizeof(path), "%s/own/a.json", (char *)*state);
	assert_int_equal(ask("r.example/x", path, got), 1);
	assert_string_equal(got, "a/b");
	assert_int_equal(ask("s.example/x", path, got), 0);
	snprintf(path, sizeof(path), "%s/own/none.json", (char *)*state);
	check_failure("r.example/x", path, "none.json: No such file");
}

static void identity_tokens_are_found(void **state)
{
	put(*state, ".docker", "config.json",
	    "{\"auths\":{\"r.example\":{\"auth\":\"YTpi\",\"identitytoken\":\"tok\"},"
	    "\"s.example\":{\"auth\":\"YTpi\",\"identitytoken\":\"\"}}}");
	check_login("r.example/x", "<token>/tok");
	check_login("s.example/x", "a/b");
}

/* It is asked for the registry, and for Docker Hub by the name that Docker stores it under. */
static void helpers_are_asked(void **state)
{
	put_helper(*state, "one",
		   "echo '{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"'$server'\"}'");
	put_helper(*state, "id", "echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}'");
	put(*state, ".docker", "config.json",
	    "{\"auths\":{\"r.example/team\":{\"auth\":\"YTpi\"},\"r.example\":{\"auth\":\"YTpi\"}},"
	    "\"credHelpers\":{\"r.example\":\"one\",\"docker.io\":\"one\",\"i.example\":\"id\"}}");
	check_login("r.example/x", "u/r.example");
	check_login("r.example/team/x", "a/b");
	check_login("docker.io/library/x", "u/https://index.docker.io/v1/");
	check_login("i.example/x", "<token>/t");
	check_login("s.example/x", NULL);
}

static void the_store_is_asked_last(void **state)
{
	put_helper(*state, "all", "echo '{\"Username\":\"u\",\"Secret\":\"s\"}'");
	put(*state, ".docker", "config.json",
	    "{\"auths\":{\"r.example\":{\"auth\":\"YTpi\"},\"s.example\":{}},"
	    "\"credsStore\":\"all\"}");
	check_login("r.example/x", "a/b");
	check_login("s.example/x", "u/s");
	check_login("docker.io/library/x", "u/s");
}

/* The next place may know. */
static void a_helper_that_knows_nothing_is_no_error(void **state)
{
	put_helper(*state, "none", "echo credentials not found in native keychain; exit 1");
	put_helper(*state, "empty", "echo '{\"Username\":\"\",\"Secret\":\"\"}'");
	put(*state, ".config/containers", "auth.json",
	    "{\"credHelpers\":{\"r.example\":\"none\",\"s.example\":\"empty\"}}");
	check_login("r.example/x", NULL);
	check_login("s.example/x", NULL);
	put(*state, ".docker", "config.json", "{\"auths\":{\"r.example\":{\"auth\":\"YTpi\"}}}");
	check_login("r.example/x", "a/b");
}

static void helpers_that_fail_say_why(void **state)
{
	static const struct {
		const char *script, *want;
	} bad[] = {
		{"echo vault is locked; echo more; exit 1", "docker-credential-bad: no credentials "
							    "for r.example: vault is locked"},
		{"exit 2", "it does not say why"},
		{"printf 'a\\033[2J'; exit 1", "a?[2J"},
		{"kill -9 $$", "it does not say why"},
		{"echo nonsense", "its answer is no JSON"},
		{"echo '{\"Username\":\"u\"}'", "no Secret"},
		{"echo '{\"Username\":1,\"Secret\":[]}'", "no Username"},
		{"head -c 100000 /dev/zero", "its answer is no JSON"},
	};

	put(*state, ".docker", "config.json", "{\"credHelpers\":{\"r.example\":\"bad\"}}");
	check_failure("r.example/x", NULL, "docker-credential-bad is not in PATH");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		put_helper(*state, "bad", bad[i].script);
		check_failure("r.example/x", NULL, bad[i].want);
	}
}

/* A file that somebody may have written does not choose a program outside of PATH. */
static void helpers_have_plain_names(void **state)
{
	static const char *const names[] = {"../x", "a/b", "a b", "$(x)"};
	char text[128];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(text, sizeof(text), "{\"credsStore\":\"%s\"}", names[i]);
		put(*state, ".docker", "config.json", text);
		check_failure("r.example/x", NULL, "cannot be the name of a credential helper");
	}
}

#define at_home(f) cmocka_unit_test_setup_teardown(f, make_home, drop_home)

int main(void)
{
	const struct CMUnitTest tests[] = {
		at_home(logins_are_found),
		at_home(docker_keys_are_understood),
		at_home(auth_file_variable_is_alone),
		at_home(a_named_file_is_alone_and_must_be_there),
		at_home(odd_logins_are_none),
		at_home(damaged_auth_file_is_an_error),
		at_home(identity_tokens_are_found),
		at_home(helpers_are_asked),
		at_home(the_store_is_asked_last),
		at_home(a_helper_that_knows_nothing_is_no_error),
		at_home(helpers_that_fail_say_why),
		at_home(helpers_have_plain_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
