/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/login.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "oci/auth.h"
#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "oci/ref.h"
#include "plugin/cli/login_helper.h"

/* How keys of "auths" spell Docker Hub, besides by our name for its API. */
#define HUB_API    "registry-1.docker.io"
#define HUB_SERVER "https://index.docker.io/v1/" /* what helpers know it as */
static const char *const hub_names[] = {"docker.io", "index.docker.io", HUB_API};

void login_done(struct login *l)
{
	if (l->secret)
		explicit_bzero(l->secret, strlen(l->secret));
	free(l->secret);
	free(l->user);
}

/* "dXNlcjpwYXNz" → "user", "pass". 1, or 0 when it is no such thing. */
static int decode(const char *auth, struct login *ret)
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
	if (colon) {
		*colon = '\0';
		ret->user = strdup((char *)text);
		ret->secret = strdup(colon + 1);
	}
	explicit_bzero(text, len / 4 * 3);
	if (!colon)
		return 0;
	return ret->user && ret->secret ? 1 : -ENOMEM;
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

/* The member of @map with the longest key that covers host/repo; its length to @ret_len. */
static const struct json *find(const struct json *map, const char *host, const char *repo,
			       size_t *ret_len)
{
	char name[2 * LIMIT_NAME + 2];
	const struct json *best = NULL;

	*ret_len = 0;
	snprintf(name, sizeof(name), "%s/%s", host, repo);
	for (size_t i = 0; i < json_count(map); i++) {
		const char *key = json_key_at(map, i); /* NULL: it is a list */
		size_t n = key ? match(key, name) : 0;

		if (n > *ret_len) {
			*ret_len = n;
			best = json_value_at(map, i);
		}
	}
	return best;
}

static int read_entry(const struct json *entry, struct login *ret)
{
	const char *token = json_get_str(entry, "identitytoken");
	const char *auth = json_get_str(entry, "auth");

	if (!token || !token[0])
		return auth ? decode(auth, ret) : 0;
	ret->user = strdup(AUTH_IDENTITY_USER);
	ret->secret = strdup(token);
	return ret->user && ret->secret ? 1 : -ENOMEM;
}

/* @server is what helpers know @host as. */
static int look_for(const struct json *doc, const char *host, const char *server, const char *repo,
		    struct login *ret, struct err *e)
{
	size_t helper_len, entry_len;
	const struct json *helpers = json_get(doc, "credHelpers");
	const char *helper = json_str(find(helpers, host, repo, &helper_len));
	const struct json *entry = find(json_get(doc, "auths"), host, repo, &entry_len);
	int r;

	if (helper && helper[0] && helper_len >= entry_len)
		return login_helper_ask(helper, server, ret, e);
	r = read_entry(entry, ret);
	return r < 0 ? err_errno(e, r, "credentials") : r;
}

/* All names of the host, before the helper that is for all hosts. */
static int look_in_doc(const struct json *doc, const struct ref *ref, struct login *ret,
		       struct err *e)
{
	bool hub = strcmp(ref->host, HUB_API) == 0;
	const char *server = hub ? HUB_SERVER : ref->host;
	const char *store = json_get_str(doc, "credsStore");
	int r = 0;

	for (size_t i = 0; hub && r == 0 && i < ARRAY_LEN(hub_names); i++)
		r = look_for(doc, hub_names[i], server, ref->repo, ret, e);
	if (!hub)
		r = look_for(doc, ref->host, server, ref->repo, ret, e);
	if (r == 0 && store && store[0])
		r = login_helper_ask(store, server, ret, e);
	return r;
}

static int look_in(const char *path, bool must, const struct ref *ref, struct login *ret,
		   struct err *e)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_buf_ struct buf b = {0};
	int r;

	if (fd < 0 && !must && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0)
		return err_errno(e, -errno, "%s", path);
	buf_init(&b, LIMIT_AUTH_FILE);
	r = fd_read_all(fd, &b);
	if (r < 0)
		return err_errno(e, r, "%s", path);
	r = json_parse(b.data, b.len, LIMIT_AUTH_FILE, path, &doc, e);
	if (b.data)
		explicit_bzero(b.data, b.len);
	if (r < 0)
		return err_wrap(e, -EBADMSG, "credentials");
	r = look_in_doc(doc, ref, ret, e);
	return r < 0 ? err_wrap(e, r, "%s", path) : r;
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

int login_find(const struct ref *ref, const char *authfile, struct login *ret, struct err *e)
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
	if (authfile)
		return look_in(authfile, true, ref, ret, e);
	if (below("REGISTRY_AUTH_FILE", "", path))
		return look_in(path, false, ref, ret, e);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(places); i++)
		if (below(places[i].var, places[i].name, path))
			r = look_in(path, false, ref, ret, e);
	return r;
}
