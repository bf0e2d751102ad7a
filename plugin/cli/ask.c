/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/ask.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "oci/base/limits.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/show.h"
#include "plugin/ctl/proto.h"

int request_open(struct request *rq, const char *verb, struct err *e)
{
	buf_init(&rq->text, LIMIT_CTL_MESSAGE);
	rq->g = json_gen_new(&rq->text, false);
	if (!rq->g)
		return err_errno(e, -ENOMEM, "asking tarnd");
	json_open_map(rq->g, NULL);
	json_put_str(rq->g, "verb", verb);
	return 0;
}

void request_free(struct request *rq)
{
	rq->g = json_gen_free(rq->g);
	buf_free(&rq->text);
}

static void keep_row(void *ctx, const struct json *row)
{
	json_put_value(ctx, NULL, row);
}

static void on_progress(void *ctx, const char *text, int64_t done, int64_t total)
{
	show_progress(text, done, total);
}

/* The rows are kept as text and parsed again as one array: they are borrowed while they come. */
static int talk(const struct cli *cli, struct request *rq, struct buf *rows, struct answer *ret,
		struct err *e)
{
	_cleanup_(json_gen_freep) struct json_gen *g = json_gen_new(rows, false);
	_cleanup_(ctl_client_freep) struct ctl_client *c = NULL;
	const struct ctl_handlers h = {
		.row = keep_row, .progress = cli->quiet ? NULL : on_progress, .ctx = g};
	int r;

	if (!g)
		return err_errno(e, -ENOMEM, "asking tarnd");
	r = ctl_connect(cli->socket, &c, e);
	if (r < 0)
		return r;
	json_close_map(rq->g);
	json_open_array(g, NULL);
	r = ctl_request(c, &rq->text, &h, &ret->done, NULL, e);
	show_flush();
	json_close_array(g);
	if (r == 0 && rows->failed)
		return err_errno(e, rows->failed, "the answer of tarnd");
	return r;
}

int ask(const struct cli *cli, struct request *rq, struct answer *ret, struct err *e)
{
	_cleanup_answer_ struct answer a = {0};
	_cleanup_buf_ struct buf rows = {0};
	int r;

	buf_init(&rows, LIMIT_CTL_ROWS);
	r = talk(cli, rq, &rows, &a, e);
	if (r == 0)
		r = json_parse(rows.data, rows.len, LIMIT_CTL_ROWS, "answer of tarnd", &a.rows, e);
	if (r < 0)
		return r;
	*ret = a;
	a = (struct answer){0};
	return 0;
}

const struct json *answer_done(const struct answer *a)
{
	return json_get(a->done, "done");
}

void answer_free(struct answer *a)
{
	a->rows = json_free(a->rows);
	a->done = json_free(a->done);
}

void print_open(struct json_text *t)
{
	json_text_open(t, 2 * (size_t)LIMIT_CTL_ROWS, true);
}

int print_json(const struct cli *cli, struct json_text *t)
{
	const struct buf *text = &t->text;
	struct err e = ERR_INIT;

	if (text->failed) {
		err_errno(&e, text->failed, "making JSON");
		return cli_fail(cli, &e);
	}
	printf("%.*s", (int)text->len, (const char *)text->data);
	/* The pretty form ends in a newline of its own. */
	if (text->len == 0 || text->data[text->len - 1] != '\n')
		putchar('\n');
	return 0;
}

int print_value(const struct cli *cli, const struct json *value)
{
	_cleanup_json_text_ struct json_text out;

	print_open(&out);
	json_put_value(out.g, NULL, value);
	return print_json(cli, &out);
}
