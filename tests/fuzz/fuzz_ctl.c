/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=keep_call -Wl,--wrap=loop_call -Wl,--wrap=engine_task */
/* link: -Wl,--wrap=pull_image -Wl,--wrap=attached_new -Wl,--wrap=evict_layer */
/* link: -Wl,--wrap=pin_make -Wl,--wrap=space_state -Wl,--wrap=flight_fetchers */
/* link: -Wl,--wrap=flight_latency */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "plugin/ctl/serve.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/store/attached.h"
#include "plugin/store/evict.h"
#include "plugin/store/files.h"
#include "plugin/store/pin_make.h"
#include "plugin/store/pull.h"
#include "plugin/store/record.h"
#include "plugin/store/space.h"

/*
 * Requests to the real verbs of an engine whose store has one image, "x", and whose keeper hands
 * out nothing else. What the verbs hand on to the store is looked at here.
 */

static const struct json *asked; /* the request, if it is one */

/* --- an image --- */

static int of_memory(const void *data, size_t len)
{
	int fd = memfd_create("fuzz-ctl", MFD_CLOEXEC);

	if (fd < 0 || fd_write_full(fd, data, len) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	return fd;
}

static void make_record(struct buf *out)
{
	_cleanup_(record_freep) struct record *r = record_new();

	if (!r)
		abort();
	memset(r->manifest.sum, 1, DIGEST_SIZE);
	r->manifest_size = 1;
	r->config = (struct descriptor){.media = MEDIA_CONFIG, .size = 1};
	r->nlayers = 2;
	for (uint32_t i = 0; i < r->nlayers; i++) {
		struct record_layer *l = &r->layers[i];

		memset(l->diff_id.sum, (int)(2 + i), DIGEST_SIZE);
		l->blob = (struct descriptor){.media = MEDIA_LAYER_TAR, .size = 1};
		l->size = 4096;
		l->proved = i == 0;
	}
	if (record_add_name(r, "x") < 0 || record_encode(r, out) < 0)
		abort();
}

static int open_record(void)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, SIZE_MAX);
	make_record(&b);
	return of_memory(b.data, b.len);
}

/* --- what the verbs stand on --- */

int __wrap_keep_call(struct keep *k, struct keep_request *req, struct keep_reply *rep, int *fds,
		     int maxfds, struct err *e);
int __wrap_keep_call(struct keep *k, struct keep_request *req, struct keep_reply *rep, int *fds,
		     int maxfds, struct err *e)
{
	struct digest manifest;

	memset(rep, 0, sizeof(*rep));
	memset(manifest.sum, 1, DIGEST_SIZE);
	for (int i = 0; i < maxfds; i++)
		fds[i] = -1;
	if (req->op == KEEP_LIST && req->list.kind == KEEP_RECORD) {
		fds[0] = of_memory(&manifest, sizeof(manifest));
		return 0;
	}
	if (req->op == KEEP_LIST) {
		fds[0] = of_memory("", 0);
		return 0;
	}
	if (req->op == KEEP_FILE_OPEN && req->file.kind == KEEP_RECORD) {
		fds[0] = open_record();
		return 0;
	}
	return err_set(e, req->op == KEEP_FILE_OPEN ? -ENOENT : -EIO, "not in this store");
}

int __wrap_loop_call(struct loop *l, int (*fn)(void *ctx), void *ctx);
int __wrap_loop_call(struct loop *l, int (*fn)(void *ctx), void *ctx)
{
	return fn(ctx);
}

int __wrap_engine_task(void (*fn)(void *ctx), void *ctx);
int __wrap_engine_task(void (*fn)(void *ctx), void *ctx)
{
	return -EAGAIN;
}

struct space_state __wrap_space_state(const struct space *s);
struct space_state __wrap_space_state(const struct space *s)
{
	struct space_state st;

	memset(&st, 0, sizeof(st));
	return st;
}

uint32_t __wrap_flight_fetchers(const struct flight *f, int32_t *pids, uint32_t max);
uint32_t __wrap_flight_fetchers(const struct flight *f, int32_t *pids, uint32_t max)
{
	return 0;
}

void __wrap_flight_latency(const struct flight *f, uint64_t *p50, uint64_t *p99, uint64_t *max);
void __wrap_flight_latency(const struct flight *f, uint64_t *p50, uint64_t *p99, uint64_t *max)
{
	*p50 = *p99 = *max = 0;
}

/* --- what the verbs ask for --- */

int __wrap_pull_image(struct engine *en, const struct pull_request *rq, const struct watch *w,
		      struct record **ret, struct err *e);
int __wrap_pull_image(struct engine *en, const struct pull_request *rq, const struct watch *w,
		      struct record **ret, struct err *e)
{
	if (!rq->src || !rq->platform.os[0] || !rq->platform.arch[0])
		abort();
	if (rq->name && strncmp(rq->name, "sha256:", strlen("sha256:")) == 0)
		abort();
	/* Not to be asked for is not to be had: certificates are looked at. */
	if (!rq->tls_verify && json_bool(json_get(asked, "tls_verify"), true))
		abort();
	return err_set(e, -EIO, "nothing is pulled");
}

int __wrap_attached_new(struct engine *en, struct record *rec, const struct attach_want *want,
			int *ret_mount_fd, struct err *e);
int __wrap_attached_new(struct engine *en, struct record *rec, const struct attach_want *want,
			int *ret_mount_fd, struct err *e)
{
	const struct keep_attach *at = NULL;

	/* The keeper's rule for ids is the strict one. */
	if (!store_id_valid(want->id) || !attach_kind_name(want->kind) || want->pid < 0 ||
	    strlen(want->label) >= sizeof(at->label))
		abort();
	return err_set(e, -EIO, "nothing is mounted");
}

/* Content that was read within the time that was asked for stays. */
static void check_cold(uint64_t cold_ns)
{
	int64_t ms = 0;

	json_get_int(asked, "cold_for_ms", &ms);
	if (ms < 0 || cold_ns / 1000000 < (uint64_t)ms) {
		if (ms < 0 || cold_ns != UINT64_MAX)
			abort();
	}
}

int __wrap_evict_layer(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		       const struct evict_want *want, struct evicted *ret, struct err *e);
int __wrap_evict_layer(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		       const struct evict_want *want, struct evicted *ret, struct err *e)
{
	int64_t bytes = 0;

	check_cold(want->cold_ns);
	if (want->free == 0)
		abort();
	if (json_get_int(asked, "free", &bytes) && (bytes < 0 || want->free > (uint64_t)bytes))
		abort();
	memset(ret, 0, sizeof(*ret));
	ret->freed = 1;
	return 0;
}

int __wrap_pin_make(struct engine *en, const struct record *rec, const char *name,
		    const struct strv *paths, struct pin *ret, struct err *e);
int __wrap_pin_make(struct engine *en, const struct record *rec, const char *name,
		    const struct strv *paths, struct pin *ret, struct err *e)
{
	for (size_t i = 0; i < paths->n; i++) {
		const char *p = paths->v[i];
		size_t len = strlen(p);

		if (len == 0 || len >= LIMIT_PATH || p[0] == '/' || p[len - 1] == '/' ||
		    strstr(p, "//") || strncmp(p, "../", 3) == 0 || strstr(p, "/../"))
			abort();
	}
	return err_set(e, -EIO, "nothing is pinned");
}

/* --- asking --- */

/* One answer: rows and progress perhaps, then the end, and nothing behind it. */
static void read_answer(int sock)
{
	static uint8_t message[LIMIT_CTL_MESSAGE];
	int fds[KEEP_FDS_MAX], nfds = 0;
	bool end = false;
	ssize_t n;

	while ((n = keep_recvmsg(sock, message, sizeof(message), fds, KEEP_FDS_MAX, &nfds)) > 0) {
		_cleanup_(json_freep) struct json *doc = NULL;
		const struct json *error;
		const char *text;

		for (int i = 0; i < nfds; i++)
			close(fds[i]);
		if (end || json_parse(message, (size_t)n, SIZE_MAX, "answer", &doc, NULL) < 0)
			abort();
		error = json_get(doc, "error");
		text = json_get_str(error, "text");
		if (error && (!text || !*text || strchr(text, '\n')))
			abort();
		end = error || json_get(doc, "done");
	}
	if (!end)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct slots slots;
	static struct engine en = {.slots = &slots};
	_cleanup_(json_freep) struct json *doc = NULL;
	struct task *t = malloc(sizeof(*t));
	int pair[2];

	if (!t || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	t->t = (struct ctl_task){.en = &en, .sock = pair[0], .reply_fd = -1};
	if (keep_sendmsg(pair[1], data, size, NULL, 0) == 0) {
		(void)json_parse(data, size, LIMIT_CTL_MESSAGE, "request", &doc, NULL);
		asked = doc;
		task_serve(t);
		shutdown(pair[0], SHUT_WR);
		read_answer(pair[1]);
		asked = NULL;
	}
	close(pair[0]);
	close(pair[1]);
	free(t);
	return 0;
}
