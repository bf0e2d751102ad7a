/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "plugin/ctl/proc.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/verbs.h"
#include "plugin/engine.h"
#include "plugin/loop.h"

/* --- verbs of our own, in place of verbs.c --- */

static _Atomic int waiting, cancelled;

static int verb_echo(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const struct json *text = json_get(t->args, "text");

	json_put_value(done, "text", text);
	json_put_int(done, "uid", t->uid);
	json_put_int(done, "pid", t->pid);
	return 0;
}

static int verb_list(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	int64_t n = 0;
	int r = 0;

	json_get_int(t->args, "n", &n);
	for (int64_t i = 0; r == 0 && i < n; i++) {
		_cleanup_buf_ struct buf row = {0};

		buf_init(&row, 64);
		buf_printf(&row, "{\"i\":%d}", (int)i);
		r = ctl_send_row(t, &row);
	}
	if (r == 0)
		r = ctl_send_progress(t, "half", 1, 2);
	json_put_int(done, "n", n);
	return r;
}

static int verb_fail(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	int64_t code = 0;

	json_get_int(t->args, "code", &code);
	return err_set(e, (int)-code, "it failed with %d", (int)code);
}

static int verb_silent_fail(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	return -ENOSPC;
}

static int verb_fd(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	int fds[2];

	assert_return_code(pipe(fds), errno);
	assert_int_equal(fd_write_full(fds[1], "hi", 2), 0);
	close(fds[1]);
	t->reply_fd = fds[0];
	return 0;
}

static int verb_wait(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	atomic_store(&waiting, 1);
	while (!ctl_cancelled(t))
		usleep(1000);
	atomic_store(&cancelled, 1);
	return err_set(e, -EPIPE, "the client went away");
}

static int verb_huge(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	_cleanup_buf_ struct buf row = {0};

	buf_init(&row, 2 * LIMIT_CTL_MESSAGE);
	buf_put_str(&row, "\"");
	for (int i = 0; i < (int)LIMIT_CTL_MESSAGE; i++)
		buf_put_str(&row, "x");
	buf_put_str(&row, "\"");
	return ctl_send_row(t, &row);
}

const struct ctl_verb ctl_verbs[] = {
	{"echo", verb_echo},          {"list", verb_list}, {"fail", verb_fail}, {"fd", verb_fd},
	{"silent", verb_silent_fail}, {"wait", verb_wait}, {"huge", verb_huge}, {NULL, NULL},
};

/* --- a server on a loop in a thread --- */

struct stage {
	char dir[64], path[128];
	struct engine en;
	pthread_t thread;
};

static void *run_loop(void *ctx)
{
	loop_run(ctx);
	return NULL;
}

static int listen_at(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_true(strlen(path) < sizeof(a.sun_path));
	memcpy(a.sun_path, path, strlen(path) + 1);
	assert_return_code(bind(fd, (struct sockaddr *)&a, sizeof(a)), errno);
	assert_return_code(chmod(path, 0666), errno);
	assert_return_code(listen(fd, 512), errno);
	return fd;
}

static int raise_with_group(void **state, const char *group)
{
	struct stage *st = calloc(1, sizeof(*st));

	assert_non_null(st);
	snprintf(st->dir, sizeof(st->dir), "/tmp/test_ctl.XXXXXX");
	assert_non_null(mkdtemp(st->dir));
	assert_return_code(chmod(st->dir, 0755), errno);
	snprintf(st->path, sizeof(st->path), "%s/sock", st->dir);
	st->en.slots = calloc(1, sizeof(*st->en.slots));
	assert_non_null(st->en.slots);
	snprintf(st->en.slots->settings.group, sizeof(st->en.slots->settings.group), "%s", group);
	assert_int_equal(loop_new(&st->en.loop), 0);
	assert_int_equal(ctl_server_new(&st->en, listen_at(st->path), &st->en.server), 0);
	assert_int_equal(pthread_create(&st->thread, NULL, run_loop, st->en.loop), 0);
	atomic_store(&waiting, 0);
	atomic_store(&cancelled, 0);
	*state = st;
	return 0;
}

static int raise_stage(void **state)
{
	return raise_with_group(state, "");
}

static int stop(void *ctx)
{
	ctl_server_stop(((struct engine *)ctx)->server);
	return 0;
}

static int busy(void *ctx)
{
	return (int)ctl_server_busy(((struct engine *)ctx)->server);
}

static int quit(void *ctx)
{
	loop_quit(((struct engine *)ctx)->loop);
	return 0;
}

static int strike_stage(void **state)
{
	struct stage *st = *state;

	loop_call(st->en.loop, stop, &st->en);
	while (loop_call(st->en.loop, busy, &st->en) > 0)
		usleep(1000);
	loop_call(st->en.loop, quit, &st->en);
	pthread_join(st->thread, NULL);
	ctl_server_free(st->en.server);
	loop_free(st->en.loop);
	free(st->en.slots);
	unlink(st->path);
	rmdir(st->dir);
	free(st);
	return 0;
}

/* --- asking --- */

struct heard {
	int rows, progress;
	int64_t last;
};

static void on_row(void *ctx, const struct json *row)
{
	struct heard *h = ctx;

	assert_true(json_get_int(row, "i", &h->last));
	h->rows++;
}

static void on_progress(void *ctx, const char *text, int64_t done, int64_t total)
{
	struct heard *h = ctx;

	assert_string_equal(text, "half");
	assert_int_equal(done, 1);
	assert_int_equal(total, 2);
	h->progress++;
}

/* One request on a connection of its own. */
static int ask(const char *path, const char *text, struct heard *heard, struct json **ret_done,
	       int *ret_fd, struct err *e)
{
	const struct ctl_handlers h = {.row = on_row, .progress = on_progress, .ctx = heard};
	_cleanup_(ctl_client_freep) struct ctl_client *c = NULL;
	_cleanup_buf_ struct buf b = {0};
	int r = ctl_connect(path, &c, e);

	if (r < 0)
		return r;
	buf_init(&b, 2 * LIMIT_CTL_MESSAGE);
	buf_put_str(&b, text);
	return ctl_request(c, &b, heard ? &h : NULL, ret_done, ret_fd, e);
}

static int connect_raw(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	memcpy(a.sun_path, path, strlen(path) + 1);
	assert_return_code(connect(fd, (struct sockaddr *)&a, sizeof(a)), errno);
	return fd;
}

static void wait_for(_Atomic int *flag)
{
	for (int i = 0; i < 5000 && !atomic_load(flag); i++)
		usleep(1000);
	assert_int_equal(atomic_load(flag), 1);
}

/* --- tests --- */

static void no_socket_says_how_to_start(void **state)
{
	struct ctl_client *c = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(ctl_connect("/nonexistent/sock", &c, &e), -ENOENT);
	assert_null(c);
	assert_string_equal(e.text,
			    "tarnd is not running (no socket at /nonexistent/sock): start it "
			    "with systemctl start tarnd, or tarnd --store DIR --socket PATH");
	assert_int_equal(ctl_exit_code(&e), 1);
}

static void stale_socket_says_so(void **state)
{
	struct stage *st = *state;
	struct ctl_client *c = NULL;
	struct err e = ERR_INIT;
	char path[160];

	snprintf(path, sizeof(path), "%s.stale", st->path);
	close(listen_at(path));
	assert_int_equal(ctl_connect(path, &c, &e), -ECONNREFUSED);
	assert_non_null(strstr(e.text, "tarnd is not running (nobody answers at"));
	unlink(path);
}

static void answer_comes_back(void **state)
{
	struct stage *st = *state;
	_cleanup_(json_freep) struct json *doc = NULL;
	struct err e = ERR_INIT;
	int64_t uid = -1, pid = -1;

	assert_int_equal(
		ask(st->path, "{\"verb\":\"echo\",\"text\":\"h\\u00e9\"}", NULL, &doc, NULL, &e),
		0);
	assert_string_equal(json_get_str(json_get(doc, "done"), "text"), "h\xc3\xa9");
	assert_true(json_get_int(json_get(doc, "done"), "uid", &uid));
	assert_true(json_get_int(json_get(doc, "done"), "pid", &pid));
	assert_int_equal(uid, getuid());
	assert_int_equal(pid, getpid());
}

static void rows_come_in_order(void **state)
{
	struct stage *st = *state;
	struct heard heard = {.last = -1};
	struct err e = ERR_INIT;

	assert_int_equal(ask(st->path, "{\"verb\":\"list\",\"n\":1000}", &heard, NULL, NULL, &e),
			 0);
	assert_int_equal(heard.rows, 1000);
	assert_int_equal(heard.last, 999);
}

static void progress_is_told(void **state)
{
	struct stage *st = *state;
	struct heard heard = {.last = -1};
	struct err e = ERR_INIT;

	/* Few enough rows to leave room: progress waits for nobody. */
	assert_int_equal(ask(st->path, "{\"verb\":\"list\",\"n\":2}", &heard, NULL, NULL, &e), 0);
	assert_int_equal(heard.rows, 2);
	assert_int_equal(heard.progress, 1);
}

static void nobody_needs_to_listen_to_rows(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;

	assert_int_equal(ask(st->path, "{\"verb\":\"list\",\"n\":3}", NULL, NULL, NULL, &e), 0);
}

static void check_failure(const char *path, const char *request, int code, int exit_code)
{
	struct err e = ERR_INIT;

	assert_int_equal(ask(path, request, NULL, NULL, NULL, &e), code);
	assert_int_equal(e.code, code);
	assert_int_equal(ctl_exit_code(&e), exit_code);
}

static void failures_keep_code_and_exit(void **state)
{
	struct stage *st = *state;
	char text[64];

	check_failure(st->path, "{\"verb\":\"fail\",\"code\":2}", -ENOENT, 1);
	check_failure(st->path, "{\"verb\":\"fail\",\"code\":28}", -ENOSPC, 1);
	snprintf(text, sizeof(text), "{\"verb\":\"fail\",\"code\":%d}", EOPNOTSUPP);
	check_failure(st->path, text, -EOPNOTSUPP, 3);
	snprintf(text, sizeof(text), "{\"verb\":\"fail\",\"code\":%d}", -CTL_USAGE);
	check_failure(st->path, text, -EINVAL, 2);
	/* What the work met is not the user's fault, whatever it is called. */
	snprintf(text, sizeof(text), "{\"verb\":\"fail\",\"code\":%d}", EINVAL);
	check_failure(st->path, text, -EIO, 1);
}

static void failure_keeps_its_words(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;

	ask(st->path, "{\"verb\":\"fail\",\"code\":2}", NULL, NULL, NULL, &e);
	assert_string_equal(e.text, "it failed with 2");
}

static void failure_without_words_gets_some(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;

	assert_int_equal(ask(st->path, "{\"verb\":\"silent\"}", NULL, NULL, NULL, &e), -ENOSPC);
	assert_string_equal(e.text, "silent: No space left on device");
}

static void bad_requests_are_usage(void **state)
{
	struct stage *st = *state;

	check_failure(st->path, "{\"verb\":\"dance\"}", -EINVAL, 2);
	check_failure(st->path, "{}", -EINVAL, 2);
	check_failure(st->path, "[1,2]", -EINVAL, 2);
	check_failure(st->path, "{\"verb\":7}", -EINVAL, 2);
	check_failure(st->path, "not JSON", -EINVAL, 2);
}

static void long_request_is_refused_here(void **state)
{
	struct stage *st = *state;
	char *text = malloc(LIMIT_CTL_MESSAGE + 2);
	struct err e = ERR_INIT;

	assert_non_null(text);
	memset(text, ' ', LIMIT_CTL_MESSAGE + 1);
	text[LIMIT_CTL_MESSAGE + 1] = '\0';
	assert_int_equal(ask(st->path, text, NULL, NULL, NULL, &e), -EMSGSIZE);
	free(text);
}

static void long_request_is_refused_there(void **state)
{
	struct stage *st = *state;
	_cleanup_fd_ int fd = connect_raw(st->path);
	size_t len = LIMIT_CTL_MESSAGE + 1;
	char *text = calloc(1, len);
	ssize_t n;

	assert_non_null(text);
	assert_int_equal(send(fd, text, len, 0), len);
	n = recv(fd, text, len - 1, 0);
	assert_true(n > 0);
	assert_non_null(strstr(text, "too long"));
	free(text);
}

static void long_row_fails_the_verb(void **state)
{
	struct stage *st = *state;

	check_failure(st->path, "{\"verb\":\"huge\"}", -EFBIG, 1);
}

static void descriptor_comes_with_done(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;
	char text[3] = "";
	int fd = -1;

	assert_int_equal(ask(st->path, "{\"verb\":\"fd\"}", NULL, NULL, &fd, &e), 0);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), 2);
	assert_string_equal(text, "hi");
	close(fd);
	assert_int_equal(ask(st->path, "{\"verb\":\"echo\"}", NULL, NULL, &fd, &e), 0);
	assert_int_equal(fd, -1);
}

static void unwanted_descriptor_is_closed(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;
	int before = dup(0), after;

	for (int i = 0; i < 20; i++)
		assert_int_equal(ask(st->path, "{\"verb\":\"fd\"}", NULL, NULL, NULL, &e), 0);
	/* The server closes its end of things a moment after its answer. */
	usleep(100000);
	after = dup(0);
	assert_true(after < before + 5);
	close(before);
	close(after);
}

static void hangup_cancels(void **state)
{
	struct stage *st = *state;
	int fd = connect_raw(st->path);

	assert_true(send(fd, "{\"verb\":\"wait\"}", 15, 0) == 15);
	wait_for(&waiting);
	assert_int_equal(atomic_load(&cancelled), 0);
	close(fd);
	wait_for(&cancelled);
}

static void stop_cancels_and_is_waited_for(void **state)
{
	struct stage *st = *state;
	_cleanup_fd_ int fd = connect_raw(st->path);

	assert_true(send(fd, "{\"verb\":\"wait\"}", 15, 0) == 15);
	wait_for(&waiting);
	assert_int_equal(loop_call(st->en.loop, busy, &st->en), 1);
	loop_call(st->en.loop, stop, &st->en);
	wait_for(&cancelled);
	for (int i = 0; i < 5000 && loop_call(st->en.loop, busy, &st->en) > 0; i++)
		usleep(1000);
	assert_int_equal(loop_call(st->en.loop, busy, &st->en), 0);
}

static void silent_clients_are_in_nobodys_way(void **state)
{
	struct stage *st = *state;
	struct err e = ERR_INIT;
	int fd[100];

	for (int i = 0; i < 100; i++)
		fd[i] = connect_raw(st->path);
	assert_int_equal(ask(st->path, "{\"verb\":\"echo\"}", NULL, NULL, NULL, &e), 0);
	for (int i = 0; i < 100; i++)
		close(fd[i]);
}

struct one_more {
	const char *path;
	_Atomic int done;
};

static void *ask_one_more(void *ctx)
{
	struct one_more *o = ctx;
	struct err e = ERR_INIT;

	if (ask(o->path, "{\"verb\":\"echo\"}", NULL, NULL, NULL, &e) == 0)
		atomic_store(&o->done, 1);
	return NULL;
}

static void client_past_the_limit_waits_for_its_turn(void **state)
{
	struct stage *st = *state;
	struct one_more o = {.path = st->path};
	static int fd[LIMIT_CTL_CLIENTS];
	pthread_t thread;

	for (unsigned i = 0; i < LIMIT_CTL_CLIENTS; i++)
		fd[i] = connect_raw(st->path);
	assert_int_equal(pthread_create(&thread, NULL, ask_one_more, &o), 0);
	usleep(200000);
	assert_int_equal(atomic_load(&o.done), 0);
	close(fd[0]);
	wait_for(&o.done);
	pthread_join(thread, NULL);
	for (unsigned i = 1; i < LIMIT_CTL_CLIENTS; i++)
		close(fd[i]);
}

/* A path too long for a socket's address goes by its directory. */
static void long_path_is_no_obstacle(void **state)
{
	struct stage *st = *state;
	char dir[180], path[200];
	struct err e = ERR_INIT;
	int fd;

	snprintf(dir, sizeof(dir), "%s/%0100d", st->dir, 7);
	assert_return_code(mkdir(dir, 0755), errno);
	snprintf(path, sizeof(path), "%s/sock", dir);
	assert_return_code(link(st->path, path), errno);
	fd = open("/dev/null", O_RDONLY);
	assert_int_equal(ask(path, "{\"verb\":\"echo\"}", NULL, NULL, NULL, &e), 0);
	/* The directory's descriptor is not left open. */
	close(fd);
	assert_int_equal(open("/dev/null", O_RDONLY), fd);
	close(fd);
	unlink(path);
	rmdir(dir);
}

/* --- who may --- */

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

static void members_of_the_group_are_served(void **state)
{
	struct stage *st = *state;
	const struct group *g = getgrnam("daemon");
	struct person p = {.uid = 4242, .gid = 4242, .other = 4243};

	if (getuid() != 0 || !g)
		skip();
	assert_int_equal(ask_as(st->path, &p), 1);
	p.gid = g->gr_gid;
	assert_int_equal(ask_as(st->path, &p), 0);
	p.gid = 4242;
	p.other = g->gr_gid;
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

/* --- whose a process is --- */

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
	assert_string_equal(comm, "test_ctl");
	proc_comm(0x3fffffff, comm);
	assert_string_equal(comm, "");
}

#define on_stage(f) cmocka_unit_test_setup_teardown(f, raise_stage, strike_stage)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_socket_says_how_to_start),
		on_stage(stale_socket_says_so),
		on_stage(answer_comes_back),
		on_stage(rows_come_in_order),
		on_stage(progress_is_told),
		on_stage(nobody_needs_to_listen_to_rows),
		on_stage(failures_keep_code_and_exit),
		on_stage(failure_keeps_its_words),
		on_stage(failure_without_words_gets_some),
		on_stage(bad_requests_are_usage),
		on_stage(long_request_is_refused_here),
		on_stage(long_request_is_refused_there),
		on_stage(long_row_fails_the_verb),
		on_stage(descriptor_comes_with_done),
		on_stage(unwanted_descriptor_is_closed),
		on_stage(hangup_cancels),
		on_stage(stop_cancels_and_is_waited_for),
		on_stage(silent_clients_are_in_nobodys_way),
		on_stage(client_past_the_limit_waits_for_its_turn),
		on_stage(long_path_is_no_obstacle),
		on_stage(strangers_are_refused),
		cmocka_unit_test_setup_teardown(members_of_the_group_are_served,
						raise_for_daemon_group, strike_stage),
		cmocka_unit_test_setup_teardown(unknown_group_opens_to_nobody, raise_for_no_group,
						strike_stage),
		cmocka_unit_test(containers_by_control_group),
		cmocka_unit_test(age_of_this_process),
		cmocka_unit_test(name_of_this_process),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
