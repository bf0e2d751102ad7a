/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What systemd is asked to keep (plugin/fdstore.c, notify.c), and what is made of that. A thread
 * stands for systemd.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/fdstore.h"
#include "plugin/keep.h"
#include "plugin/notify.h"

/* --- somebody who listens --- */

#define TOLD_MAX 64

static struct manager {
	pthread_t thread;
	int sock;
	_Atomic int n;
	char told[TOLD_MAX][128]; /* "1 FDSTORE=1 ...": descriptors, then lines */
} manager;

static void *listen_to(void *ctx)
{
	struct manager *m = ctx;

	for (;;) {
		char text[100];
		int fds[4], nfds;
		ssize_t n = keep_recvmsg(m->sock, text, sizeof(text) - 1, fds, 4, &nfds);

		if (n <= 0)
			return NULL;
		text[n] = '\0';
		for (char *p = text; *p; p++)
			if (*p == '\n')
				*p = ' ';
		if (m->n < TOLD_MAX) {
			snprintf(m->told[m->n], sizeof(m->told[0]), "%d %s", nfds, text);
			m->n++;
		}
		/* Only now: who waits for it looks at what was told. */
		for (int i = 0; i < nfds; i++)
			close(fds[i]);
	}
}

static int manager_up(void **state)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	size_t len = (size_t)snprintf(a.sun_path, sizeof(a.sun_path), "@tarn-test-%d", getpid());

	setenv("NOTIFY_SOCKET", a.sun_path, 1);
	a.sun_path[0] = '\0';
	manager.n = 0;
	manager.sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(manager.sock, (struct sockaddr *)&a,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		return -1;
	return pthread_create(&manager.thread, NULL, listen_to, &manager);
}

static int manager_down(void **state)
{
	shutdown(manager.sock, SHUT_RDWR);
	pthread_join(manager.thread, NULL);
	close(manager.sock);
	return unsetenv("NOTIFY_SOCKET");
}

static void assert_told(const char *const *lines, int n)
{
	for (int i = 0; i < n && i < manager.n; i++)
		assert_string_equal(manager.told[i], lines[i]);
	assert_int_equal(manager.n, n);
}

/* --- a ward --- */

static int make_memory(size_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static int any(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* One with layer 2 in use by one root file system, and layer 5 by none. */
static struct ward *make_ward(int fd)
{
	struct ward *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct stat st;

	assert_ptr_not_equal(w, MAP_FAILED);
	assert_int_equal(stat("/dev/null", &st), 0);
	w->version = WARD_VERSION;
	w->anchor_pidfd = w->keeper_pidfd = w->guardian_pidfd = 77;
	w->fetcher[3] = (struct ward_fetcher){.pid = 78, .pidfd = 79};
	for (int i = 2; i <= 5; i += 3) {
		struct ward_layer *l = &w->layer[i];

		atomic_store(&l->state, WARD_LIVE);
		l->fd_fill = l->fd_image = l->fd_mount = 80; /* of a table that is gone */
		l->tar_dev = l->fs_dev = st.st_dev;
		l->tar_ino = st.st_ino;
		l->users = 9;
	}
	atomic_store(&w->attached[1].state, WARD_LIVE);
	w->attached[1].nlayers = 1;
	w->attached[1].layer[0] = 2;
	return w;
}

static void keep(struct fdstore *f, const char *name, int fd)
{
	f->kept = reallocarray(f->kept, f->n + 1, sizeof(*f->kept));
	assert_non_null(f->kept);
	f->kept[f->n++] = (struct fdstore_kept){.name = strdup(name), .fd = fd};
}

/* What systemd would have of that one, but for @without. */
static struct ward *keep_ward(struct fdstore *f, const char *without)
{
	static const char *const names[] = {
		"content",      "exec",          "inotify",       "layer-2-mount", "layer-2-image",
		"layer-2-fill", "layer-5-mount", "layer-5-image", "layer-5-fill",
	};
	int fd = make_memory(sizeof(struct ward));
	struct ward *w = make_ward(fd);

	*f = (struct fdstore){.n = 0};
	keep(f, "ward", fd);
	keep(f, "slots", make_memory(sizeof(struct slots)));
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(names[i], without) != 0)
			keep(f, names[i], any());
	return w;
}

/* --- what a process is born with --- */

static void born_with(int n, const char *pid, const char *fds, const char *names)
{
	int null = any();

	for (int i = 0; i < n; i++)
		if (null != FDSTORE_FIRST + i)
			assert_true(dup2(null, FDSTORE_FIRST + i) >= 0);
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", fds, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	if (null >= FDSTORE_FIRST + n)
		close(null);
}

static const char *self(void)
{
	static char text[16];

	snprintf(text, sizeof(text), "%d", getpid());
	return text;
}

static void names_go_with_descriptors(void **state)
{
	struct fdstore f;

	born_with(4, self(), "4", "ward:layer-12-fill::x");
	fdstore_receive(&f);
	assert_int_equal(f.n, 4);
	assert_string_equal(f.kept[0].name, "ward");
	assert_string_equal(f.kept[1].name, "layer-12-fill");
	assert_string_equal(f.kept[2].name, "");
	assert_string_equal(f.kept[3].name, "x");
	for (int i = 0; i < 4; i++) {
		assert_int_equal(f.kept[i].fd, FDSTORE_FIRST + i);
		assert_int_equal(fcntl(f.kept[i].fd, F_GETFD), FD_CLOEXEC);
	}
	/* Whoever is started by this process is told of nothing. */
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDS"));
	assert_null(getenv("LISTEN_FDNAMES"));
	fdstore_done(&f);
	assert_int_equal(fcntl(FDSTORE_FIRST, F_GETFD), -1);
}

static void fewer_names_than_descriptors(void **state)
{
	struct fdstore f;

	born_with(3, self(), "3", "ward:slots");
	fdstore_receive(&f);
	assert_int_equal(f.n, 3);
	assert_string_equal(f.kept[1].name, "slots");
	assert_string_equal(f.kept[2].name, "");
	fdstore_done(&f);
}

static void a_number_that_is_not_open_is_left_alone(void **state)
{
	struct fdstore f;
	int later;

	born_with(1, self(), "2", "ward:slots");
	fdstore_receive(&f);
	later = any();
	assert_int_equal(f.kept[1].fd, -1);
	fdstore_done(&f);
	assert_true(fcntl(later, F_GETFD) >= 0);
	close(later);
}

static void what_is_for_others_or_makes_no_sense(void **state)
{
	static const char *const bad[][2] = {
		{"1", "1"},   {"", "1"},    {"x", "1"}, {NULL, "0"},
		{NULL, "-1"}, {NULL, "1x"}, {NULL, ""},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct fdstore f;

		born_with(1, bad[i][0] ? bad[i][0] : self(), bad[i][1], "ward");
		fdstore_receive(&f);
		assert_int_equal(f.n, 0);
		assert_null(getenv("LISTEN_FDS"));
		fdstore_done(&f);
		assert_true(fcntl(FDSTORE_FIRST, F_GETFD) >= 0);
		close(FDSTORE_FIRST);
	}
}

/* --- what systemd is told --- */

static void a_layer_is_stored_and_taken_out(void **state)
{
	static const char *const stored[] = {
		"0 FDSTOREREMOVE=1 FDNAME=layer-12-fill",
		"1 FDSTORE=1 FDPOLL=0 FDNAME=layer-12-fill",
		"0 FDSTOREREMOVE=1 FDNAME=layer-12-image",
		"1 FDSTORE=1 FDPOLL=0 FDNAME=layer-12-image",
		"0 FDSTOREREMOVE=1 FDNAME=layer-12-mount",
		"1 FDSTORE=1 FDPOLL=0 FDNAME=layer-12-mount",
		"1 BARRIER=1",
	};
	static const char *const taken_out[] = {
		"0 FDSTOREREMOVE=1 FDNAME=layer-12-mount",
		"0 FDSTOREREMOVE=1 FDNAME=layer-12-fill",
		"0 FDSTOREREMOVE=1 FDNAME=layer-12-image",
		"0 FDSTOREREMOVE=1 FDNAME=layer-12-mount",
		"1 BARRIER=1",
	};
	struct ward *w = calloc(1, sizeof(*w));
	struct ward_layer *l = &w->layer[12];

	l->fd_fill = l->fd_image = l->fd_mount = any();
	fdstore_layer(w, l);
	assert_told(stored, ARRAY_LEN(stored));
	manager.n = 0;
	fdstore_mount_gone(w, l);
	fdstore_layer_gone(w, l);
	assert_int_equal(notify_wait(), 0);
	assert_told(taken_out, ARRAY_LEN(taken_out));
	close(l->fd_fill);
	free(w);
}

static void nobody_is_told_where_there_is_nobody(void **state)
{
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(notify_wait(), -ENOTCONN);
	setenv("NOTIFY_SOCKET", "relative", 1);
	assert_int_equal(notify_send("READY=1", -1), -ENOTCONN);
	setenv("NOTIFY_SOCKET", "/nonexistent/socket", 1);
	assert_int_equal(notify_send("READY=1", -1), -ENOENT);
	unsetenv("NOTIFY_SOCKET");
}

/* --- what is made of a store --- */

static int adopt(struct fdstore *f, struct ward **w)
{
	struct slots *s = NULL;
	struct err e = ERR_INIT;
	int r = fdstore_adopt(f, w, &s, &e);

	assert_int_equal(r == 0, s != NULL);
	if (s)
		munmap(s, sizeof(*s));
	return r;
}

static void all_of_it_is_adopted(void **state)
{
	struct fdstore f;
	struct ward *w = NULL;
	struct ward *was = keep_ward(&f, "");

	assert_int_equal(adopt(&f, &w), 0);
	/* One memory, seen twice. */
	assert_int_equal(was->fd_ward, w->fd_ward);
	for (int i = 2; i <= 5; i += 3) {
		assert_int_equal(atomic_load(&w->layer[i].state), WARD_LIVE);
		assert_int_equal(w->layer[i].users, i == 2);
		assert_true(fcntl(w->layer[i].fd_fill, F_GETFD) >= 0);
		assert_true(fcntl(w->layer[i].fd_image, F_GETFD) >= 0);
		assert_true(fcntl(w->layer[i].fd_mount, F_GETFD) >= 0);
	}
	/* Those of processes are of nobody. */
	assert_int_equal(w->anchor_pidfd, -1);
	assert_int_equal(w->keeper_pidfd, -1);
	assert_int_equal(w->guardian_pidfd, -1);
	assert_int_equal(w->fd_keep, -1);
	assert_int_equal(w->fd_lock, -1);
	assert_int_equal(w->fetcher[3].pid, 0);
	/* What was adopted is not closed with the rest. */
	fdstore_done(&f);
	assert_true(fcntl(w->fd_content, F_GETFD) >= 0);
	munmap(w, sizeof(*w));
	munmap(was, sizeof(*was));
}

/* It was read through nowhere, so that it is no loss. */
static void a_layer_that_nobody_uses_may_be_half_there(void **state)
{
	static const char *const missing[] = {"layer-5-fill", "layer-5-image", "layer-5-mount"};

	for (size_t i = 0; i < ARRAY_LEN(missing); i++) {
		struct fdstore f;
		struct ward *w = NULL;
		struct ward *was = keep_ward(&f, missing[i]);

		assert_int_equal(adopt(&f, &w), 0);
		assert_int_equal(atomic_load(&w->layer[2].state), WARD_LIVE);
		assert_int_equal(atomic_load(&w->layer[5].state), i < 2 ? WARD_BUSY : WARD_LIVE);
		if (i == 2)
			assert_int_equal(w->layer[5].fd_mount, -1);
		fdstore_done(&f);
		munmap(w, sizeof(*w));
		munmap(was, sizeof(*was));
	}
}

static void a_set_with_a_part_missing_is_refused(void **state)
{
	static const char *const missing[] = {"content",      "exec",          "inotify",
					      "layer-2-fill", "layer-2-image", "layer-2-mount"};

	for (size_t i = 0; i < ARRAY_LEN(missing); i++) {
		struct fdstore f;
		struct ward *w = NULL;
		struct ward *was = keep_ward(&f, missing[i]);

		assert_int_equal(adopt(&f, &w), -ENODATA);
		assert_null(w);
		fdstore_done(&f);
		munmap(was, sizeof(*was));
	}
}

static void a_tar_that_is_another_is_missing(void **state)
{
	struct fdstore f;
	struct ward *w = NULL;
	struct ward *was = keep_ward(&f, "");

	was->layer[2].tar_ino++;
	assert_int_equal(adopt(&f, &w), -ENODATA);
	fdstore_done(&f);
	munmap(was, sizeof(*was));
}

static void another_version_is_refused(void **state)
{
	struct fdstore f;
	struct ward *w = NULL;
	struct ward *was = keep_ward(&f, "");

	was->version++;
	assert_int_equal(adopt(&f, &w), -EPROTO);
	fdstore_done(&f);
	munmap(was, sizeof(*was));

	f = (struct fdstore){.n = 0};
	keep(&f, "ward", make_memory(4096));
	keep(&f, "slots", make_memory(sizeof(struct slots)));
	assert_int_equal(adopt(&f, &w), -EPROTO);
	fdstore_done(&f);
}

static void nothing_kept_is_no_failure(void **state)
{
	struct fdstore f = {.n = 0};
	struct ward *w = NULL;

	assert_int_equal(adopt(&f, &w), -ENOENT);
}

static bool was_told(const char *line)
{
	for (int i = 0; i < manager.n; i++)
		if (!strcmp(manager.told[i], line))
			return true;
	return false;
}

static void what_is_kept_already_is_not_kept_again(void **state)
{
	struct fdstore f;
	struct ward *w = NULL;
	struct ward *was = keep_ward(&f, "layer-5-mount");

	keep(&f, "layer-4-fill", any());
	assert_int_equal(adopt(&f, &w), 0);
	fdstore_keep(&f, w);
	/* Of what is in use nothing is said; what belongs to nothing goes. */
	assert_false(was_told("1 FDSTORE=1 FDPOLL=0 FDNAME=layer-2-fill"));
	assert_false(was_told("0 FDSTOREREMOVE=1 FDNAME=layer-2-fill"));
	assert_true(was_told("0 FDSTOREREMOVE=1 FDNAME=layer-4-fill"));
	/* A guardian that ended since this process was made may have taken these out. */
	assert_true(was_told("1 FDSTORE=1 FDPOLL=0 FDNAME=content"));
	assert_false(was_told("0 FDSTOREREMOVE=1 FDNAME=content"));
	assert_true(was_told("1 FDSTORE=1 FDPOLL=0 FDNAME=layer-5-fill"));
	assert_string_equal(manager.told[manager.n - 1], "1 BARRIER=1");
	fdstore_done(&f);
	munmap(w, sizeof(*w));
	munmap(was, sizeof(*was));
}

static void what_was_kept_of_another_ward_goes(void **state)
{
	struct fdstore f;
	struct ward *was = keep_ward(&f, "");
	int fd = make_memory(sizeof(struct ward));
	struct ward *w = make_ward(fd);

	w->fd_ward = fd;
	w->fd_slots = w->fd_content = w->fd_exec = w->fd_inotify = fd;
	atomic_store(&w->layer[2].state, WARD_FREE);
	w->layer[5].fd_fill = w->layer[5].fd_image = w->layer[5].fd_mount = fd;
	fdstore_keep(&f, w);
	assert_true(was_told("0 FDSTOREREMOVE=1 FDNAME=layer-2-fill"));
	assert_false(was_told("1 FDSTORE=1 FDPOLL=0 FDNAME=layer-2-fill"));
	assert_true(was_told("0 FDSTOREREMOVE=1 FDNAME=layer-5-fill"));
	assert_true(was_told("1 FDSTORE=1 FDPOLL=0 FDNAME=layer-5-fill"));
	assert_true(was_told("0 FDSTOREREMOVE=1 FDNAME=ward"));
	assert_true(was_told("1 FDSTORE=1 FDPOLL=0 FDNAME=ward"));
	fdstore_done(&f);
	munmap(w, sizeof(*w));
	munmap(was, sizeof(*was));
	close(fd);
}

#define TOLD(test) cmocka_unit_test_setup_teardown(test, manager_up, manager_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_go_with_descriptors),
		cmocka_unit_test(fewer_names_than_descriptors),
		cmocka_unit_test(a_number_that_is_not_open_is_left_alone),
		cmocka_unit_test(what_is_for_others_or_makes_no_sense),
		TOLD(a_layer_is_stored_and_taken_out),
		cmocka_unit_test(nobody_is_told_where_there_is_nobody),
		cmocka_unit_test(all_of_it_is_adopted),
		cmocka_unit_test(a_layer_that_nobody_uses_may_be_half_there),
		cmocka_unit_test(a_set_with_a_part_missing_is_refused),
		cmocka_unit_test(a_tar_that_is_another_is_missing),
		cmocka_unit_test(another_version_is_refused),
		cmocka_unit_test(nothing_kept_is_no_failure),
		TOLD(what_is_kept_already_is_not_kept_again),
		TOLD(what_was_kept_of_another_ward_goes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("fdstore", tests, NULL, NULL);
}
