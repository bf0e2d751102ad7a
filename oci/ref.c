/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/ref.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"

#define FORMS "oci:DIR[:REF], docker://HOST[:PORT]/REPO[:TAG|@DIGEST] or HOST/REPO"

/* distribution-spec: [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127} */
#define TAG_MAX 128

/*
 * Docker Hub goes by a name that serves no API, and images of its own are written without the
 * "library/" they are kept under.
 */
#define HUB_NAME "docker.io"
#define HUB_API  "registry-1.docker.io"

/* A piece of the text that is being parsed. */
struct span {
	const char *p; /* borrowed */
	size_t len;
};

/* <ctype.h> asks the locale; the grammars here are ASCII. */
static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_lower(c) || is_digit(c) || (c >= 'A' && c <= 'Z');
}

static bool span_is(struct span s, const char *text)
{
	return strlen(text) == s.len && strncasecmp(s.p, text, s.len) == 0;
}

/* The caller has checked that @s fits. */
static void span_copy(struct span s, char *dst)
{
	memcpy(dst, s.p, s.len);
	dst[s.len] = '\0';
}

/* The end of one run of separators between alphanumerics: ".", "_", "__" or any number of "-". */
static const char *skip_separator(const char *p, const char *end)
{
	const char *start = p;

	if (p < end && *p == '.')
		return p + 1;
	while (p < end && *p == '_' && p - start < 2)
		p++;
	if (p > start)
		return p;
	while (p < end && *p == '-')
		p++;
	return p;
}

/*
 * distribution-spec, "Pulling manifests":
 * [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
 */
static bool repo_ok(struct span s)
{
	const char *p = s.p, *end = s.p + s.len;

	for (;;) {
		const char *word = p;

		while (p < end && (is_lower(*p) || is_digit(*p)))
			p++;
		if (p == word)
			return false;
		if (p == end)
			return true;
		word = p;
		p = *p == '/' ? p + 1 : skip_separator(p, end);
		if (p == word)
			return false;
	}
}

static bool tag_ok(struct span s)
{
	if (s.len == 0 || s.len > TAG_MAX || s.p[0] == '.' || s.p[0] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (!is_alnum(s.p[i]) && !strchr("._-", s.p[i]))
			return false;
	}
	return true;
}

static bool port_ok(const char *p, const char *end)
{
	unsigned long port = 0;

	if (p == end || end - p > 5)
		return false;
	for (; p < end; p++) {
		if (!is_digit(*p))
			return false;
		port = port * 10 + (unsigned long)(*p - '0');
	}
	return port >= 1 && port <= 65535;
}

static bool host_name_ok(const char *name)
{
	if (!is_alnum(*name))
		return false;
	for (; *name; name++) {
		if (!is_alnum(*name) && *name != '.' && *name != '-')
			return false;
	}
	return true;
}

/* A host without its port, and without the brackets of an IPv6 address. */
struct host {
	char name[LIMIT_NAME];
	bool v6;
	struct in6_addr addr; /* when v6 */
};

static bool host_parse(struct span text, struct host *ret)
{
	const char *end = text.p + text.len, *rest;
	struct span name = text;

	if (text.len == 0 || text.len >= LIMIT_NAME)
		return false;
	ret->v6 = *text.p == '[';
	rest = memchr(text.p, ret->v6 ? ']' : ':', text.len);
	if (ret->v6) {
		if (!rest)
			return false;
		name.p++;
		name.len = (size_t)(rest++ - name.p);
	} else if (rest) {
		name.len = (size_t)(rest - name.p);
	}
	span_copy(name, ret->name);
	if (ret->v6 ? inet_pton(AF_INET6, ret->name, &ret->addr) != 1 : !host_name_ok(ret->name))
		return false;
	return !rest || rest == end || (*rest == ':' && port_ok(rest + 1, end));
}

bool ref_host_is_loopback(const char *host)
{
	struct in_addr addr;
	struct host h;

	if (!host_parse((struct span){host, strlen(host)}, &h))
		return false;
	if (h.v6)
		return IN6_IS_ADDR_LOOPBACK(&h.addr);
	/* A name that only starts with "127." may lead anywhere. */
	if (inet_pton(AF_INET, h.name, &addr) == 1)
		return ntohl(addr.s_addr) >> 24 == 127;
	return strcasecmp(h.name, "localhost") == 0;
}

bool ref_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= LIMIT_REF)
		return false;
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
			return false;
	}
	return true;
}

static int parse_layout(const char *text, const char *rest, struct ref *ret, struct err *e)
{
	struct span dir = {rest, strcspn(rest, ":")};
	const char *name = rest[dir.len] ? rest + dir.len + 1 : NULL;

	if (dir.len == 0)
		return err_set(e, -EINVAL, "'%.200s' names no directory: expected oci:DIR[:REF]",
			       text);
	if (dir.len >= sizeof(ret->dir))
		return err_set(e, -EINVAL, "'%.200s…': the directory is longer than %zu bytes",
			       text, sizeof(ret->dir) - 1);
	if (name && (!*name || strlen(name) >= sizeof(ret->tag)))
		return err_set(e, -EINVAL,
			       "'%.200s': the name after the second ':' must have 1 to %zu bytes",
			       text, sizeof(ret->tag) - 1);
	ret->kind = REF_LAYOUT;
	span_copy(dir, ret->dir);
	span_copy((struct span){name ? name : "", name ? strlen(name) : 0}, ret->tag);
	return 0;
}

/* Cuts "@DIGEST" and then ":TAG" off the end of @repo. */
static int parse_version(const char *text, struct span *repo, struct ref *ret, struct err *e)
{
	const char *at = memchr(repo->p, '@', repo->len);
	const char *end = at ? at : repo->p + repo->len;
	const char *colon = memchr(repo->p, ':', (size_t)(end - repo->p));
	int r;

	if (at) {
		r = digest_parse(at + 1, &ret->digest, e);
		if (r < 0)
			return err_wrap(e, r, "'%.200s'", text);
		ret->has_digest = true;
	}
	if (colon) {
		struct span tag = {colon + 1, (size_t)(end - colon - 1)};

		if (!tag_ok(tag))
			return err_set(
				e, -EINVAL,
				"'%.200s': '%.*s' is not a tag (letters, digits, '_', '.' and '-', "
				"at most %d)",
				text, (int)(tag.len < 140 ? tag.len : 140), tag.p, TAG_MAX);
		span_copy(tag, ret->tag);
	} else if (!at) {
		span_copy((struct span){"latest", 6}, ret->tag);
	}
	repo->len = (size_t)((colon ? colon : end) - repo->p);
	return 0;
}

/* Docker's rule: what stands before the first '/' is a host when it could not be a name. */
static bool looks_like_host(struct span s)
{
	return memchr(s.p, '.', s.len) || memchr(s.p, ':', s.len) || span_is(s, "localhost");
}

static int set_host_repo(const char *text, struct span host, struct span repo, struct ref *ret,
			 struct err *e)
{
	bool hub = span_is(host, HUB_NAME) || span_is(host, "index." HUB_NAME) ||
		   span_is(host, HUB_API);
	const char *prefix = hub && !memchr(repo.p, '/', repo.len) ? "library/" : "";
	size_t total;

	if (hub)
		host = (struct span){HUB_API, strlen(HUB_API)};
	total = host.len + 1 + strlen(prefix) + repo.len;
	if (total >= LIMIT_NAME)
		return err_set(e, -EINVAL, "'%.200s…': host and name are longer than %d bytes",
			       text, LIMIT_NAME - 1);
	/* Host names do not differ by case; credentials are looked up by the text. */
	for (size_t i = 0; i < host.len; i++)
		ret->host[i] = (char)(host.p[i] | (host.p[i] >= 'A' && host.p[i] <= 'Z' ? 32 : 0));
	ret->host[host.len] = '\0';
	memcpy(ret->repo, prefix, strlen(prefix));
	span_copy(repo, ret->repo + strlen(prefix));
	ret->plain_http = ref_host_is_loopback(ret->host);
	return 0;
}

static int parse_registry(const char *text, const char *rest, struct ref *ret, struct err *e)
{
	const char *slash = strchr(rest, '/');
	struct span host = {rest, slash ? (size_t)(slash - rest) : 0};
	struct host parsed;
	struct span repo;
	int r;

	if (!slash || !looks_like_host(host))
		return err_set(e, -EINVAL,
			       "'%.200s' names no registry host: expected " FORMS
			       " (images of Docker Hub: " HUB_NAME "/NAME)",
			       text);
	if (!host_parse(host, &parsed))
		return err_set(e, -EINVAL,
			       "'%.200s': '%.*s' is not a host name with a port or without: "
			       "expected " FORMS,
			       text, (int)(host.len < 100 ? host.len : 100), host.p);
	repo = (struct span){slash + 1, strlen(slash + 1)};
	r = parse_version(text, &repo, ret, e);
	if (r < 0)
		return r;
	if (!repo_ok(repo))
		return err_set(e, -EINVAL,
			       "'%.200s': '%.*s' is not a repository name (lower-case letters and "
			       "digits, parted by '.', '_', '-' or '/')",
			       text, (int)(repo.len < 100 ? repo.len : 100), repo.p);
	ret->kind = REF_REGISTRY;
	return set_host_repo(text, host, repo, ret, e);
}

int ref_parse(const char *text, struct ref *ret, struct err *e)
{
	static const char layout[] = "oci:", docker[] = "docker://";
	struct ref ref = {.kind = REF_LAYOUT};
	const char *rest = text;
	int r;

	if (strncmp(text, layout, strlen(layout)) == 0) {
		r = parse_layout(text, text + strlen(layout), &ref, e);
	} else {
		if (strncmp(text, docker, strlen(docker)) == 0)
			rest += strlen(docker);
		if (strstr(rest, "://") || *rest == '/' || strncmp(rest, "./", 2) == 0 ||
		    strncmp(rest, "../", 3) == 0)
			return err_set(e, -EINVAL, "'%.200s' is not an image: expected " FORMS,
				       text);
		r = parse_registry(text, rest, &ref, e);
	}
	if (r < 0)
		return r;
	*ret = ref;
	return 0;
}

/* The last component of @dir, or a word for a directory that has no name of its own. */
static struct span base_name(const char *dir)
{
	size_t end = strlen(dir), start;

	while (end > 0 && dir[end - 1] == '/')
		end--;
	start = end;
	while (start > 0 && dir[start - 1] != '/')
		start--;
	if (start == end || span_is((struct span){dir + start, end - start}, ".") ||
	    span_is((struct span){dir + start, end - start}, ".."))
		return (struct span){"layout", 6};
	return (struct span){dir + start, end - start};
}

void ref_default_name(const struct ref *r, char out[LIMIT_REF])
{
	const char *host = strcmp(r->host, HUB_API) == 0 ? HUB_NAME : r->host;
	struct span base = base_name(r->dir);
	char digest[DIGEST_TEXT];
	int n;

	if (r->kind == REF_LAYOUT)
		n = snprintf(out, LIMIT_REF, "%.*s%s%s", (int)base.len, base.p, *r->tag ? ":" : "",
			     r->tag);
	else if (*r->tag)
		n = snprintf(out, LIMIT_REF, "%s/%s:%s", host, r->repo, r->tag);
	else
		n = snprintf(out, LIMIT_REF, "%s/%s@%s", host, r->repo,
			     digest_text(&r->digest, digest));
	/* Half a name is the name of something else; none is refused by ref_name_valid(). */
	if (n < 0 || n >= LIMIT_REF)
		out[0] = '\0';
}
