/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oci/auth.h"
#include "oci/base/cleanup.h"
#include "oci/range.h"
#include "oci/url.h"

static bool clean(const char *s)
{
	for (; *s; s++)
		if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
			return false;
	return true;
}

/* Every challenge moves on in the text and holds nothing that could split a header or a line. */
static void challenges(const char *text)
{
	const char *end = text + strlen(text);
	const char *p = text;
	struct auth_challenge c;

	for (const char *before = p; auth_challenge_next(&p, &c) > 0; before = p) {
		if (p <= before || p > end)
			abort();
		if (!clean(c.realm) || !clean(c.service) || !clean(c.scope))
			abort();
	}
}

/* What goes to the token server is a URL of one line, and of the scheme that was asked for. */
static void token_url(const char *text)
{
	struct auth_challenge best = {.scheme = AUTH_OTHER};
	_cleanup_free_ char *url = NULL;
	char host[LIMIT_NAME];

	(void)auth_challenge_best(text, &best);
	if (best.scheme != AUTH_BEARER)
		return;
	if (url_token(best.realm, true, best.service, best.scope, &url, NULL) < 0)
		return;
	if (!url_is_https(url) || !clean(url) || strchr(url, ' ') || strlen(url) >= LIMIT_URL)
		abort();
	url_host(url, host);
}

/* Where a redirect leads is never from https to http. */
static void redirect(const char *text)
{
	_cleanup_free_ char *url = NULL;

	if (url_follow("https://registry.example/v2/a/blobs/b", text, &url, NULL) < 0)
		return;
	if (!url_is_https(url) || !clean(url) || strchr(url, ' '))
		abort();
}

static void token(const char *text, size_t len)
{
	_cleanup_(auth_wipep) char *got = NULL;
	uint32_t s;

	if (auth_token_parse(text, len, &got, &s, NULL) < 0)
		return;
	if (!clean(got) || strchr(got + strlen("Bearer "), ' ') || strlen(got) > LIMIT_TOKEN + 7)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a server writes into the headers and answers that steer the client. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = malloc(size + 1);
	struct content_range range;

	memcpy(text, data, size);
	text[size] = '\0';
	challenges(text);
	token_url(text);
	redirect(text);
	token(text, size);
	if (content_range_parse(text, &range) == 0 &&
	    (range.first > range.last || range.last >= range.total))
		abort();
	return 0;
}
