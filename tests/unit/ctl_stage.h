/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CTL_STAGE_H
#define TESTS_UNIT_CTL_STAGE_H

#include <errno.h>
#include <fcntl.h>
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
#include <unistd.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json_text.h"
#include "plugin/ctl/listen.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/verbs.h"
#include "plugin/engine.h"
#include "plugin/loop.h"

/* A control server with verbs of the tests' own, on a loop in a thread. */

/* --- verbs of our own, in place of verbs.c --- */

static _Atomic int waiting, cancelled;

static inline int verb_echo(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const struct json *text = json_get(t->args, "text");

	json_put_value(done, "text", text);
	json_put_int(done, "uid", t->uid);
	json_put_int(done, "pid", t->pid);
	return 0;
}

static inline int verb_list(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	int64_t n = 0;
	int r = 0;

	json_get_int(t->args, "n", &n);
	for (int64_t i = 0; r == 0 && i < n; i++) {
		_cleanup_json_text_ struct json_text row;

		ctl_row_open(&row);
		json_put_int(row.g, "i", i);
		r = ctl_row_send(t, &row);
	}
	if (r == 0)
		r = ctl_send_progress(t, "half", 1, 2);
	json_put_int(done, "n", n);
	return r;
}

static inline int verb_fail(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	int64_t code = 0;

	json_get_int(t->args, "code", &code);
	return err_set(e, (int)-code, "it failed with %d", (int)code);
}

static inline int verb_nest(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	err_errno(e, -ENOENT, "opening: /a");
	return err_wrap(e, -EIO, "layer 3");
}

static inline int verb_silent_fail(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	return -ENOSPC;
}

static inline int verb_fd(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	int fds[2];

	assert_return_code(pipe(fds), errno);
	assert_int_equal(fd_write_full(fds[1], "hi", 2), 0);
	close(fds[1]);
	t->reply_fd = fds[0];
	return 0;
}

static inline int verb_wait(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	atomic_store(&waiting, 1);
	while (!ctl_cancelled(t))
		usleep(1000);
	atomic_store(&cancelled, 1);
	return err_set(e, -EPIPE, "the client went away");
}

static inline int verb_huge(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	_cleanup_json_text_ struct json_text row;

	ctl_row_open(&row);
	for (int i = 0; i < (int)LIMIT_CTL_MESSAGE / 8; i++)
		json_put_str(row.g, "x", "12345678");
	return ctl_row_send(t, &row);
}

const struct ctl_verb ctl_verbs[] = {
	{"echo", verb_echo}, {"list", verb_list},          {"fail", verb_fail},
	{"fd", verb_fd},     {"silent", verb_silent_fail}, {"nest", verb_nest},
	{"wait", verb_wait}, {"huge", verb_huge},          {NULL, NULL},
};

/* --- a server on a loop in a thread --- */

struct stage {
	char dir[64], path[128];
	struct engine en;
	pthread_t thread;
};

static inline void *run_loop(void *ctx)
{
	loop_run(ctx);
	return NULL;
}

static inline int listen_at(const char *path)
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

static inline int raise_with_group(void **state, const char *group)
{
	struct stage *st = calloc(1, sizeof(*st));

	assert_non_null(st);
	snprintf(st->dir, sizeof(st->dir), "/tmp/test_ctl.XXXXXX");
	assert_non_null(mkdtemp(st->dir));
	assert_return_code(chmod(st->dir, 0755), errno);
	snprintf(st->path, sizeof(st->path), "%s/sock", st->dir);
	st->en.slots = calloc(1, sizeof(*st->en.slots));
	assert_non_null(st->en.slots);
	st->en.slots->most_clients = LIMIT_CTL_CLIENTS;
	if (group[0] && ctl_group(group, &st->en.slots->group, NULL) == 0)
		st->en.slots->has_group = true;
	assert_int_equal(loop_new(&st->en.loop), 0);
	assert_int_equal(ctl_server_new(&st->en, listen_at(st->path), &st->en.server), 0);
	assert_int_equal(pthread_create(&st->thread, NULL, run_loop, st->en.loop), 0);
	atomic_store(&waiting, 0);
	atomic_store(&cancelled, 0);
	*state = st;
	return 0;
}

static inline int raise_stage(void **state)
{
	return raise_with_group(state, "");
}

static inline int stop(void *ctx)
{
	ctl_server_stop(((struct engine *)ctx)->server);
	return 0;
}

static inline int busy(void *ctx)
{
	return (int)ctl_server_busy(((struct engine *)ctx)->server);
}

static inline int quit(void *ctx)
{
	loop_quit(((struct engine *)ctx)->loop);
	return 0;
}

static inline int strike_stage(void **state)
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

static inline void on_row(void *ctx, const struct json *row)
{
	struct heard *h = ctx;

	assert_true(json_get_int(row, "i", &h->last));
	h->rows++;
}

static inline void on_progress(void *ctx, const char *text, int64_t done, int64_t total)
{
	struct heard *h = ctx;

	assert_string_equal(text, "half");
	assert_int_equal(done, 1);
	assert_int_equal(total, 2);
	h->progress++;
}

/* One request on a connection of its own. */
static inline int ask(const char *path, const char *text, struct heard *heard,
		      struct json **ret_done, int *ret_fd, struct err *e)
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

static inline int connect_raw(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	memcpy(a.sun_path, path, strlen(path) + 1);
	assert_return_code(connect(fd, (struct sockaddr *)&a, sizeof(a)), errno);
	return fd;
}

static inline void wait_for(_Atomic int *flag)
{
	for (int i = 0; i < 5000 && !atomic_load(flag); i++)
		usleep(1000);
	assert_int_equal(atomic_load(flag), 1);
}

#define on_stage(f) cmocka_unit_test_setup_teardown(f, raise_stage, strike_stage)

#endif
