/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/present.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/due.h"
#include "plugin/store/kept.h"
#include "plugin/store/layer.h"

/* A layer that is being filled is synced about once a second; its file need not be. */
#define PUBLISH_DELAY_MS 2000

/* A file that is to be written by the writer thread. */
struct job {
	struct due due;
	struct engine *en; /* borrowed */
	struct digest scope;
	struct present p; /* owned */
};

/*
 * One thread writes, so that no older state can overtake a newer one; it ends when it has nothing
 * to do. Whoever writes a file itself (present_close) takes the layer's job away first and waits
 * until the thread is not busy.
 */
static struct {
	struct due_list jobs; /* owned; at most one for each layer; its lock guards the rest */
	bool running;         /* the thread exists */
	bool busy;            /* it is writing a job that is no longer in the list */
	bool stopped;
} writer = {.jobs = DUE_LIST_INIT};

static struct job *job_free(struct job *j)
{
	if (!j)
		return NULL;
	present_free(&j->p);
	free(j);
	return NULL;
}

/* --- what a layer holds; loop thread --- */

static void put_span(struct present *p, uint32_t i, enum span_state state)
{
	uint8_t bit = (uint8_t)(1u << i % 8);

	switch (state) {
	case SPAN_CLEAN:
		p->durable[i / 8] |= bit;
		break;
	case SPAN_DIRTY:
	case SPAN_LOST:
	case SPAN_UNPROVEN:
	case SPAN_CHECKING:
	case SPAN_PARKED: /* punched or not: its digest will tell */
		p->maybe[i / 8] |= bit;
		break;
	case SPAN_ABSENT:
	case SPAN_QUEUED:
		break;
	}
}

static int snapshot(const struct layer *l, bool clean, struct present *ret)
{
	struct present p;
	int r = present_new(&l->diff_id, l->index.nspans, &p);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < p.nspans; i++)
		put_span(&p, i, l->spans[i].state);
	if (clean)
		p.flags = PRESENT_CLEAN;
	if (l->quarantined)
		p.flags |= PRESENT_QUARANTINED;
	else if (clean && l->complete && l->nclean == p.nspans)
		p.flags |= PRESENT_COMPLETE;
	*ret = p;
	return 0;
}

/* --- writing --- */

int present_store(struct engine *en, const struct digest *scope, const struct present *p,
		  struct err *e)
{
	struct keep_file f = file_of_layer(KEEP_PRESENT, &p->diff_id, scope);
	_cleanup_buf_ struct buf b;
	int r;

	buf_init(&b, LIMIT_PRESENT_FILE);
	r = present_encode(p, &b);
	if (r < 0)
		return err_errno(e, r, "the present file");
	return file_write(en, &f, b.data, b.len, e);
}

static void write_job(struct job *j)
{
	struct err e = ERR_INIT;
	char text[DIGEST_TEXT];

	if (present_store(j->en, &j->scope, &j->p, &e) < 0)
		log_warn("layer %s: %s", digest_text(&j->p.diff_id, text), e.text);
}

static void *writer_main(void *unused)
{
	struct due *d;

	pthread_mutex_lock(&writer.jobs.lock);
	while ((d = due_take(&writer.jobs))) {
		struct job *j = (struct job *)d;

		writer.busy = true;
		pthread_mutex_unlock(&writer.jobs.lock);
		write_job(j);
		job_free(j);
		pthread_mutex_lock(&writer.jobs.lock);
		writer.busy = false;
		pthread_cond_broadcast(&writer.jobs.changed);
	}
	writer.running = false;
	pthread_mutex_unlock(&writer.jobs.lock);
	return NULL;
}

/* Takes the layer's job out of the list, if there is one. */
static struct job *take_job(const struct digest *diff_id, const struct digest *scope)
{
	for (struct due **at = &writer.jobs.first; *at; at = &(*at)->next) {
		struct job *j = (struct job *)*at;

		if (digest_equal(&j->p.diff_id, diff_id) && digest_equal(&j->scope, scope)) {
			*at = j->due.next;
			return j;
		}
	}
	return NULL;
}

static void start_writer(void)
{
	pthread_t thread;

	if (writer.running)
		return;
	if (pthread_create(&thread, NULL, writer_main, NULL) == 0) {
		pthread_detach(thread);
		writer.running = true;
	}
	/* Else the next sync tries again; what is not written costs a check, never a wrong byte. */
}

void present_synced(struct engine *en, struct layer *l)
{
	struct job *j = calloc(1, sizeof(*j)), *old;

	if (!j || snapshot(l, false, &j->p) < 0) {
		free(j);
		return;
	}
	j->en = en;
	j->scope = l->scope;
	j->due.at_ms = clock_ms() + PUBLISH_DELAY_MS;
	pthread_mutex_lock(&writer.jobs.lock);
	old = take_job(&l->diff_id, &l->scope);
	if (old)
		/* The newer state at the older time: a long fill is not put off for ever. */
		j->due.at_ms = old->due.at_ms;
	job_free(old);
	if (writer.stopped) {
		job_free(j);
	} else {
		due_put(&writer.jobs, &j->due);
		start_writer();
	}
	pthread_mutex_unlock(&writer.jobs.lock);
}

/* --- reading --- */

bool present_whole(struct engine *en, const struct digest *diff_id, const struct digest *scope)
{
	const struct keep_file f = file_of_layer(KEEP_PRESENT, diff_id, scope);
	const uint32_t whole = PRESENT_CLEAN | PRESENT_COMPLETE;
	_cleanup_fd_ int fd = -1;
	uint8_t head[16]; /* magic, version, flags */
	struct bytes b = bytes_of(head, sizeof(head));

	if (file_open(en, &f, &fd, NULL) < 0 || fd_pread_full(fd, head, sizeof(head), 0) < 0)
		return false;
	bytes_take(&b, 8);
	return bytes_le32(&b) == PRESENT_VERSION && (bytes_le32(&b) & whole) == whole;
}

int present_open(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		 uint32_t nspans, struct present *ret, struct err *e)
{
	struct keep_file f = file_of_layer(KEEP_PRESENT, diff_id, scope);
	_cleanup_(present_free) struct present p = {.nspans = 0};
	struct err why = ERR_INIT;
	char text[DIGEST_TEXT];
	_cleanup_buf_ struct buf b;
	uint32_t flags;
	int r;

	buf_init(&b, LIMIT_PRESENT_FILE);
	r = file_read(en, &f, &b, &why);
	if (r == 0)
		r = present_decode(b.data, b.len, diff_id, nspans, &p, &why);
	if (r < 0) {
		if (r != -ENOENT)
			log_warn("layer %s: %s; its content counts as not there",
				 digest_text(diff_id, text), why.text);
		r = present_new(diff_id, nspans, ret);
		return r < 0 ? err_errno(e, r, "the present file") : 0;
	}
	flags = p.flags;
	p.flags &= PRESENT_QUARANTINED;
	if (flags & PRESENT_CLEAN && present_store(en, scope, &p, &why) < 0) {
		/* On a full store removing still works; then a crash costs fetching again. */
		log_warn("layer %s: %s", digest_text(diff_id, text), why.text);
		r = file_drop(en, &f, e);
		if (r < 0)
			return r;
	}
	p.flags = flags;
	*ret = p;
	p = (struct present){.nspans = 0};
	return 0;
}

/* --- at the end --- */

/* After it nothing older than what the caller writes can be written. */
static void settle(const struct digest *diff_id, const struct digest *scope)
{
	struct job *gone;

	pthread_mutex_lock(&writer.jobs.lock);
	gone = take_job(diff_id, scope);
	while (writer.busy)
		pthread_cond_wait(&writer.jobs.changed, &writer.jobs.lock);
	pthread_mutex_unlock(&writer.jobs.lock);
	job_free(gone);
}

struct close_call {
	struct layer *l;
	struct present p;
};

static int snapshot_clean(void *ctx)
{
	struct close_call *c = ctx;

	return snapshot(c->l, true, &c->p);
}

int present_close(struct engine *en, struct layer *l, struct err *e)
{
	struct close_call c = {.l = l};
	int r;

	settle(&l->diff_id, &l->scope);
	r = loop_call(en->loop, snapshot_clean, &c);
	if (r < 0)
		return err_errno(e, r, "the present file");
	r = present_store(en, &l->scope, &c.p, e);
	present_free(&c.p);
	return r;
}

struct stop_call {
	struct engine *en;
	struct present *p; /* owned array, one a layer */
	struct digest *scope;
	size_t n;
};

static int snapshot_all(void *ctx)
{
	struct stop_call *c = ctx;
	size_t n = 0;

	for (struct layer *l = c->en->layers; l; l = l->next)
		n++;
	c->p = calloc(n + 1, sizeof(*c->p));
	c->scope = calloc(n + 1, sizeof(*c->scope));
	if (!c->p || !c->scope)
		return -ENOMEM;
	for (struct layer *l = c->en->layers; l && c->n < n; l = l->next) {
		c->scope[c->n] = l->scope;
		if (snapshot(l, true, &c->p[c->n]) < 0)
			return -ENOMEM;
		c->n++;
	}
	return 0;
}

static void stop_writer(void)
{
	struct due *jobs;

	pthread_mutex_lock(&writer.jobs.lock);
	writer.stopped = true;
	jobs = writer.jobs.first;
	writer.jobs.first = NULL;
	while (writer.busy)
		pthread_cond_wait(&writer.jobs.changed, &writer.jobs.lock);
	pthread_cond_broadcast(&writer.jobs.changed);
	pthread_mutex_unlock(&writer.jobs.lock);
	while (jobs) {
		struct job *j = (struct job *)jobs;

		jobs = jobs->next;
		job_free(j);
	}
}

int present_stop(struct engine *en, struct err *e)
{
	struct stop_call c = {.en = en};
	int result;

	stop_writer();
	result = loop_call(en->loop, snapshot_all, &c);
	if (result < 0)
		err_errno(e, result, "the present files");
	for (size_t i = 0; i < c.n; i++) {
		struct err *to = result == 0 ? e : NULL;
		int r = present_store(en, &c.scope[i], &c.p[i], to);

		result = result < 0 ? result : r;
		present_free(&c.p[i]);
	}
	free(c.p);
	free(c.scope);
	return result;
}
