/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/registry.h"
#include "plugin/fill/fetch_impl.h"

union message {
	uint32_t op;
	struct fetch_ack ack;
	struct fetch_job job;
};

static bool take_ack(struct fetcher_self *f, const struct fetch_ack *ack, size_t len)
{
	if (len != sizeof(*ack) || ack->op != FETCH_ACK || ack->slot >= FETCH_SLOTS)
		return false;
	f->lent &= ~(1u << ack->slot);
	return true;
}

/*
 * During a job the engine sends nothing but FETCH_ACKs.
 * #syscalls fetcher: recvfrom
 */
static int hear_ack(struct fetcher_self *f, int flags)
{
	struct fetch_ack ack;
	ssize_t n;

	do
		n = recv(f->sock, &ack, sizeof(ack), flags | MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (n > 0 && take_ack(f, &ack, (size_t)n))
		return 0;
	f->gone = true;
	return -EPIPE;
}

int fetch_slot_any(struct fetcher_self *f)
{
	for (;;) {
		int r;

		for (uint32_t i = 0; i < FETCH_SLOTS; i++)
			if (!(f->lent & 1u << i))
				return (int)i;
		r = hear_ack(f, 0);
		if (r < 0)
			return r;
	}
}

int fetch_slot_wait(struct fetcher_self *f, uint32_t slot)
{
	int r = 0;

	while (r == 0 && f->lent & 1u << slot)
		r = hear_ack(f, 0);
	return r;
}

/*
 * Reads what has been given back first, so that acknowledgements never pile up in the socket.
 * #syscalls fetcher: sendto
 */
int fetch_say(struct fetcher_self *f, enum fetch_kind op, struct fetch_note *note)
{
	ssize_t n;

	note->op = op;
	note->id = f->job.id;
	note->received = f->received;
	while (f->lent && hear_ack(f, MSG_DONTWAIT) == 0)
		;
	if (f->gone)
		return -EPIPE;
	do
		n = send(f->sock, note, sizeof(*note), MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(*note)) {
		f->gone = true;
		return -EPIPE;
	}
	if (op == FETCH_SPAN || op == FETCH_BYTES)
		f->lent |= 1u << note->slot;
	return 0;
}

/* The environment that tarnd was started with; the names are those of Go's net/http. */
static const char *from_env(const char *upper, const char *lower)
{
	const char *value = getenv(upper);

	if (!value || !value[0])
		value = getenv(lower);
	return value && value[0] ? value : NULL;
}

/* Kept from job to job, with its connections and tokens. */
int fetch_registry(struct fetcher_self *f, struct registry **ret, struct err *e)
{
	struct registry_options opt = {
		.connect_timeout_ms = f->job.connect_timeout_ms,
		.stall_timeout_ms = f->job.stall_timeout_ms,
		.ca_pem = f->ca_pem,
		.ca_pem_len = f->ca_pem_len,
		.user_agent = "tarn/" TARN_VERSION,
		.proxies = {.http = from_env("HTTP_PROXY", "http_proxy"),
			    .https = from_env("HTTPS_PROXY", "https_proxy"),
			    .none = from_env("NO_PROXY", "no_proxy")},
	};

	if (f->reg && (f->connect_timeout_ms != opt.connect_timeout_ms ||
		       f->stall_timeout_ms != opt.stall_timeout_ms))
		f->reg = registry_free(f->reg);
	if (!f->reg) {
		int r = registry_new(&opt, &f->reg, e);

		if (r < 0)
			return r;
		f->connect_timeout_ms = opt.connect_timeout_ms;
		f->stall_timeout_ms = opt.stall_timeout_ms;
	}
	*ret = f->reg;
	return 0;
}

static int run_job(struct fetcher_self *f, struct fetch_note *done, struct err *e)
{
	switch (f->job.op) {
	case FETCH_SPANS:
		return fetch_spans(f, done, e);
	case FETCH_INDEX:
		return fetch_index(f, done, e);
	case FETCH_MANIFEST:
		return fetch_manifest(f, done, e);
	case FETCH_BLOB:
		return fetch_small_blob(f, done, e);
	case FETCH_PARSE_LAYOUT:
		return fetch_parse_layout(f, done, e);
	case FETCH_PARSE_MANIFEST:
		return fetch_parse_manifest(f, done, e);
	case FETCH_PARSE_CONFIG:
		return fetch_parse_config(f, done, e);
	case FETCH_CHECK:
		return fetch_check(f, e);
	default:
		return err_set(e, -EINVAL, "job %u is unknown", f->job.op);
	}
}

/* #syscalls fetcher: close */
static void serve(struct fetcher_self *f)
{
	struct fetch_note note = {0};
	struct err e = ERR_INIT;
	int r;

	f->received = 0;
	f->job.what[sizeof(f->job.what) - 1] = '\0';
	f->job.reference[sizeof(f->job.reference) - 1] = '\0';
	f->job.content_type[sizeof(f->job.content_type) - 1] = '\0';
	r = run_job(f, &note, &e);
	if (r < 0 && !f->gone) {
		memset(&note, 0, sizeof(note));
		note.code = r;
		if (r == -EAGAIN && f->reg && !f->job.source.local)
			note.retry_after_s = registry_retry_after_s(f->reg);
		snprintf(note.text, sizeof(note.text), "%.*s", (int)sizeof(note.text) - 1,
			 e.code ? e.text : err_words(r));
		note.links = e.links;
	}
	if (!f->gone)
		fetch_say(f, r < 0 ? FETCH_FAIL : FETCH_DONE, &note);
	for (int i = 0; i < f->nfds; i++)
		cleanup_closep(&f->fds[i]);
	explicit_bzero(f->job.source.at.secret, sizeof(f->job.source.at.secret));
}

/* #syscalls fetcher: recvmsg exit_group */
int fetcher_main(int sock, void *buffer, const char *ca_pem, size_t ca_pem_len)
{
	_cleanup_free_ struct fetcher_self *f = calloc(1, sizeof(*f));
	_cleanup_free_ union message *m = malloc(sizeof(*m));

	if (!f || !m)
		return EXIT_FAILURE;
	f->sock = sock;
	f->buffer = buffer;
	f->ca_pem = ca_pem;
	f->ca_pem_len = ca_pem_len;
	while (!f->gone) {
		ssize_t n = keep_recvmsg(sock, m, sizeof(*m), f->fds, KEEP_FDS_MAX, &f->nfds);

		if (n == (ssize_t)sizeof(m->job)) {
			f->job = m->job;
			explicit_bzero(m, sizeof(*m));
			serve(f);
		} else if (n <= 0 || !take_ack(f, &m->ack, (size_t)n)) {
			f->gone = true;
		}
	}
	registry_free(f->reg);
	return EXIT_SUCCESS;
}
