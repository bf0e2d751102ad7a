/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/url.h"

/* What may arrive beyond the reader's buffer before the transfer pauses. */
#define SPILL (64u << 10)
/* One receive; with SPILL and libcurl's own pause buffer this bounds the memory of a call. */
#define RECEIVE (64L << 10)
/* Reading this much to keep a connection is cheaper than a new TLS handshake. */
#define DRAIN_BYTES (32u << 10)
#define DRAIN_MS    200
/* Idle connections: the registry, its token server, its storage, and spares. */
#define CONNECTIONS 8L

/* libcurl hands over at most this in one call, and takes all or nothing back. */
_Static_assert(SPILL >= CURL_MAX_WRITE_SIZE, "a piece must fit the spill");

struct http {
	CURLM *multi; /* owned */
	CURL *easy;   /* owned; the one transfer */
	struct http_options opt;
	char *user_agent; /* owned */
	bool busy;
};

struct http_call {
	struct http *h;             /* borrowed */
	char *what;                 /* owned */
	struct curl_slist *headers; /* owned, wiped */
	struct curl_slist *resolve; /* owned */
	char *form;                 /* owned, wiped */
	bool added;
	bool head_done; /* all headers of the final answer are here */
	bool done;
	bool paused;
	CURLcode result;     /* once done */
	const char *refused; /* why a callback ended the transfer, or NULL */
	uint64_t progress;   /* bytes of any kind, for the stall clock */
	size_t head_bytes;
	uint8_t *dst; /* borrowed from http_call_read() while it runs */
	size_t dst_size;
	size_t dst_len;
	size_t spill_off;
	size_t spill_len;
	char errbuf[CURL_ERROR_SIZE];
	uint8_t spill[SPILL];
};

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

static size_t on_header(char *p, size_t size, size_t n, void *arg)
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

static size_t on_body(char *p, size_t size, size_t n, void *arg)
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

/* --- building a request ---------------------------------------------------------------------- */

static int add_header(struct http_call *c, const char *name, const char *value)
{
	_cleanup_free_ char *line = NULL;
	struct curl_slist *more;

	if (asprintf(&line, "%s: %s", name, value) < 0) {
		line = NULL;
		return -ENOMEM;
	}
	more = curl_slist_append(c->headers, line);
	explicit_bzero(line, strlen(line));
	if (!more)
		return -ENOMEM;
	c->headers = more;
	return 0;
}

static int build_headers(struct http_call *c, const struct http_request *rq)
{
	char range[64];
	int r;

	/* Offsets are those of the stored bytes: nothing on the way may encode them. */
	r = add_header(c, "Accept-Encoding", "identity");
	if (r == 0 && rq->accept)
		r = add_header(c, "Accept", rq->accept);
	if (r == 0 && rq->authorization)
		r = add_header(c, "Authorization", rq->authorization);
	if (r == 0 && rq->ranged) {
		snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long)rq->off,
			 (unsigned long long)(rq->off + rq->len - 1));
		r = add_header(c, "Range", range);
	}
	return r;
}

/* Looks the name up outside of libcurl, which would need the file system for it. */
static int build_resolve(struct http_call *c, const struct http_request *rq, struct err *e)
{
	char host[LIMIT_NAME], addrs[512], entry[LIMIT_NAME + sizeof(addrs) + 32];
	int r;

	if (!c->h->opt.resolve)
		return 0;
	url_host(rq->url, host);
	r = c->h->opt.resolve(c->h->opt.resolve_arg, host, addrs, sizeof(addrs));
	if (r < 0)
		return err_errno(e, r, "%s: cannot find the address of %s", rq->what, host);
	if (!addrs[0])
		return 0;
	/* '+': ages out of libcurl's cache like any answer, and is set anew for each request. */
	snprintf(entry, sizeof(entry), "+%s:%u:%s", host, url_port(rq->url), addrs);
	c->resolve = curl_slist_append(NULL, entry);
	return c->resolve ? 0 : -ENOMEM;
}

static void set_tls(CURL *easy, const struct http_options *opt, bool insecure)
{
	struct curl_blob ca = {
		.data = (void *)opt->ca_pem, .len = opt->ca_pem_len, .flags = CURL_BLOB_NOCOPY};

	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, insecure ? 0L : 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, insecure ? 0L : 2L);
	if (!opt->ca_pem)
		return;
	/* The bundle replaces the system's; the built-in directory would be searched beside it. */
	curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &ca);
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
}

static void set_request(struct http_call *c, const struct http_request *rq)
{
	const struct http_options *opt = &c->h->opt;
	CURL *easy = c->h->easy;

	curl_easy_reset(easy);
	curl_easy_setopt(easy, CURLOPT_URL, rq->url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	/* One transfer at a time: HTTP/2 would add a parser and save nothing. */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, opt->user_agent);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, c->headers);
	if (c->resolve)
		curl_easy_setopt(easy, CURLOPT_RESOLVE, c->resolve);
	if (c->form)
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, c->form);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)opt->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, RECEIVE);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->errbuf);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, c);
	set_tls(easy, opt, rq->insecure_tls);
}

/* --- running it ------------------------------------------------------------------------------ */

static int transport_code(CURLcode result, long os_errno)
{
	switch (result) {
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_RESOLVE_HOST:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		return os_errno > 0 ? -(int)os_errno : -ECONNREFUSED;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
		return -EKEYREJECTED;
	case CURLE_SSL_CACERT_BADFILE:
		return -EINVAL;
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
	case CURLE_WRITE_ERROR:
		return -EPROTO;
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_SSL_CONNECT_ERROR:
		return -ECONNRESET;
	default:
		return -EIO;
	}
}

static int transport_error(struct http_call *c, struct err *e)
{
	long os_errno = 0;
	int code;

	if (c->refused)
		return err_set(e, -EPROTO, "%s: the answer is refused: %s", c->what, c->refused);
	curl_easy_getinfo(c->h->easy, CURLINFO_OS_ERRNO, &os_errno);
	code = transport_code(c->result, os_errno);
	return err_set(e, code, "%s: %s", c->what,
		       c->errbuf[0] ? c->errbuf : curl_easy_strerror(c->result));
}

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

	c->what = strdup(rq->what);
	if (rq->form)
		c->form = strdup(rq->form);
	if (!c->what || (rq->form && !c->form) || build_headers(c, rq) < 0)
		return err_errno(e, -ENOMEM, "%s", rq->what);
	r = build_resolve(c, rq, e);
	if (r < 0)
		return r;
	set_request(c, rq);
	if (curl_multi_add_handle(c->h->multi, c->h->easy))
		return err_errno(e, -ENOMEM, "%s", rq->what);
	c->added = true;
	r = run_until(c, head_ready, c->h->opt.stall_timeout_ms, e);
	if (r < 0)
		return r;
	if (!c->head_done || (c->done && c->result && c->refused))
		return transport_error(c, e);
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
		return transport_error(c, e);
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

static void wipe_slist(struct curl_slist *list)
{
	for (struct curl_slist *i = list; i; i = i->next)
		explicit_bzero(i->data, strlen(i->data));
	curl_slist_free_all(list);
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
	}
	wipe_slist(c->headers);
	curl_slist_free_all(c->resolve);
	if (c->form)
		explicit_bzero(c->form, strlen(c->form));
	free(c->form);
	free(c->what);
	c->h->busy = false;
	free(c);
	return NULL;
}
