/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hooks/attach.h"
#include "hooks/graft.h"
#include "hooks/overmount.h"
#include "hooks/private.h"
#include "hooks/spec.h"
#include "hooks/state.h"
#include "hooks/target.h"
#include "hooks/watch.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"

/*
 * tarn-hook: an OCI hook. At createRuntime (or prestart) it puts an image's file system where the
 * runtime expects the root directory; at poststop it has what the container wrote removed. A
 * bundle without our annotation is none of its business.
 */

#define SOCKET_DEFAULT "/run/tarn/tarnd.sock"
/* Less than the timeouts in the hook's JSON, so that the reason can still be told. */
#define CREATE_SECONDS   110
#define POSTSTOP_SECONDS 25

static const char *socket_path;

static int open_image(const struct spec *s, const struct state *st, bool pinned, int *ret,
		      struct err *e)
{
	const struct attach_request rq = {
		.socket = socket_path,
		.id = st->id,
		.image = s->image,
		.rw = s->rw,
		.kind = pinned ? ATTACH_GRAFT : ATTACH_OVERMOUNT,
		.pid = st->pid,
		.mount_label = s->label,
	};

	return attach_open(&rq, ret, e);
}

/* Everything from outside is in hand when the namespace is entered: no path leads back. */
static int attach_image(const struct spec *s, const struct state *st, struct target *t,
			struct err *e)
{
	bool pinned = target_pinned(t);
	_cleanup_fd_ int image = -1;
	int r = open_image(s, st, pinned, &image, e);

	if (r == 0)
		r = target_enter(t, e);
	if (r < 0)
		return r;
	return pinned ? graft(t, image, s->cwd, s->readonly, e) : overmount(t, image, e);
}

/*
 * tarn-runtime has mounted the image before the runtime started. When the same bundle is then given
 * to a runtime without it, the root directory is not there, or is something else.
 */
static int check_prepared(const struct target *t, const struct spec *s, struct err *e)
{
	const struct mountinfo *m = mounttab_by_id(&t->tab, t->mount);

	if (m && strcmp(m->fstype, "overlay") == 0)
		return 0;
	return err_set(e, -EINVAL,
		       "bundle %.300s was made ready by tarn-runtime and has to be started with "
		       "it again",
		       s->bundle);
}

static int create(const struct state *st, struct err *e)
{
	_cleanup_target_ struct target t = TARGET_INIT;
	_cleanup_spec_ struct spec s = SPEC_INIT;
	_cleanup_free_ char *root = NULL;
	int r = spec_open(st->bundle, &s, e);

	if (r < 0 || !s.image)
		return r;
	r = spec_check(&s, e);
	if (r == 0)
		r = target_open(st->pid, &t, e);
	if (r < 0)
		return r;
	watch_start(CREATE_SECONDS, t.pidfd);
	r = spec_root_path(&s, &root, e);
	if (r == 0)
		r = target_look(&t, root, e);
	if (r < 0)
		return r;
	return s.prepared ? check_prepared(&t, &s, e) : attach_image(&s, st, &t, e);
}

/* Only a removal takes the writable layer along, not the end of an engine's container. */
static int poststop(const struct state *st, struct err *e)
{
	_cleanup_spec_ struct spec s = SPEC_INIT;
	int r = spec_open(st->bundle, &s, e);

	/* An engine may have removed its bundle first. */
	if (r == -ENOENT)
		return 0;
	if (r < 0 || !s.image)
		return r;
	/* `run` in the foreground: the runtime that waits for us has the image mounted. */
	if (s.prepared)
		private_umount(s.root);
	return s.kept ? 0 : attach_remove(socket_path, st->id, e);
}

static int run(const char *stage, struct err *e)
{
	_cleanup_state_ struct state st = {0};
	bool last = stage && strcmp(stage, "poststop") == 0;
	int r;

	watch_start(last ? POSTSTOP_SECONDS : CREATE_SECONDS, -1);
	r = state_read(STDIN_FILENO, &st, e);
	if (r < 0)
		return r;
	if (!stage)
		last = st.stopped;
	else if (!last && strcmp(stage, "createRuntime") != 0 && strcmp(stage, "prestart") != 0)
		return err_set(e, -EINVAL,
			       "'%.50s' is no stage for this hook: createRuntime, prestart or "
			       "poststop",
			       stage);
	return last ? poststop(&st, e) : create(&st, e);
}

/* Runtimes leak descriptors into hooks and run them with whatever environment they have. */
static int tidy_up(void)
{
	const char *given = getenv("TARN_SOCKET");

	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return -EBADF;
	close_range(3, ~0U, 0);
	socket_path = strdup(given && given[0] == '/' ? given : SOCKET_DEFAULT);
	clearenv();
	return socket_path ? 0 : -ENOMEM;
}

static void usage(void)
{
	puts("usage: tarn-hook [createRuntime | prestart | poststop]\n"
	     "OCI hook that gives a container the file system of a tarn image. Runtimes call it,\n"
	     "with the container's state on standard input; see tarn-hook(8).\n\n"
	     "  --help, --version\n\n"
	     "TARN_SOCKET names tarnd's socket; default " SOCKET_DEFAULT ".");
}

int main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	int r = tidy_up();

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("tarn-hook " TARN_VERSION);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		usage();
		return 0;
	}
	if (r == 0)
		r = run(argc > 1 ? argv[1] : NULL, &e);
	if (r == 0)
		return 0;
	fprintf(stderr, "tarn-hook: %s\n", e.text[0] ? e.text : err_words(r));
	return 1;
}
