/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/http_call.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "oci/base/err.h"
#include "oci/base/limits.h"

/* Reading this much to keep a connection is cheaper than a new TLS handshake. */
#define DRAIN_BYTES (32u << 10)
#define DRAIN_MS    200
/* Idle connections: the registry, its token server, its storage, and spares. */
#define CONNECTIONS 8L

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- the object ------------------------------------------------------------------------------ */

static CURLcode global_result;

static void global_init(void)
{
	global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
	/* TLS asks for it at the first handshake. With TZ set libc does not look again. */
	tzset();
}

int http_new(const struct http_options *opt, struct http **ret, struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http *h;

	pthread_once(&once, global_init);
	if (global_result)
		return err_set(e, -EIO, "libcurl: %s", curl_easy_strerror(global_result));
	h = calloc(1, sizeof(*h));
	if (!h)
		return err_errno(e, -ENOMEM, "HTTP client");
	h->opt = *opt;
	h->user_agent = strdup(opt->user_agent);
	h->multi = curl_multi_init();
	h->easy = curl_easy_init();
	if (!h->user_agent || !h->multi || !h->easy) {
		http_free(h);
		return err_errno(e, -ENOMEM, "HTTP client");
	}
	h->opt.user_agent = h->user_agent;
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS);
	*ret = h;
	return 0;
}

struct http *http_free(struct http *h)
{
	if (!h)
		return NULL;
	curl_easy_cleanup(h->easy);
	curl_multi_cleanup(h->multi);
	free(h->user_agent);
	free(h);
	return NULL;
}

/* --- what libcurl calls ---------------------------------------------------------------------- */

size_t http_on_header(char *p, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	long status = 0;

	n *= size;
	c->progress += n;
	c->head_bytes += n;
	if (c->head_bytes > LIMIT_HTTP_HEADERS) {
		c->refused = "its headers are too long";
		return 0;
	}
	if (n > 0 && (p[0] == '\r' || p[0] == '\n')) {
		/* 1xx answers come before the one that counts. */
		curl_easy_getinfo(c->h->easy, CURLINFO_RESPONSE_CODE, &status);
		if (status >= 200)
			c->head_done = true;
	}
	return n;
}

size_t http_on_body(char *p, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	size_t direct = 0;

	n *= size;
	if (c->spill_len == 0) {
		c->spill_off = 0;
		direct = c->dst_size - c->dst_len;
		if (direct > n)
			direct = n;
	}
	if (n - direct > SPILL - c->spill_off - c->spill_len) {
		/* All or nothing: nothing has been taken yet. */
		c->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (direct > 0)
		memcpy(c->dst + c->dst_len, p, direct);
	c->dst_len += direct;
	memcpy(c->spill + c->spill_off + c->spill_len, p + direct, n - direct);
	c->spill_len += n - direct;
	c->progress += n;
	return n;
}

/* --- running it ------------------------------------------------------------------------------ */

static int perform(struct http_call *c, struct err *e)
{
	CURLMsg *msg;
	CURLMcode mc;
	int running, left;

	mc = curl_multi_perform(c->h->multi, &running);
	if (mc)
		return err_set(e, mc == CURLM_OUT_OF_MEMORY ? -ENOMEM : -EIO, "%s: libcurl: %s",
			       c->what, curl_multi_strerror(mc));
	while ((msg = curl_multi_info_read(c->h->multi, &left))) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		c->done = true;
		c->result = msg->data.result;
	}
	return 0;
}

/* Until the request can go out it is libcurl's connect timeout that counts. */
static bool connected(struct http_call *c)
{
	curl_off_t us = 0;

	curl_easy_getinfo(c->h->easy, CURLINFO_PRETRANSFER_TIME_T, &us);
	return us > 0;
}

static bool head_ready(const struct http_call *c)
{
	return c->done || c->head_done;
}

static bool body_ready(const struct http_call *c)
{
	return c->done || c->dst_len > 0 || c->spill_len > 0;
}

/* Runs the transfer until @ready; -ETIMEDOUT once nothing has moved for @quiet_ms. */
static int run_until(struct http_call *c, bool (*ready)(const struct http_call *c),
		     uint32_t quiet_ms, struct err *e)
{
	uint64_t since = now_ms();
	uint64_t seen = c->progress;

	while (!ready(c)) {
		uint64_t now;
		int r = perform(c, e);

		if (r < 0)
			return r;
		if (ready(c))
			break;
		now = now_ms();
		if (c->progress != seen || !connected(c)) {
			seen = c->progress;
			since = now;
		}
		if (now - since >= quiet_ms)
			return err_set(e, -ETIMEDOUT, "%s: no byte from the server for %u ms",
				       c->what, quiet_ms);
		curl_multi_poll(c->h->multi, NULL, 0, (int)(quiet_ms - (now - since)), NULL);
	}
	return 0;
}

static int start(struct http_call *c, const struct http_request *rq, struct err *e)
{
	int r;

	r = http_call_build(c, rq, e);
	if (r < 0)
		return r;
	http_call_setup(c, rq);
	if (curl_multi_add_handle(c->h->multi, c->h->easy))
		return err_errno(e, -ENOMEM, "%s", rq->what);
	c->added = true;
	r = run_until(c, head_ready, c->h->opt.stall_timeout_ms, e);
	if (r < 0)
		return r;
	if (!c->head_done || (c->done && c->result && c->refused))
		return http_call_failure(c, e);
	return 0;
}

int http_open(struct http *h, const struct http_request *rq, struct http_call **ret, struct err *e)
{
	struct http_call *c;
	int r;

	if (h->busy)
		return err_set(e, -EBUSY, "%s: another request is still open", rq->what);
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_errno(e, -ENOMEM, "%s", rq->what);
	c->h = h;
	h->busy = true;
	r = start(c, rq, e);
	if (r < 0) {
		http_call_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

/* --- the answer ------------------------------------------------------------------------------ */

int http_call_status(const struct http_call *c)
{
	long status = 0;

	curl_easy_getinfo(c->h->easy, CURLINFO_RESPONSE_CODE, &status);
	return (int)status;
}

const char *http_call_header(struct http_call *c, const char *name, size_t i)
{
	struct curl_header *h;

	if (curl_easy_header(c->h->easy, name, i, CURLH_HEADER, -1, &h))
		return NULL;
	return h->value;
}

const char *http_call_header_only(struct http_call *c, const char *name)
{
	struct curl_header *h;

	if (curl_easy_header(c->h->easy, name, 0, CURLH_HEADER, -1, &h) || h->amount != 1)
		return NULL;
	return h->value;
}

int64_t http_date(const char *text)
{
	time_t t = curl_getdate(text, NULL);

	return t < 0 ? -1 : (int64_t)t;
}

int64_t http_call_length(const struct http_call *c)
{
	curl_off_t len = -1;

	curl_easy_getinfo(c->h->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &len);
	return len;
}

size_t http_call_pending(const struct http_call *c)
{
	return c->spill_len;
}

static size_t take_spill(struct http_call *c, void *buf, size_t n)
{
	if (n > c->spill_len)
		n = c->spill_len;
	memcpy(buf, c->spill + c->spill_off, n);
	c->spill_off += n;
	c->spill_len -= n;
	if (c->spill_len == 0)
		c->spill_off = 0;
	return n;
}

/* Lets a paused transfer go on. libcurl delivers what it held back from within this call. */
static void resume(struct http_call *c)
{
	if (!c->paused)
		return;
	c->paused = false;
	curl_easy_pause(c->h->easy, CURLPAUSE_CONT);
}

static ssize_t read_within(struct http_call *c, void *buf, size_t n, uint32_t quiet_ms,
			   struct err *e)
{
	int r;

	if (n == 0)
		return 0;
	if (c->spill_len > 0)
		return (ssize_t)take_spill(c, buf, n);
	c->dst = buf;
	c->dst_size = n;
	c->dst_len = 0;
	if (!c->done)
		resume(c);
	r = run_until(c, body_ready, quiet_ms, e);
	n = c->dst_len;
	c->dst = NULL;
	c->dst_size = 0;
	c->dst_len = 0;
	if (n > 0)
		return (ssize_t)n; /* a failure behind these bytes is told by the next read */
	if (r < 0)
		return r;
	if (c->result)
		return http_call_failure(c, e);
	return 0;
}

ssize_t http_call_read(struct http_call *c, void *buf, size_t n, struct err *e)
{
	return read_within(c, buf, n, c->h->opt.stall_timeout_ms, e);
}

/* --- the end of a call ----------------------------------------------------------------------- */

static void drain(struct http_call *c)
{
	uint64_t end = now_ms() + DRAIN_MS;
	curl_off_t got = 0;
	int64_t len = http_call_length(c);
	uint8_t scrap[4096];

	curl_easy_getinfo(c->h->easy, CURLINFO_SIZE_DOWNLOAD_T, &got);
	if (len >= 0 && len - got > DRAIN_BYTES)
		return;
	for (size_t total = 0; !c->done && total < DRAIN_BYTES + SPILL;) {
		uint64_t now = now_ms();
		ssize_t r;

		if (now >= end)
			return;
		r = read_within(c, scrap, sizeof(scrap), (uint32_t)(end - now), NULL);
		if (r <= 0)
			return;
		total += (size_t)r;
	}
}

struct http_call *http_call_free(struct http_call *c)
{
	if (!c)
		return NULL;
	if (c->added) {
		if (c->head_done && !c->done)
			drain(c);
		curl_multi_remove_handle(c->h->multi, c->h->easy);
		curl_easy_reset(c->h->easy); /* it holds pointers into @c */
		curl_easy_setopt(c->h->easy, CURLOPT_NOSIGNAL, 1L);
	}
	http_call_unbuild(c);
	c->h->busy = false;
	free(c);
	return NULL;
}
