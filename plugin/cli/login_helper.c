/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/login_helper.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "plugin/cli/login.h"
#include "plugin/cli/tool.h"

#define PREFIX "docker-credential-"
/* What helpers say on stdout, with status 1, of a server they have nothing for. */
#define UNKNOWN "credentials not found"

/* It becomes part of a program's name, which is looked for in PATH alone. */
static bool name_valid(const char *name)
{
	size_t n = 0;

	for (; name[n]; n++)
		if (!isalnum((unsigned char)name[n]) && !strchr("._-", name[n]))
			return false;
	return n > 0 && n <= LIMIT_NAME - sizeof(PREFIX);
}

static int read_answer(const struct buf *out, const char *program, struct login *ret, struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	const char *user, *secret;

	if (json_parse(out->data, out->len, LIMIT_TOKEN_ANSWER, program, &doc, NULL) < 0)
		return err_set(e, -EBADMSG, "%s: its answer is no JSON", program);
	user = json_get_str(doc, "Username");
	secret = json_get_str(doc, "Secret");
	if (!user || !secret)
		return err_set(e, -EBADMSG, "%s: its answer has no Username or no Secret", program);
	if (!user[0] && !secret[0])
		return 0;
	ret->user = strdup(user);
	ret->secret = strdup(secret);
	return ret->user && ret->secret ? 1 : err_errno(e, -ENOMEM, "%s", program);
}

/* Its first line, with which it says why: what is not printable stands as '?'. */
static int refused(const struct buf *out, const char *program, const char *server, struct err *e)
{
	char text[200];
	size_t n = 0;

	for (; n < out->len && n + 1 < sizeof(text) && out->data[n] != '\n'; n++)
		text[n] = (char)(isprint(out->data[n]) ? out->data[n] : '?');
	text[n] = '\0';
	if (strstr(text, UNKNOWN))
		return 0;
	return err_set(e, -EACCES, "%s: no credentials for %.200s: %s", program, server,
		       n ? text : "it does not say why");
}

int login_helper_ask(const char *name, const char *server, struct login *ret, struct err *e)
{
	char program[LIMIT_NAME];
	const char *const argv[] = {program, "get", NULL};
	_cleanup_buf_ struct buf out = {0};
	int r;

	if (!name_valid(name))
		return err_set(e, -EBADMSG, "'%.60s' cannot be the name of a credential helper",
			       name);
	snprintf(program, sizeof(program), PREFIX "%s", name);
	/* At once as large as it can get: no copy is left in memory that was given back. */
	buf_init(&out, LIMIT_TOKEN_ANSWER);
	if (!buf_reserve(&out, LIMIT_TOKEN_ANSWER))
		return err_errno(e, -ENOMEM, "%s", program);
	r = tool_run(argv, server, &out);
	if (r == -ENOENT)
		r = err_set(e, r, "%s is not in PATH, and the login for %.200s needs it", program,
			    server);
	else if (r < 0)
		r = err_errno(e, r, "%s", program);
	else if (r > 0)
		r = refused(&out, program, server, e);
	else
		r = read_answer(&out, program, ret, e);
	explicit_bzero(out.data, out.len);
	return r;
}
