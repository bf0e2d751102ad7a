/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "plugin/ctl/proc.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void check_container(const char *text, const char *want)
{
	char out[PROC_CONTAINER];

	cgroup_container(text, out);
	assert_string_equal(out, want);
}

static void containers_by_control_group(void **state)
{
	check_container("0::/system.slice/docker-" ID ".scope\n", ID);
	check_container("0::/machine.slice/libpod-" ID ".scope/container\n", ID);
	check_container("12:pids:/docker/" ID "\n11:cpu:/docker/" ID "\n", ID);
	check_container("0::/kubepods/burstable/pod12/" ID "\n", ID);
	check_container("0::/system.slice/crun-web.scope\n", "web");
	check_container("4:memory:/web-1\n", "web-1");
	check_container("0::/system.slice/ssh.service\n", "");
	check_container("0::/user.slice/user-0.slice/session-4.scope\n", "");
	check_container("0::/init.scope\n", "");
	check_container("0::/\n", "");
	check_container("", "");
	/* One digit more is no id. */
	check_container("0::/a.slice/" ID "0.slice\n", "");
}

static void age_of_this_process(void **state)
{
	uint64_t age = 99999;

	assert_int_equal(proc_age_s(getpid(), &age), 0);
	assert_true(age < 600);
	assert_true(proc_age_s(0x3fffffff, &age) < 0);
}

static void name_of_this_process(void **state)
{
	char comm[PROC_COMM];

	proc_comm(getpid(), comm);
	assert_string_equal(comm, "test_proc");
	proc_comm(0x3fffffff, comm);
	assert_string_equal(comm, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(containers_by_control_group),
		cmocka_unit_test(age_of_this_process),
		cmocka_unit_test(name_of_this_process),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
