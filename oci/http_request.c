/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/http_call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/ref.h"
#include "oci/url.h"

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

/* Nothing to look up. No top-level domain is a number, so digits and dots are an address. */
static bool is_address(const char *host)
{
	return host[0] == '[' || !host[strspn(host, "0123456789.")];
}

/* Looks the name up outside of libcurl, which would need the file system for it. */
static int build_resolve(struct http_call *c, const struct http_request *rq, struct err *e)
{
	char host[LIMIT_NAME], addrs[512], entry[LIMIT_NAME + sizeof(addrs) + 32];
	int r;

	if (!c->h->opt.resolve)
		return 0;
	url_host(rq->url, host);
	if (is_address(host))
		return 0;
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
	curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO_BLOB, &ca);
	curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, NULL);
}

static void set_proxy(CURL *easy, const struct http_options *opt, const char *url)
{
	const struct proxies *p = &opt->proxies;
	const char *proxy = url_is_https(url) ? p->https : p->http;
	char host[LIMIT_NAME];

	/* To a proxy that would be its own machine. */
	if (ref_host_is_loopback(url_host(url, host)))
		proxy = NULL;
	/* Empty, and not left out: libcurl would look into the environment. */
	curl_easy_setopt(easy, CURLOPT_PROXY, proxy ? proxy : "");
	curl_easy_setopt(easy, CURLOPT_NOPROXY, p->none ? p->none : "");
	/* What is said to the registry is not for the proxy, nor its answer the registry's. */
	curl_easy_setopt(easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
}

void http_call_setup(struct http_call *c, const struct http_request *rq)
{
	const struct http_options *opt = &c->h->opt;
	CURL *easy = c->h->easy;

	curl_easy_reset(easy);
	curl_easy_setopt(easy, CURLOPT_URL, rq->url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	/* One transfer at a time: HTTP/2 would add a parser and save nothing. */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, opt->user_agent);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, c->headers);
	if (c->resolve)
		curl_easy_setopt(easy, CURLOPT_RESOLVE, c->resolve);
	if (c->form)
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, c->form);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)opt->connect_timeout_ms);
	/* A resolver that gets no answer is not waited for once the time to connect is over. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, RECEIVE);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->errbuf);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, http_on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, http_on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, c);
	set_tls(easy, opt, rq->insecure_tls);
	set_proxy(easy, opt, rq->url);
}

int http_call_build(struct http_call *c, const struct http_request *rq, struct err *e)
{
	c->what = strdup(rq->what);
	if (rq->form)
		c->form = strdup(rq->form);
	if (!c->what || (rq->form && !c->form) || build_headers(c, rq) < 0)
		return err_errno(e, -ENOMEM, "%s", rq->what);
	return build_resolve(c, rq, e);
}

static void wipe_slist(struct curl_slist *list)
{
	for (struct curl_slist *i = list; i; i = i->next)
		explicit_bzero(i->data, strlen(i->data));
	curl_slist_free_all(list);
}

void http_call_unbuild(struct http_call *c)
{
	wipe_slist(c->headers);
	curl_slist_free_all(c->resolve);
	if (c->form)
		explicit_bzero(c->form, strlen(c->form));
	free(c->form);
	free(c->what);
}

/* --- failures -------------------------------------------------------------------------------- */

static int transport_code(CURLcode result, long os_errno)
{
	switch (result) {
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
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

int http_call_failure(struct http_call *c, struct err *e)
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
