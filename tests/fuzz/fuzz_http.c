/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=http_new -Wl,--wrap=http_free -Wl,--wrap=http_open */
/* link: -Wl,--wrap=http_call_free -Wl,--wrap=http_call_status -Wl,--wrap=http_call_header */
/* link: -Wl,--wrap=http_call_header_only -Wl,--wrap=http_call_length */
/* link: -Wl,--wrap=http_call_read -Wl,--wrap=http_call_pending */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/digest.h"
#include "oci/base/err.h"
#include "oci/http.h"
#include "oci/registry.h"
#include "oci/url.h"

/*
 * A registry's answers, to the whole client but libcurl. Input: a letter for what is asked, a byte
 * of flags, then answers: "STATUS\n", headers "Name: value\n", an empty line, and a body up to the
 * byte 0x1e. What we say to whom is looked at with each request.
 */
#define ANSWER_END 0x1e
#define SENDS_MAX  40 /* three, each with redirects and tokens before it */

#define FLAG_PLAIN  1 /* the registry is one of plain HTTP */
#define FLAG_LOGIN  2 /* we have a name and a password */
#define FLAG_TRUE   4 /* what is asked for by digest is the last answer's body */
#define FLAG_PIECES 8 /* bodies come in small pieces */
#define FLAG_TWICE  16

#define REGISTRY "registry.example:5000"
#define SECRET   "pa5s"
#define BASIC    "Basic dXNlcjpwYTVz"

struct http_call {
	const char *head; /* of the answer: borrowed, its lines end in NUL */
	size_t head_len;
	int status;
	const uint8_t *body;
	size_t left;
	int64_t length; /* -1: not said */
	bool cut;       /* the body is shorter than its headers say */
};

static struct http_call call;
static char *input; /* owned; what is left of the answers */
static size_t input_len, input_at;
static unsigned flags, sends;
static bool open_call;
static char named[2 * LIMIT_URL]; /* the token server that a 401 named, "" before one did */
static bool given;                /* the input holds the password, so it may be seen anywhere */

static bool tells(const char *text)
{
	return !given && strstr(text, SECRET);
}

/* --- what is sent --- */

static bool one_line(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

/*
 * Tokens go back to the registry alone; the password to whom it names in its 401, too, but
 * encrypted.
 */
static void check_authorization(const char *a, const char *url)
{
	const char *registry =
		flags & FLAG_PLAIN ? "http://" REGISTRY "/" : "https://" REGISTRY "/";

	if (!one_line(a))
		abort();
	if (strncmp(a, "Bearer ", 7) == 0 && !url_same_origin(registry, url))
		abort();
	if (strcmp(a, BASIC) != 0 || url_same_origin(registry, url))
		return;
	/* A token server may redirect to itself. */
	if (call.status == 401)
		snprintf(named, sizeof(named), "%s", url);
	if (!named[0] || !url_same_origin(named, url) ||
	    (!url_is_https(url) && !(flags & FLAG_PLAIN && url_same_host(registry, url))))
		abort();
}

static void check_request(const struct http_request *rq)
{
	if (!one_line(rq->url) || strchr(rq->url, ' ') || !rq->what || ++sends > SENDS_MAX)
		abort();
	if (!url_is_https(rq->url) && strncmp(rq->url, "http://", 7) != 0)
		abort();
	if (tells(rq->url) || (rq->form && !one_line(rq->form)))
		abort();
	if (rq->authorization)
		check_authorization(rq->authorization, rq->url);
}

/* --- what is answered --- */

static void cut_lines(char *p, char *end)
{
	for (; p < end; p++)
		if (*p == '\n')
			*p = '\0';
}

static const char *find_header(const struct http_call *c, const char *name, size_t i)
{
	const char *p = c->head, *end = c->head + c->head_len;
	size_t n = strlen(name);

	for (; p < end; p += strlen(p) + 1)
		if (strncasecmp(p, name, n) == 0 && p[n] == ':' && i-- == 0)
			return p + n + 1 + strspn(p + n + 1, " \t");
	return NULL;
}

static void take_length(struct http_call *c)
{
	const char *text = find_header(c, "Content-Length", 0);

	c->length = -1;
	if (!text || !*text || text[strspn(text, "0123456789")])
		return;
	c->length = strtoll(text, NULL, 10);
	c->cut = c->length > (int64_t)c->left;
	if (!c->cut)
		c->left = (size_t)c->length;
}

/* The next answer; false at the end of the input. */
static bool next_answer(struct http_call *c)
{
	char *p = input + input_at, *end, *body;

	if (input_at >= input_len)
		return false;
	end = memchr(p, ANSWER_END, input_len - input_at);
	if (!end)
		end = input + input_len;
	input_at = (size_t)(end - input) + 1;
	body = memmem(p, (size_t)(end - p), "\n\n", 2);
	body = body ? body + 2 : end;
	cut_lines(p, body);
	*c = (struct http_call){.head = p, .head_len = (size_t)(body - p)};
	/* The input ends in a NUL, so does the last line. */
	c->status = (int)strtoul(p, NULL, 10) % 1000;
	c->body = (const uint8_t *)body;
	c->left = (size_t)(end - body);
	take_length(c);
	return true;
}

/* --- the client of HTTP --- */

int __wrap_http_new(const struct http_options *opt, struct http **ret, struct err *e);
int __wrap_http_new(const struct http_options *opt, struct http **ret, struct err *e)
{
	*ret = NULL;
	return 0;
}

struct http *__wrap_http_free(struct http *h);
struct http *__wrap_http_free(struct http *h)
{
	return NULL;
}

int __wrap_http_open(struct http *h, const struct http_request *rq, struct http_call **ret,
		     struct err *e);
int __wrap_http_open(struct http *h, const struct http_request *rq, struct http_call **ret,
		     struct err *e)
{
	if (open_call)
		abort();
	check_request(rq);
	if (!next_answer(&call))
		return err_set(e, -ECONNRESET, "%s: no more answers", rq->what);
	open_call = true;
	*ret = &call;
	return 0;
}

struct http_call *__wrap_http_call_free(struct http_call *c);
struct http_call *__wrap_http_call_free(struct http_call *c)
{
	if (c)
		open_call = false;
	return NULL;
}

int __wrap_http_call_status(const struct http_call *c);
int __wrap_http_call_status(const struct http_call *c)
{
	return c->status;
}

const char *__wrap_http_call_header(struct http_call *c, const char *name, size_t i);
const char *__wrap_http_call_header(struct http_call *c, const char *name, size_t i)
{
	return find_header(c, name, i);
}

const char *__wrap_http_call_header_only(struct http_call *c, const char *name);
const char *__wrap_http_call_header_only(struct http_call *c, const char *name)
{
	return find_header(c, name, 1) ? NULL : find_header(c, name, 0);
}

int64_t __wrap_http_call_length(const struct http_call *c);
int64_t __wrap_http_call_length(const struct http_call *c)
{
	return c->length;
}

ssize_t __wrap_http_call_read(struct http_call *c, void *buf, size_t n, struct err *e);
ssize_t __wrap_http_call_read(struct http_call *c, void *buf, size_t n, struct err *e)
{
	if (flags & FLAG_PIECES && n > 3)
		n = 3;
	n = n < c->left ? n : c->left;
	if (n == 0 && c->left == 0 && c->cut)
		return err_set(e, -ECONNRESET, "the body is cut");
	if (n > 0)
		memcpy(buf, c->body, n);
	c->body += n;
	c->left -= n;
	return (ssize_t)n;
}

size_t __wrap_http_call_pending(const struct http_call *c);
size_t __wrap_http_call_pending(const struct http_call *c)
{
	return c->left;
}

/* --- what is asked --- */

static void failed(int r, const struct err *e)
{
	if (e->code != r || !*e->text || !one_line(e->text) || tells(e->text))
		abort();
}

static void manifest(struct registry *reg, const struct registry_at *at, const struct digest *want)
{
	char content_type[LIMIT_NAME], text[DIGEST_TEXT];
	_cleanup_buf_ struct buf out;
	struct err e = ERR_INIT;
	struct digest said, is;
	int r;

	buf_init(&out, 4096);
	r = registry_manifest(reg, at, want ? digest_text(want, text) : "v1", &out, content_type,
			      &said, &e);
	if (r < 0) {
		failed(r, &e);
		return;
	}
	if (digest_of(out.data, out.len, &is) < 0 || !digest_equal(&said, &is) ||
	    (want && !digest_equal(want, &is)) || !memchr(content_type, 0, LIMIT_NAME))
		abort();
}

static void blob(struct registry *reg, const struct registry_at *at, const struct digest *want)
{
	_cleanup_buf_ struct buf out;
	struct err e = ERR_INIT;
	struct digest is;
	int r;

	buf_init(&out, 4096);
	r = registry_blob(reg, at, want, &out, &e);
	if (r < 0)
		failed(r, &e);
	else if (digest_of(out.data, out.len, &is) < 0 || !digest_equal(want, &is))
		abort();
}

/* As many bytes as were asked for, or a failure. */
static void range(struct registry *reg, const struct registry_at *at, const struct digest *want,
		  uint64_t off, uint64_t len, uint64_t size)
{
	_cleanup_(stream_freep) struct stream *s = NULL;
	struct err e = ERR_INIT;
	uint8_t bytes[16];
	uint64_t got = 0;
	ssize_t n;

	n = registry_blob_range(reg, at, want, size, off, len, &s, &e);
	if (n < 0) {
		failed((int)n, &e);
		return;
	}
	while ((n = s->read(s, bytes, sizeof(bytes), &e)) > 0)
		got += (uint64_t)n;
	if (n < 0)
		failed((int)n, &e);
	if (got > len || (n == 0 && got != len))
		abort();
}

/* The digest of the last answer's body. */
static void true_digest(const uint8_t *data, size_t size, struct digest *ret)
{
	const uint8_t *last = size ? memrchr(data, ANSWER_END, size) : NULL;
	const uint8_t *p = last ? last + 1 : data, *end = data + size, *body;

	body = p < end ? memmem(p, (size_t)(end - p), "\n\n", 2) : NULL;
	body = body ? body + 2 : end;
	if (digest_of(body, (size_t)(end - body), ret) < 0)
		abort();
}

static void ask(struct registry *reg, const struct registry_at *at, const struct digest *want,
		int what)
{
	sends = 0;
	switch (what) {
	case 'm':
		manifest(reg, at, NULL);
		break;
	case 'd':
		manifest(reg, at, want);
		break;
	case 'b':
		blob(reg, at, want);
		break;
	case 'r':
		range(reg, at, want, 10, 20, 100);
		break;
	default:
		range(reg, at, want, 0, 20, 20);
	}
	if (open_call)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct registry_options opt = {.user_agent = "tarn"};
	struct registry_at at = {.host = REGISTRY, .repo = "team/app"};
	_cleanup_(registry_freep) struct registry *reg = NULL;
	_cleanup_free_ char *copy = calloc(1, size + 1);
	struct digest want = {.sum = {1}};

	if (!copy || size < 2 || registry_new(&opt, &reg, NULL) < 0)
		return 0;
	flags = data[1];
	at.plain_http = flags & FLAG_PLAIN;
	if (flags & FLAG_LOGIN) {
		memcpy(at.user, "user", sizeof("user"));
		memcpy(at.secret, SECRET, sizeof(SECRET));
	}
	if (flags & FLAG_TRUE)
		true_digest(data + 2, size - 2, &want);
	memcpy(copy, data + 2, size - 2);
	given = memmem(copy, size, SECRET, strlen(SECRET)) != NULL;
	input = copy;
	input_len = size - 2;
	input_at = 0;
	named[0] = '\0';
	call = (struct http_call){.length = -1};
	ask(reg, &at, &want, data[0]);
	/* With the token and the place that the first answer taught us. */
	if (flags & FLAG_TWICE)
		ask(reg, &at, &want, data[0]);
	return 0;
}
