/* SPDX-License-Identifier: Apache-2.0 */
#include <grp.h>
#include <sys/wait.h>

#include "tests/unit/ctl_stage.h"

/* Who may use the control socket. */

struct person {
	uid_t uid;
	gid_t gid, other; /* other: a supplementary group */
};

/* 0 when they were served, 1 when they were told that they may not, else what went wrong. */
static int ask_as(const char *path, const struct person *p)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct err e = ERR_INIT;

		if (setgroups(1, &p->other) < 0 || setgid(p->gid) < 0 || setuid(p->uid) < 0)
			_exit(10);
		if (ask(path, "{\"verb\":\"echo\"}", NULL, NULL, NULL, &e) == 0)
			_exit(0);
		_exit(strstr(e.text, "may not use tarnd") ? 1 : 11);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void strangers_are_refused(void **state)
{
	struct stage *st = *state;
	const struct person stranger = {.uid = 4242, .gid = 4242, .other = 4243};

	if (getuid() != 0)
		skip();
	assert_int_equal(ask_as(st->path, &stranger), 1);
}

static int raise_for_daemon_group(void **state)
{
	return raise_with_group(state, "daemon");
}

static bool find_daemon(gid_t *ret)
{
	struct group g, *found = NULL;
	char text[4096];

	if (getgrnam_r("daemon", &g, text, sizeof(text), &found) != 0 || !found)
		return false;
	*ret = g.gr_gid;
	return true;
}

static void members_of_the_group_are_served(void **state)
{
	struct stage *st = *state;
	gid_t daemon = 0;
	struct person p = {.uid = 4242, .gid = 4242, .other = 4243};

	if (getuid() != 0 || !find_daemon(&daemon))
		skip();
	assert_int_equal(ask_as(st->path, &p), 1);
	p.gid = daemon;
	assert_int_equal(ask_as(st->path, &p), 0);
	p.gid = 4242;
	p.other = daemon;
	assert_int_equal(ask_as(st->path, &p), 0);
}

static int raise_for_no_group(void **state)
{
	return raise_with_group(state, "no-such-group-here");
}

static void unknown_group_opens_to_nobody(void **state)
{
	struct stage *st = *state;
	const struct person stranger = {.uid = 4242, .gid = 0, .other = 0};

	if (getuid() != 0)
		skip();
	assert_int_equal(ask_as(st->path, &stranger), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_stage(strangers_are_refused),
		cmocka_unit_test_setup_teardown(members_of_the_group_are_served,
						raise_for_daemon_group, strike_stage),
		cmocka_unit_test_setup_teardown(unknown_group_opens_to_nobody, raise_for_no_group,
						strike_stage),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
