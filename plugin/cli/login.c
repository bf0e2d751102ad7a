/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/login.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "oci/ref.h"

/* How keys of "auths" spell Docker Hub, besides by our name for its API. */
#define HUB_API "registry-1.docker.io"
static const char *const hub_names[] = {"docker.io", "index.docker.io", HUB_API};

/* "dXNlcjpwYXNz" → "user", "pass". 1, or 0 when it is no such thing. */
static int decode(const char *auth, char **ret_user, char **ret_secret)
{
	size_t len = strlen(auth), pad = 0;
	_cleanup_free_ unsigned char *text = NULL;
	char *colon;
	int n;

	if (len == 0 || len % 4 != 0 || len > LIMIT_TOKEN)
		return 0;
	text = malloc(len / 4 * 3 + 1);
	if (!text)
		return -ENOMEM;
	n = EVP_DecodeBlock(text, (const unsigned char *)auth, (int)len);
	while (pad < 2 && auth[len - 1 - pad] == '=')
		pad++;
	if (n < (int)pad)
		return 0;
	text[(size_t)n - pad] = '\0';
	colon = strchr((char *)text, ':');
	if (!colon)
		return 0;
	*colon = '\0';
	*ret_user = strdup((char *)text);
	*ret_secret = strdup(colon + 1);
	explicit_bzero(text, len / 4 * 3);
	if (*ret_user && *ret_secret)
		return 1;
	free(*ret_user);
	free(*ret_secret);
	return -ENOMEM;
}

/* Old keys are URLs: "https://index.docker.io/v1/". */
static size_t strip(const char **key)
{
	const char *p = strstr(*key, "://");
	size_t n;

	if (p)
		*key = p + 3;
	n = strlen(*key);
	if (p && n > 4 && (strcmp(*key + n - 4, "/v1/") == 0 || strcmp(*key + n - 4, "/v2/") == 0))
		n -= 4;
	while (n > 0 && (*key)[n - 1] == '/')
		n--;
	return n;
}

/* Is @key a prefix of @name by whole components? Its length, or 0. */
static size_t match(const char *key, const char *name)
{
	size_t n = strip(&key);

	if (strncmp(key, name, n) != 0 || (name[n] != '\0' && name[n] != '/'))
		return 0;
	return n;
}

/* The "auth" of the longest key that covers host/repo, or NULL. */
static const char *find_auth(const struct json *auths, const char *host, const char *repo)
{
	char name[2 * LIMIT_NAME + 2];
	const char *best = NULL;
	size_t best_len = 0;

	snprintf(name, sizeof(name), "%s/%s", host, repo);
	for (size_t i = 0; i < json_count(auths); i++) {
		const char *auth = json_get_str(json_value_at(auths, i), "auth");
		const char *key = json_key_at(auths, i); /* NULL: it is a list */
		size_t n = key ? match(key, name) : 0;

		if (auth && n > best_len) {
			best_len = n;
			best = auth;
		}
	}
	return best;
}

static int look_in(const char *path, const struct ref *ref, char **ret_user, char **ret_secret,
		   struct err *e)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(json_freep) struct json *doc = NULL;
	const char *auth = NULL;
	_cleanup_buf_ struct buf b = {0};
	int r;

	buf_init(&b, LIMIT_AUTH_FILE);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : err_errno(e, -errno, "%s", path);
	r = fd_read_all(fd, &b);
	if (r < 0)
		return err_errno(e, r, "%s", path);
	r = json_parse(b.data, b.len, LIMIT_AUTH_FILE, path, &doc, e);
	if (r == 0 && strcmp(ref->host, HUB_API) == 0)
		for (size_t i = 0; !auth && i < ARRAY_LEN(hub_names); i++)
			auth = find_auth(json_get(doc, "auths"), hub_names[i], ref->repo);
	else if (r == 0)
		auth = find_auth(json_get(doc, "auths"), ref->host, ref->repo);
	r = r < 0 ? err_wrap(e, -EBADMSG, "credentials") : 0;
	if (auth)
		r = decode(auth, ret_user, ret_secret);
	if (b.data)
		explicit_bzero(b.data, b.len);
	return r;
}

/* @dir/@name from the environment variable @var; false when it is not set. */
static bool below(const char *var, const char *name, char path[LIMIT_PATH])
{
	const char *dir = getenv(var);
	int n;

	if (!dir || !dir[0])
		return false;
	n = snprintf(path, LIMIT_PATH, "%s%s", dir, name);
	return n > 0 && n < LIMIT_PATH;
}

int login_find(const struct ref *ref, char **ret_user, char **ret_secret, struct err *e)
{
	static const struct {
		const char *var, *name;
	} places[] = {
		{"XDG_RUNTIME_DIR", "/containers/auth.json"},
		{"HOME", "/.config/containers/auth.json"},
		{"DOCKER_CONFIG", "/config.json"},
		{"HOME", "/.docker/config.json"},
	};
	char path[LIMIT_PATH];
	int r = 0;

	if (ref->kind != REF_REGISTRY)
		return 0;
	if (below("REGISTRY_AUTH_FILE", "", path))
		return look_in(path, ref, ret_user, ret_secret, e);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(places); i++)
		if (below(places[i].var, places[i].name, path))
			r = look_in(path, ref, ret_user, ret_secret, e);
	return r;
}
