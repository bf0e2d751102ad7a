/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/start.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "plugin/fault/slots.h"
#include "plugin/log.h"

enum start_state { START_UNTOLD = 0, START_TELLING, START_TOLD };

static bool claim(struct start_failure *f)
{
	uint32_t untold = START_UNTOLD;

	return atomic_compare_exchange_strong(&f->state, &untold, START_TELLING);
}

void start_failed(struct slots *s, const char *what, int code, const struct err *e)
{
	const char *why = e && e->text[0] ? e->text : err_words(code);
	struct start_failure *f = &s->failure;

	if (atomic_load(&s->ready)) {
		log_error("%s: %s", what, why);
	} else if (claim(f)) {
		f->code = code;
		snprintf(f->text, sizeof(f->text), "%.40s: %.460s", what, why);
		atomic_store(&f->state, START_TOLD);
	}
}

int start_exit(int code)
{
	return code == -EOPNOTSUPP || code == -ENOSYS ? 3 : EXIT_FAILURE;
}

int start_status(struct slots *s, const char *fallback)
{
	const struct start_failure *f = &s->failure;
	char line[ERR_TEXT_MAX];

	if (atomic_load(&f->state) != START_TOLD) {
		fprintf(stderr, "tarnd: %s\n", fallback);
		return EXIT_FAILURE;
	}
	/* The engine, which may be anything by now, can write there. */
	snprintf(line, sizeof(line), "%.*s", (int)sizeof(f->text) - 1, f->text);
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	fprintf(stderr, "tarnd: %s\n", line);
	return start_exit(f->code);
}
