/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the keeper permits an engine that may have been taken over (plugin/broker*.c): requests that
 * are none, that come at the wrong time, for what is not there, or for what others use.
 */
/* link: -Wl,--wrap=mount_erofs,--wrap=mount_overlay,--wrap=lease_probe,--wrap=spawn_fetcher */
/* link: -Wl,--wrap=fan_mark_content,--wrap=fan_mark_fs */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "tests/unit/broker_rig.h"

static uint32_t state_of(int i)
{
	return atomic_load(&ward->layer[i].state);
}

static bool says(const char *words)
{
	return strstr(rig.answer.text, words) != NULL;
}

/* --- what is no request --- */

static void unknown_requests(void **state)
{
	static const uint32_t op[] = {0, KEEP_STOPPED + 1, KEEP_TELL_BEGIN, KEEP_TELL_STOP,
				      UINT32_MAX};

	for (size_t i = 0; i < ARRAY_LEN(op); i++) {
		assert_int_equal(ask(&(struct keep_request){.op = op[i]}), -EINVAL);
		assert_true(says("knows no request"));
	}
}

static void requests_of_other_lengths(void **state)
{
	static struct {
		struct keep_request rq;
		char more[8];
	} m = {.rq = {.op = KEEP_LAYER_MOUNT, .seq = 7}};

	m.rq.layer.diff_id = one();
	assert_false(ask_bytes(&m, 1));
	assert_false(ask_bytes(&m, sizeof(m.rq) - 1));
	assert_false(ask_bytes(&m, sizeof(m.rq) + 1));
	assert_false(ask_bytes(&m, sizeof(m)));
	assert_int_equal(rig.mounts, 0);
	/* The next one is heard all the same. */
	assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), 0);
}

/* --- at the wrong time --- */

static void nothing_new_while_stopping(void **state)
{
	static const uint32_t refused[] = {KEEP_LAYER_DROP, KEEP_LAYOUT_OPEN, KEEP_LAYER_MOUNT,
					   KEEP_LEASE,      KEEP_ATTACH,      KEEP_DETACH_DONE,
					   KEEP_FETCHER};

	atomic_store(&ward->stopping, 1);
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		assert_int_equal(ask_layer(refused[i]), -ESHUTDOWN);
		assert_true(says("stopping"));
	}
	assert_int_equal(rig.mounts, 0);
	assert_int_equal(ward->fetcher[0].pid, 0);
	/* But everything is written down. */
	assert_int_equal(ask_file(KEEP_FILE_OPEN, KEEP_INDEX), 0);
	assert_int_equal(ask_file(KEEP_FILE_CREATE, KEEP_PRESENT), 0);
	assert_int_equal(ask_file(KEEP_FILE_PUBLISH, KEEP_PRESENT), 0);
	assert_int_equal(ask(&(struct keep_request){.op = KEEP_STOPPED}), 0);
}

static void told_in_order(uint32_t pid, int n, const uint32_t *op)
{
	struct keep_request rq = {.op = KEEP_HELLO, .engine.pid = (int32_t)pid};

	assert_int_equal(ask(&rq), 0);
	assert_int_equal(rig.ntold, n);
	for (int i = 0; i < n; i++) {
		assert_int_equal(rig.told[i].op, op[i]);
		assert_int_equal(rig.told[i].seq, 0);
	}
	assert_int_equal(rig.told[0].engine.pid, pid);
}

/* A second HELLO is another engine's: it hears it all, and the first one's fetchers are ended. */
static void hello_twice(void **state)
{
	static const uint32_t op[] = {KEEP_TELL_BEGIN, KEEP_TELL_LAYER, KEEP_TELL_ATTACHED,
				      KEEP_TELL_FETCHER, KEEP_TELL_READY};
	struct keep_request at = attach_request("box");
	struct ward_fetcher *first = &ward->fetcher[0];

	/* A new keeper's engine does not say it again: requests are served without. */
	assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), 0);
	assert_int_equal(ask(&at), 0);
	told_in_order(11, 5, op);
	assert_int_equal(first->pid, rig.told[3].fetcher.pid);
	told_in_order(12, 5, op);
	assert_int_not_equal(first->pid, rig.told[3].fetcher.pid);
	assert_string_equal(rig.told[2].attach.id, "box");
	assert_true(was_killed(first->pidfd));
	assert_int_equal(rig.mounts, 1);
}

static void hello_while_stopping(void **state)
{
	static const uint32_t op[] = {KEEP_TELL_BEGIN, KEEP_TELL_FETCHER, KEEP_TELL_READY,
				      KEEP_TELL_STOP};

	atomic_store(&ward->stopping, 1);
	told_in_order(11, 4, op);
}

/* --- layers --- */

static void layers_that_are_not_live(void **state)
{
	struct keep_request at = attach_request("box");

	for (int busy = 0; busy < 2; busy++) {
		/* Half made is not made. */
		ward->layer[0].diff_id = one();
		atomic_store(&ward->layer[0].state, busy ? WARD_BUSY : WARD_FREE);
		assert_int_equal(ask_layer(KEEP_MARK), -ENOENT);
		assert_int_equal(ask_layer(KEEP_EXEC_MARK), -ENOENT);
		assert_int_equal(ask_layer(KEEP_LEASE), -ENOENT);
		assert_int_equal(ask(&at), -ENOENT);
		assert_true(says("layer 0 is not mounted"));
		assert_int_equal(ask_layer(KEEP_LAYER_UMOUNT), 0);
	}
	atomic_store(&ward->layer[0].state, WARD_FREE);
	assert_int_equal(rig.marks + rig.fs_marks, 0);
	assert_int_equal(atomic_load(&ward->attached[0].state), WARD_FREE);
}

/* A digest that is not in the store, or in another place of it (law 13). */
static void foreign_digests(void **state)
{
	struct keep_request rq = {.op = KEEP_LAYER_MOUNT};

	rq.layer.diff_id = one();
	rq.layer.scope = one();
	assert_int_equal(ask(&rq), -ENOENT);
	memset(&rq.layer.scope, 0, sizeof(rq.layer.scope));
	rq.layer.diff_id.sum[0] = 2;
	assert_int_equal(ask(&rq), -ENOENT);
	assert_int_equal(rig.mounts, 0);
	assert_int_equal(state_of(0), WARD_FREE);
	/* Mounted in one place, it is not in the other. */
	assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), 0);
	rq.op = KEEP_MARK;
	rq.layer.diff_id = rq.layer.scope = one();
	assert_int_equal(ask(&rq), -ENOENT);
	assert_int_equal(rig.marks, 1);
}

static void mounted_once(void **state)
{
	assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), 0);
	assert_int_equal(rig.answer.layer.fresh, 1);
	assert_int_equal(rig.answer.nfds, 2);
	assert_true(rig.marks && rig.fs_marks);
	assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), 0);
	assert_int_equal(rig.answer.layer.fresh, 0);
	assert_int_equal(rig.mounts, 1);
	assert_int_equal(ask_layer(KEEP_LAYER_UMOUNT), 0);
	assert_int_equal(state_of(0), WARD_FREE);
	assert_false(rig.marks || rig.fs_marks);
}

/* Whatever fails on the way, no mark, descriptor or entry is left. */
static void half_mounted(void **state)
{
	int *const fail[] = {&rig.fail_mark, &rig.fail_mount, &rig.fail_fs};
	const unsigned before = fds_open();

	for (size_t i = 0; i < ARRAY_LEN(fail); i++) {
		*fail[i] = -EXDEV;
		assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), -EXDEV);
		*fail[i] = 0;
		assert_int_equal(state_of(0), WARD_FREE);
		assert_int_equal(rig.marks, 0);
		assert_int_equal(fds_open(), before);
	}
	assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), 0);
	rig.fail_mark = rig.fail_fs = -ENOSPC;
	assert_int_equal(ask_layer(KEEP_MARK), -ENOSPC);
	/* Not marked anew, it is marked as it was. */
	assert_int_equal(ward->layer[0].marked, 1);
}

static void more_layers_than_descriptors(void **state)
{
	rig.broker.birth.descriptors = 7;
	assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), -ENOSPC);
	assert_true(says("more than 0 layers"));
}

static void marks_and_leases_out_of_range(void **state)
{
	struct keep_request mark = {.op = KEEP_EXEC_MARK}, lease = {.op = KEEP_LEASE};

	mark.layer.diff_id = lease.lease.diff_id = one();
	assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), 0);
	mark.layer.flags = KEEP_MARK_EXEC | 4;
	assert_int_equal(ask(&mark), -EINVAL);
	assert_int_equal(ward->layer[0].fs_mask, KEEP_MARK_EXEC);
	mark.layer.flags = KEEP_MARK_OPEN;
	assert_int_equal(ask(&mark), 0);
	assert_int_equal(ward->layer[0].fs_mask, KEEP_MARK_OPEN);
	lease.lease.n = KEEP_LEASE_MAX + 1;
	assert_int_equal(ask(&lease), -EINVAL);
	lease.lease.n = 3;
	assert_int_equal(ask(&lease), 0);
	assert_true(rig.answer.lease.n == 3 && rig.answer.lease.granted[2]);
	/* What others use is never idle. */
	ward->layer[0].shared = 1;
	assert_int_equal(ask(&lease), 0);
	assert_true(rig.answer.lease.shared && !rig.answer.lease.granted[2]);
}

/* --- files --- */

static void files_of_no_kind(void **state)
{
	static const uint32_t op[] = {KEEP_FILE_OPEN, KEEP_FILE_CREATE, KEEP_FILE_PUBLISH,
				      KEEP_FILE_DROP};
	static const uint32_t kind[] = {0, KEEP_CONTAINER, KEEP_KINDS, UINT32_MAX};

	for (size_t i = 0; i < ARRAY_LEN(op); i++) {
		for (size_t k = 0; k < ARRAY_LEN(kind); k++) {
			assert_int_equal(ask_file(op[i], kind[k]), -EINVAL);
			assert_true(says("no such kind of file"));
		}
	}
	assert_int_equal(ask(&(struct keep_request){.op = KEEP_LIST, .list.kind = KEEP_KINDS}),
			 -EINVAL);
}

static void published_without_being_made(void **state)
{
	struct keep_request rq = {.op = KEEP_FILE_PUBLISH};

	assert_int_equal(ask_file(KEEP_FILE_PUBLISH, KEEP_SOURCES), -ENOENT);
	assert_int_equal(ask_file(KEEP_FILE_PUBLISH, KEEP_RECORD), -ENOENT);
	/* Of a layer without a directory. */
	rq.file.kind = KEEP_INDEX;
	memset(&rq.file.key, 5, sizeof(rq.file.key));
	assert_int_equal(ask(&rq), -ENOENT);
	/* Asked again by an engine whose keeper was killed over the answer. */
	assert_int_equal(ask_file(KEEP_FILE_CREATE, KEEP_SOURCES), 0);
	assert_int_equal(ask_file(KEEP_FILE_OPEN, KEEP_SOURCES), -ENOENT);
	assert_int_equal(ask_file(KEEP_FILE_PUBLISH, KEEP_SOURCES), 0);
	assert_int_equal(ask_file(KEEP_FILE_PUBLISH, KEEP_SOURCES), 0);
	assert_int_equal(ask_file(KEEP_FILE_OPEN, KEEP_SOURCES), 0);
	/* Read only. */
	assert_int_equal(write(rig.fd, "x", 1), -1);
	assert_int_equal(ask_file(KEEP_FILE_DROP, KEEP_SOURCES), 0);
	assert_int_equal(ask_file(KEEP_FILE_DROP, KEEP_SOURCES), 0);
	assert_int_equal(ask_file(KEEP_FILE_OPEN, KEEP_SOURCES), -ENOENT);
}

static void files_the_kernel_reads(void **state)
{
	static const uint32_t op[] = {KEEP_FILE_CREATE, KEEP_FILE_PUBLISH, KEEP_FILE_DROP};

	assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), 0);
	for (size_t i = 0; i < ARRAY_LEN(op); i++) {
		assert_int_equal(ask_file(op[i], KEEP_TAR), -EBUSY);
		assert_int_equal(ask_file(op[i], KEEP_IMAGE), -EBUSY);
	}
	assert_int_equal(ask_layer(KEEP_LAYER_DROP), -EBUSY);
	assert_int_equal(ask_file(KEEP_FILE_OPEN, KEEP_TAR), 0);
	assert_int_equal(ask_file(KEEP_FILE_CREATE, KEEP_PRESENT), 0);
	assert_int_equal(ask_layer(KEEP_LAYER_UMOUNT), 0);
	assert_int_equal(ask_layer(KEEP_LAYER_DROP), 0);
	assert_int_equal(ask_file(KEEP_FILE_OPEN, KEEP_TAR), -ENOENT);
}

static void layouts_of_no_place(void **state)
{
	struct keep_request rq = {.op = KEEP_LAYOUT_OPEN};

	assert_int_equal(ask(&rq), -EINVAL);
	snprintf(rq.layout.dir, sizeof(rq.layout.dir), "store");
	assert_int_equal(ask(&rq), -EINVAL);
	memset(rq.layout.dir, '/', sizeof(rq.layout.dir));
	assert_int_equal(ask(&rq), -EINVAL);
	assert_true(says("absolute path"));
	snprintf(rq.layout.dir, sizeof(rq.layout.dir), "%s", rig.dir);
	assert_int_equal(ask(&rq), -ENOENT);
	/* A pipe would be waited for, and leads to whoever made it. */
	assert_int_equal(mkfifoat(rig.dir_fd, "oci-layout", 0600), 0);
	assert_int_equal(ask(&rq), -EINVAL);
	assert_true(says("is not a file"));
	unlinkat(rig.dir_fd, "oci-layout", 0);
	/* A link leads to nothing outside. */
	assert_int_equal(symlinkat("/etc/passwd", rig.dir_fd, "oci-layout"), 0);
	assert_int_equal(ask(&rq), -ENOENT);
	unlinkat(rig.dir_fd, "oci-layout", 0);
}

/* --- root file systems --- */

static void attachments_of_no_sense(void **state)
{
	static const char *const bad_id[] = {"", ".", "..", "../x", "a/b", "a b"};
	struct keep_request rq;

	assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad_id); i++) {
		struct keep_request gone = {.op = KEEP_DETACH_DONE};

		rq = attach_request(bad_id[i]);
		assert_int_equal(ask(&rq), -EINVAL);
		snprintf(gone.container.id, LIMIT_ID, "%s", bad_id[i]);
		assert_int_equal(ask(&gone), -EINVAL);
	}
	rq = attach_request("box");
	memset(rq.attach.id, 'a', sizeof(rq.attach.id));
	assert_int_equal(ask(&rq), -EINVAL);
	rq = attach_request("box");
	memset(rq.attach.label, 'a', sizeof(rq.attach.label));
	assert_int_equal(ask(&rq), -EINVAL);
	for (uint32_t n = 0; n < 3; n++) {
		rq = attach_request("box");
		rq.attach.nlayers = n == 1 ? LIMIT_LAYERS + 1 : n == 2 ? UINT32_MAX : 0;
		assert_int_equal(ask(&rq), -EINVAL);
		rq = attach_request("box");
		rq.attach.kind = n == 0 ? 0 : ATTACH_OVERMOUNT + n;
		assert_int_equal(ask(&rq), -EINVAL);
	}
	assert_int_equal(ward->layer[0].users, 0);
	assert_int_equal(atomic_load(&ward->attached[0].state), WARD_FREE);
}

static void what_an_attachment_uses_stays(void **state)
{
	struct keep_request rq = attach_request("box");
	struct keep_request gone = {.op = KEEP_DETACH_DONE, .container.id = "box"};

	assert_int_equal(ask_layer(KEEP_LAYER_MOUNT), 0);
	/* Directories that were never written are not left out silently. */
	rq.attach.parents = 1;
	assert_int_equal(ask(&rq), -EUCLEAN);
	rq.attach.parents = 0;
	assert_int_equal(ask(&rq), 0);
	assert_int_equal(ask(&rq), -EEXIST);
	assert_int_equal(ward->layer[0].users, 1);
	assert_int_equal(ask_layer(KEEP_LAYER_UMOUNT), -EBUSY);
	assert_int_equal(ask(&gone), -EBUSY);
	assert_int_equal(faccessat(ward->fd_store, "containers/box/upper", F_OK, 0), 0);
	/* Its end is seen by the kernel, and by no word of the engine's. */
	cleanup_closep(&rig.fd);
	assert_int_equal(unlinkat(rig.dir_fd, "overlay", AT_REMOVEDIR), 0);
	assert_int_equal(ask(&gone), 0);
	assert_int_equal(rig.told[0].op, KEEP_TELL_DETACHED);
	assert_int_equal(faccessat(ward->fd_store, "containers/box", F_OK, 0), -1);
	assert_int_equal(ward->layer[0].users, 0);
	assert_int_equal(ask_layer(KEEP_LAYER_UMOUNT), 0);
}

/* --- fetchers --- */

/* No process but a fetcher of ours can be killed by asking. */
static void only_our_fetchers_are_killed(void **state)
{
	struct keep_request rq = {.op = KEEP_FETCHER_GONE};
	pid_t other = sleeper();

	assert_int_equal(ask(&(struct keep_request){.op = KEEP_FETCHER}), 0);
	assert_int_equal(rig.answer.nfds, 2);
	for (int i = 0; i < 3; i++) {
		rq.fetcher.pid = i == 0 ? other : -i;
		assert_int_equal(ask(&rq), 0);
	}
	rq.fetcher.pid = ward->fetcher[0].pid;
	assert_int_equal(ask(&rq), 0);
	assert_true(was_killed(ward->fetcher[0].pidfd));
	/* A signal would have been there first. */
	assert_int_equal(waitpid(other, NULL, WNOHANG), 0);
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
}

static void no_more_fetchers_than_places(void **state)
{
	for (int i = 0; i < WARD_FETCHERS; i++)
		ward->fetcher[i] = (struct ward_fetcher){.pid = 1, .pidfd = -1};
	assert_int_equal(ask(&(struct keep_request){.op = KEEP_FETCHER}), -EAGAIN);
	assert_true(says("too many fetchers"));
	memset(ward->fetcher, 0, sizeof(ward->fetcher));
}

static int32_t pooled(void)
{
	for (int i = 0; i < WARD_FETCHERS; i++)
		if (ward->fetcher[i].pid && ward->fetcher[i].pooled)
			return ward->fetcher[i].pid;
	return 0;
}

/* A keeper that was killed before it could replace a fetcher: the one after it does. */
static void the_next_keeper_fills_the_pool(void **state)
{
	static const uint32_t op[] = {KEEP_TELL_BEGIN, KEEP_TELL_FETCHER, KEEP_TELL_READY};
	struct keep_reply told;
	int32_t first;

	/* Not before the engine has asked for any. */
	broker_fetchers_resume(&rig.broker);
	assert_int_equal(pooled(), 0);
	told_in_order(11, 3, op);
	first = pooled();
	broker_fetchers_resume(&rig.broker);
	assert_int_equal(pooled(), first);
	assert_false(hear(&told));
	end_fetchers();
	memset(ward->fetcher, 0, sizeof(ward->fetcher));
	broker_fetchers_resume(&rig.broker);
	assert_int_not_equal(pooled(), 0);
	assert_true(hear(&told));
	assert_int_equal(told.op, KEEP_TELL_FETCHER);
	assert_int_equal(told.fetcher.pid, pooled());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIGGED(unknown_requests),
		RIGGED(requests_of_other_lengths),
		RIGGED(nothing_new_while_stopping),
		RIGGED(hello_twice),
		RIGGED(hello_while_stopping),
		RIGGED(layers_that_are_not_live),
		RIGGED(foreign_digests),
		RIGGED(mounted_once),
		RIGGED(half_mounted),
		RIGGED(more_layers_than_descriptors),
		RIGGED(marks_and_leases_out_of_range),
		RIGGED(files_of_no_kind),
		RIGGED(published_without_being_made),
		RIGGED(files_the_kernel_reads),
		RIGGED(layouts_of_no_place),
		RIGGED(attachments_of_no_sense),
		RIGGED(what_an_attachment_uses_stays),
		RIGGED(only_our_fetchers_are_killed),
		RIGGED(no_more_fetchers_than_places),
		RIGGED(the_next_keeper_fills_the_pool),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("broker", tests, NULL, NULL);
}
