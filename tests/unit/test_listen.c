/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/ctl/listen.h"

static char dir[64];
static struct sockaddr_un at = {.sun_family = AF_UNIX};

static int up(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/test-listen-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/run/socket", dir);
	return 0;
}

static int down(void **state)
{
	char sub[80];

	snprintf(sub, sizeof(sub), "%s/run", dir);
	unlink(at.sun_path);
	rmdir(sub);
	return rmdir(dir);
}

static bool answers(void)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	return connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0;
}

static int listen_ok(void)
{
	struct err e = ERR_INIT;
	int fd = ctl_listen(at.sun_path, "", &e);

	if (fd < 0)
		fail_msg("%s", e.text);
	return fd;
}

static void refused(int code)
{
	struct err e = ERR_INIT;

	assert_int_equal(ctl_listen(at.sun_path, "", &e), code);
	assert_non_null(strstr(e.text, at.sun_path));
}

static void a_socket_for_root_alone(void **state)
{
	_cleanup_fd_ int fd __attribute__((unused)) = listen_ok();
	struct stat st;

	assert_true(answers());
	assert_int_equal(stat(at.sun_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void one_that_nobody_answers_on_goes(void **state)
{
	_cleanup_fd_ int fd = -1;

	close(listen_ok());
	assert_int_equal(access(at.sun_path, F_OK), 0);
	fd = listen_ok();
	assert_true(answers());
}

static void one_that_somebody_answers_on_stays(void **state)
{
	_cleanup_fd_ int fd = listen_ok();

	refused(-EADDRINUSE);
	assert_true(answers());
	/* Also when so many wait at it that no other may. */
	assert_int_equal(listen(fd, 0), 0);
	refused(-EADDRINUSE);
	refused(-EADDRINUSE);
	assert_int_equal(access(at.sun_path, F_OK), 0);
}

static void one_of_another_kind_stays(void **state)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	close(listen_ok());
	assert_int_equal(unlink(at.sun_path), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(fd, 1), 0);
	refused(-EADDRINUSE);
	assert_int_equal(access(at.sun_path, F_OK), 0);
}

static void a_file_stays(void **state)
{
	int fd;

	close(listen_ok());
	assert_int_equal(unlink(at.sun_path), 0);
	fd = open(at.sun_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	refused(-EEXIST);
	assert_int_equal(access(at.sun_path, F_OK), 0);
}

/* Another process may still have it: one that held the layers, and hands them over. */
static void one_that_was_ended_goes(void **state)
{
	_cleanup_fd_ int old = listen_ok();
	_cleanup_fd_ int fd = -1;

	ctl_listen_end(old);
	assert_false(answers());
	fd = listen_ok();
	assert_true(answers());
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(a_socket_for_root_alone),
		IN_DIR(one_that_nobody_answers_on_goes),
		IN_DIR(one_that_somebody_answers_on_stays),
		IN_DIR(one_of_another_kind_stays),
		IN_DIR(a_file_stays),
		IN_DIR(one_that_was_ended_goes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("listen", tests, NULL, NULL);
}
