/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/sources.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "plugin/log.h"
#include "plugin/store/kept.h"

#define SOURCES_VERSION 1

void sources_free(struct sources *s)
{
	free(s->v);
	*s = (struct sources){.n = 0};
}

static bool same(const struct source *a, const struct source *b)
{
	if (a->local != b->local || !digest_equal(&a->blob, &b->blob))
		return false;
	if (a->local)
		return strcmp(a->dir, b->dir) == 0;
	return strcmp(a->at.host, b->at.host) == 0 && strcmp(a->at.repo, b->at.repo) == 0 &&
	       a->at.plain_http == b->at.plain_http && a->at.insecure_tls == b->at.insecure_tls;
}

static void drop(struct sources *s, size_t i)
{
	s->n--;
	memmove(&s->v[i], &s->v[i + 1], (s->n - i) * sizeof(*s->v));
}

int sources_add(struct sources *s, const struct source *one)
{
	struct source *v = reallocarray(s->v, s->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	s->v = v;
	for (size_t i = 0; i < s->n; i++) {
		if (same(&s->v[i], one)) {
			drop(s, i);
			break;
		}
	}
	if (s->n >= LIMIT_SOURCES)
		drop(s, 0);
	s->v[s->n++] = *one;
	return 0;
}

/* --- as JSON --- */

static void put_source(struct json_gen *g, const struct source *s)
{
	char text[DIGEST_TEXT];

	json_open_map(g, NULL);
	json_put_str(g, "kind", s->local ? "layout" : "registry");
	if (s->local) {
		json_put_str(g, "dir", s->dir);
	} else {
		json_put_str(g, "host", s->at.host);
		json_put_str(g, "repo", s->at.repo);
		json_put_bool(g, "plain_http", s->at.plain_http);
		json_put_bool(g, "insecure_tls", s->at.insecure_tls);
	}
	json_put_str(g, "blob", digest_text(&s->blob, text));
	json_put_int(g, "size", (int64_t)s->blob_size);
	json_close_map(g);
}

int sources_encode(const struct sources *s, struct buf *out)
{
	_cleanup_(json_gen_freep) struct json_gen *g = json_gen_new(out, true);

	if (!g)
		return -ENOMEM;
	json_open_map(g, NULL);
	json_put_int(g, "version", SOURCES_VERSION);
	json_open_array(g, "sources");
	for (size_t i = 0; i < s->n; i++)
		put_source(g, &s->v[i]);
	json_close_array(g);
	json_close_map(g);
	return out->failed;
}

static bool get_text(const struct json *v, const char *key, char *out, size_t size)
{
	const char *text = json_get_str(v, key);

	if (!text || strlen(text) >= size)
		return false;
	memcpy(out, text, strlen(text) + 1);
	return true;
}

static bool get_source(const struct json *v, struct source *ret)
{
	const char *kind = json_get_str(v, "kind"), *blob = json_get_str(v, "blob");
	int64_t size;

	if (!kind || !blob || digest_parse(blob, &ret->blob, NULL) < 0 ||
	    !json_get_int(v, "size", &size) || size < 0)
		return false;
	ret->blob_size = (uint64_t)size;
	ret->local = strcmp(kind, "layout") == 0;
	if (ret->local)
		return get_text(v, "dir", ret->dir, sizeof(ret->dir)) && ret->dir[0] == '/';
	ret->at.plain_http = json_bool(json_get(v, "plain_http"), false);
	ret->at.insecure_tls = json_bool(json_get(v, "insecure_tls"), false);
	return strcmp(kind, "registry") == 0 &&
	       get_text(v, "host", ret->at.host, sizeof(ret->at.host)) &&
	       get_text(v, "repo", ret->at.repo, sizeof(ret->at.repo));
}

int sources_decode(const void *data, size_t len, const char *what, struct sources *ret,
		   struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_(sources_free) struct sources s = {.n = 0};
	_cleanup_free_ struct source *one = NULL;
	const struct json *list;
	int64_t version;
	int r;

	r = json_parse(data, len, LIMIT_SOURCES_FILE, what, &doc, e);
	if (r < 0)
		return r == -ENOMEM ? r : -EBADMSG;
	list = json_get(doc, "sources");
	if (!json_get_int(doc, "version", &version) || version != SOURCES_VERSION ||
	    !json_is_array(list) || json_count(list) > LIMIT_SOURCES)
		return err_set(e, -EBADMSG, "%s: not a list of sources of version %d", what,
			       SOURCES_VERSION);
	for (size_t i = 0; i < json_count(list); i++) {
		free(one);
		one = calloc(1, sizeof(*one));
		if (!one)
			return err_errno(e, -ENOMEM, "%s", what);
		if (!get_source(json_at(list, i), one))
			return err_set(e, -EBADMSG, "%s: sources[%zu] is none", what, i);
		r = sources_add(&s, one);
		if (r < 0)
			return err_errno(e, r, "%s", what);
	}
	*ret = s;
	s = (struct sources){.n = 0};
	return 0;
}

/* --- in the store --- */

int sources_load(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		 struct sources *ret, struct err *e)
{
	struct keep_file f = file_of_layer(KEEP_SOURCES, diff_id, scope);
	char what[DIGEST_TEXT + 24] = "sources.json of layer ";
	struct err why = ERR_INIT;
	_cleanup_buf_ struct buf b;
	int r;

	buf_init(&b, LIMIT_SOURCES_FILE);
	digest_text(diff_id, what + strlen(what));
	r = file_read(en, &f, &b, &why);
	if (r == 0)
		r = sources_decode(b.data, b.len, what, ret, &why);
	if (r == 0)
		return 0;
	if (r != -ENOENT && r != -EBADMSG)
		return err_take(e, r, why.text, &why.links);
	if (r == -EBADMSG)
		log_warn("%s", why.text);
	*ret = (struct sources){.n = 0};
	return 0;
}

int sources_remember(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		     const struct source *one, struct err *e)
{
	struct keep_file f = file_of_layer(KEEP_SOURCES, diff_id, scope);
	_cleanup_(sources_free) struct sources s = {.n = 0};
	_cleanup_buf_ struct buf b;
	int r;

	buf_init(&b, LIMIT_SOURCES_FILE);
	r = sources_load(en, diff_id, scope, &s, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s.n; i++)
		if (same(&s.v[i], one))
			return 0;
	r = sources_add(&s, one);
	if (r == 0)
		r = sources_encode(&s, &b);
	if (r < 0)
		return err_errno(e, r, "sources.json");
	return file_write(en, &f, b.data, b.len, e);
}
