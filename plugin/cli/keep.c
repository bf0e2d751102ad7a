/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "plugin/cli/ask.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/show.h"

/* pin, unpin and rm. */

static int pin_or_unpin(int argc, char **argv, const struct cli *cli)
{
	_cleanup_request_ struct request rq = {0};
	_cleanup_answer_ struct answer a = {0};
	struct err e = ERR_INIT;
	char text[SHOW_MAX];
	int r;

	while (cli_getopt(cli, argc, argv) != -1)
		;
	r = request_open(&rq, cli->verb->name, &e);
	if (r < 0)
		return cli_fail(cli, &e);
	json_put_str(rq.g, "image", argv[optind]);
	json_open_array(rq.g, "paths");
	for (int i = optind + 1; i < argc; i++)
		json_put_str(rq.g, NULL, argv[i]);
	json_close_array(rq.g);
	r = ask(cli, &rq, &a, &e);
	if (r < 0)
		return cli_fail(cli, &e);
	if (cli->json)
		return print_value(cli, answer_done(&a));
	if (!cli->quiet && strcmp(cli->verb->name, "pin") == 0)
		printf("pinned %s: %s stay here\n", argv[optind],
		       show_size(show_int(answer_done(&a), "bytes"), text));
	else if (!cli->quiet)
		printf("unpinned %s\n", argv[optind]);
	return 0;
}

int cmd_pin(int argc, char **argv, const struct cli *cli)
{
	return pin_or_unpin(argc, argv, cli);
}

int cmd_unpin(int argc, char **argv, const struct cli *cli)
{
	return pin_or_unpin(argc, argv, cli);
}

int cmd_rm(int argc, char **argv, const struct cli *cli)
{
	_cleanup_request_ struct request rq = {0};
	_cleanup_answer_ struct answer a = {0};
	struct err e = ERR_INIT;
	char text[SHOW_MAX];
	int r;

	while (cli_getopt(cli, argc, argv) != -1)
		;
	r = request_open(&rq, "rm", &e);
	if (r == 0) {
		json_put_str(rq.g, "image", argv[optind]);
		r = ask(cli, &rq, &a, &e);
	}
	if (r < 0)
		return cli_fail(cli, &e);
	if (cli->json)
		return print_value(cli, answer_done(&a));
	if (!cli->quiet && json_bool(json_get(answer_done(&a), "gone"), true))
		printf("forgot %s, freed %s\n", argv[optind],
		       show_size(show_int(answer_done(&a), "freed"), text));
	else if (!cli->quiet)
		printf("forgot the name %s; the image has others\n", argv[optind]);
	return 0;
}
