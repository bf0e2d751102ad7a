/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/bundle.h"

#include <errno.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"

/* Highest id there is: (uint32_t)-1 means "no change" to the kernel. */
#define ID_MAX 0xfffffffeu

/* A piece of passwd, of group or of the user that is looked up. */
struct field {
	const char *p; /* borrowed */
	size_t len;
};

/* Half of "user:group": a name or a number. */
struct spec {
	struct field text;
	bool numeric;
	uint32_t id;
};

static bool field_equal(struct field a, struct field b)
{
	return a.len == b.len && memcmp(a.p, b.p, a.len) == 0;
}

static bool all_digits(struct field f)
{
	size_t i = 0;

	while (i < f.len && f.p[i] >= '0' && f.p[i] <= '9')
		i++;
	return f.len > 0 && i == f.len;
}

static bool parse_id(struct field f, uint32_t *ret)
{
	uint64_t id = 0;

	if (!all_digits(f))
		return false;
	for (size_t i = 0; i < f.len; i++) {
		id = id * 10 + (uint64_t)(f.p[i] - '0');
		if (id > ID_MAX)
			return false;
	}
	*ret = (uint32_t)id;
	return true;
}

static int parse_spec(struct field text, const char *what, struct spec *ret, struct err *e)
{
	struct spec s = {.text = text, .numeric = all_digits(text)};

	if (s.numeric && !parse_id(text, &s.id))
		return err_set(e, -EINVAL, "%s %.*s is larger than any id", what,
			       (int)(text.len < 60 ? text.len : 60), text.p);
	*ret = s;
	return 0;
}

/* A number names an id, whatever else has it for a name. */
static bool spec_is(const struct spec *s, struct field name, uint32_t id)
{
	return s->numeric ? s->id == id : field_equal(s->text, name);
}

/* Cuts the next part up to @sep off the front of *rest; false at the end. */
static bool next_part(struct field *rest, char sep, struct field *ret)
{
	const char *end;

	if (!rest->p)
		return false;
	end = memchr(rest->p, sep, rest->len);
	*ret = (struct field){rest->p, end ? (size_t)(end - rest->p) : rest->len};
	if (end)
		*rest = (struct field){end + 1, rest->len - ret->len - 1};
	else
		*rest = (struct field){NULL, 0};
	return true;
}

/* Splits a line of @n or more parts; comments and shorter lines are none (passwd(5), group(5)). */
static bool split_line(struct field line, struct field *part, size_t n)
{
	if (line.len == 0 || line.p[0] == '#')
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!next_part(&line, ':', &part[i]))
			return false;
	}
	return true;
}

static struct field text_of(const char *s)
{
	return (struct field){s, s ? strlen(s) : 0};
}

/* The first line for @user, as name:password:uid:gid:gecos:home. False when there is none. */
static bool find_user(const char *passwd, const struct spec *user, struct bundle_user *u,
		      struct field *ret_name)
{
	struct field rest = text_of(passwd), line, part[6];
	uint32_t uid, gid;

	while (next_part(&rest, '\n', &line)) {
		if (!split_line(line, part, ARRAY_LEN(part)) || !parse_id(part[2], &uid) ||
		    !parse_id(part[3], &gid) || !spec_is(user, part[0], uid))
			continue;
		u->uid = uid;
		u->gid = gid;
		if (part[5].len > 0 && part[5].len < sizeof(u->home) && part[5].p[0] == '/')
			memcpy(u->home, part[5].p, part[5].len);
		*ret_name = part[0];
		return true;
	}
	return false;
}

static bool next_group(struct field *rest, struct field part[4], uint32_t *ret_gid)
{
	struct field line;

	while (next_part(rest, '\n', &line)) {
		if (split_line(line, part, 4) && parse_id(part[2], ret_gid))
			return true;
	}
	return false;
}

static int find_group(const char *group, const struct spec *wanted, struct bundle_user *u,
		      struct err *e)
{
	struct field rest = text_of(group), part[4];
	uint32_t gid;

	while (!wanted->numeric && next_group(&rest, part, &gid)) {
		if (spec_is(wanted, part[0], gid)) {
			u->gid = gid;
			return 0;
		}
	}
	if (!wanted->numeric)
		return err_set(e, -ENOENT, "group '%.*s' is not in the image's /etc/group",
			       (int)(wanted->text.len < 100 ? wanted->text.len : 100),
			       wanted->text.p);
	u->gid = wanted->id;
	return 0;
}

static bool is_member(struct field members, struct field name)
{
	struct field member;

	while (next_part(&members, ',', &member)) {
		if (field_equal(member, name))
			return true;
	}
	return false;
}

static int find_memberships(const char *group, struct field name, struct bundle_user *u,
			    struct err *e)
{
	struct field rest = text_of(group), part[4];
	uint32_t gid;

	while (next_group(&rest, part, &gid)) {
		if (!is_member(part[3], name))
			continue;
		if (u->ngroups == ARRAY_LEN(u->groups))
			return err_set(e, -E2BIG, "user '%.*s' is in more than %zu groups",
				       (int)(name.len < 100 ? name.len : 100), name.p,
				       ARRAY_LEN(u->groups));
		u->groups[u->ngroups++] = gid;
	}
	return 0;
}

int bundle_user_lookup(const char *user, const char *passwd, const char *group,
		       struct bundle_user *ret, struct err *e)
{
	struct field rest = text_of(user ? user : ""), name = {NULL, 0}, part;
	struct bundle_user u = {.uid = 0};
	struct spec who, wanted;
	bool known;
	int r;

	/* What comes after a second ':' belongs to the group, where it is found to be wrong. */
	next_part(&rest, ':', &part);
	if ((r = parse_spec(part, "user", &who, e)) < 0 ||
	    (r = parse_spec(rest.p ? rest : text_of(""), "group", &wanted, e)) < 0)
		return r;
	if (who.text.len == 0)
		who = (struct spec){.text = who.text, .numeric = true, .id = 0};
	known = find_user(passwd, &who, &u, &name);
	if (!known && !who.numeric)
		return err_set(e, -ENOENT, "user '%.*s' is not in the image's /etc/passwd",
			       (int)(who.text.len < 100 ? who.text.len : 100), who.text.p);
	if (!known)
		u.uid = who.id;
	/* A group that is named stands alone: the user's others are not taken along. */
	if (wanted.text.len > 0)
		r = find_group(group, &wanted, &u, e);
	else if (known)
		r = find_memberships(group, name, &u, e);
	if (r < 0)
		return r;
	*ret = u;
	return 0;
}
