/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the registry client by hand. One process is one client: what it keeps (connections,
 * tokens, storage URLs) is kept from one operation to the next.
 *
 *	regcat [OPTIONS] HOST REPO OPERATION...
 *
 *	manifest REF               registry_manifest()
 *	blob DIGEST                registry_blob(), at most 4 MiB
 *	range DIGEST SIZE OFF LEN  registry_blob_range(), read to its end
 *	peek DIGEST SIZE OFF LEN N the same, freed after N bytes
 *	idle DIGEST SIZE OFF LEN N the same, read to its end after a pause of N ms behind 1 KiB
 *	nested DIGEST SIZE OFF LEN a manifest asked for while the range is open, then the range read
 *	sleep MS                   nothing for so long
 *
 * For each operation one line: "ok NAME BYTES SHA256 [CONTENT-TYPE DIGEST]" or "fail NAME ERRNO
 * TEXT". Exit status 1 when one failed. The password is read from the environment (SECRET).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/registry.h"

struct cat {
	struct registry *registry; /* owned */
	struct registry_at at;
	size_t piece; /* bytes asked for in one read */
	bool failed;
};

static void pause_ms(unsigned long ms)
{
	struct timespec ts = {.tv_sec = (time_t)(ms / 1000),
			      .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

static void say_ok(const char *op, uint64_t n, const struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	printf("ok %s %" PRIu64 " %s", op, n, digest_hex(d, hex));
}

static void say_fail(struct cat *c, const char *op, int r, const struct err *e)
{
	unsigned wait = registry_retry_after_s(c->registry);

	c->failed = true;
	printf("fail %s %s %s", op, strerrorname_np(-r), e->text);
	if (r != e->code)
		printf(" [error text has code %d]", e->code);
	if (wait)
		printf(" [retry after %u]", wait);
	printf("\n");
}

static void op_manifest(struct cat *c, char **arg)
{
	char type[LIMIT_NAME], text[DIGEST_TEXT];
	_cleanup_buf_ struct buf out;
	struct digest d, sum;
	struct err e = ERR_INIT;
	int r;

	buf_init(&out, LIMIT_MANIFEST);
	r = registry_manifest(c->registry, &c->at, arg[0], &out, type, &d, &e);
	if (r < 0) {
		say_fail(c, "manifest", r, &e);
		return;
	}
	digest_of(out.data, out.len, &sum);
	say_ok("manifest", out.len, &sum);
	printf(" %s %s\n", type, digest_text(&d, text));
}

static bool parse_digest(struct cat *c, const char *op, const char *text, struct digest *d)
{
	struct err e = ERR_INIT;
	int r = digest_parse(text, d, &e);

	if (r < 0)
		say_fail(c, op, r, &e);
	return r == 0;
}

static void op_blob(struct cat *c, char **arg)
{
	_cleanup_buf_ struct buf out;
	struct digest d, sum;
	struct err e = ERR_INIT;
	int r;

	buf_init(&out, LIMIT_CONFIG);
	if (!parse_digest(c, "blob", arg[0], &d))
		return;
	r = registry_blob(c->registry, &c->at, &d, &out, &e);
	if (r < 0) {
		say_fail(c, "blob", r, &e);
		return;
	}
	digest_of(out.data, out.len, &sum);
	say_ok("blob", out.len, &sum);
	printf("\n");
}

/* Reads at most @most bytes, waiting @idle_ms once behind the first KiB. */
static int read_some(struct cat *c, struct stream *s, uint64_t most, unsigned long idle_ms,
		     struct hasher *h, uint64_t *ret_total, struct err *e)
{
	_cleanup_free_ uint8_t *buf = malloc(c->piece);
	uint64_t total = 0;
	ssize_t n = buf ? 1 : -ENOMEM;

	while (n > 0 && total < most) {
		size_t want = most - total < c->piece ? (size_t)(most - total) : c->piece;

		if (idle_ms && total == 0)
			want = 1024;
		n = stream_read(s, buf, want, e);
		if (n > 0)
			hasher_update(h, buf, (size_t)n);
		if (idle_ms && total == 0)
			pause_ms(idle_ms);
		total += n > 0 ? (uint64_t)n : 0;
	}
	*ret_total = total;
	return n < 0 ? (int)n : 0;
}

/* Reads @s as read_some() does, says how that went and frees it. */
static void finish(struct cat *c, const char *op, struct stream *s, uint64_t most,
		   unsigned long idle_ms)
{
	_cleanup_(hasher_freep) struct hasher *h = hasher_new();
	struct err e = ERR_INIT;
	struct digest sum;
	uint64_t total = 0;
	int r = h ? read_some(c, s, most, idle_ms, h, &total, &e) : -ENOMEM;

	stream_free(s);
	if (r < 0) {
		say_fail(c, op, r, &e);
		return;
	}
	hasher_final(h, &sum);
	say_ok(op, total, &sum);
	printf("\n");
}

static void do_range(struct cat *c, const char *op, char **arg, uint64_t most,
		     unsigned long idle_ms)
{
	struct err e = ERR_INIT;
	struct digest d;
	struct stream *s;
	int r;

	if (!parse_digest(c, op, arg[0], &d))
		return;
	r = registry_blob_range(c->registry, &c->at, &d, strtoull(arg[1], NULL, 10),
				strtoull(arg[2], NULL, 10), strtoull(arg[3], NULL, 10), &s, &e);
	if (r < 0)
		say_fail(c, op, r, &e);
	else
		finish(c, op, s, most, idle_ms);
}

static void op_range(struct cat *c, char **arg)
{
	do_range(c, "range", arg, UINT64_MAX, 0);
}

static void op_peek(struct cat *c, char **arg)
{
	do_range(c, "peek", arg, strtoull(arg[4], NULL, 10), 0);
}

static void op_idle(struct cat *c, char **arg)
{
	do_range(c, "idle", arg, UINT64_MAX, strtoul(arg[4], NULL, 10));
}

static void op_nested(struct cat *c, char **arg)
{
	char type[LIMIT_NAME];
	_cleanup_buf_ struct buf out;
	struct digest d;
	struct err e = ERR_INIT;
	struct stream *s;
	int r;

	buf_init(&out, LIMIT_MANIFEST);
	if (!parse_digest(c, "nested", arg[0], &d))
		return;
	r = registry_blob_range(c->registry, &c->at, &d, strtoull(arg[1], NULL, 10),
				strtoull(arg[2], NULL, 10), strtoull(arg[3], NULL, 10), &s, &e);
	if (r == 0)
		r = registry_manifest(c->registry, &c->at, "v1", &out, type, &d, &e);
	if (r < 0)
		say_fail(c, "nested", r, &e);
	if (r == -EBUSY)
		finish(c, "nested", s, UINT64_MAX, 0);
}

static void op_sleep(struct cat *c, char **arg)
{
	pause_ms(strtoul(arg[0], NULL, 10));
}

static const struct {
	const char *name;
	int args;
	void (*run)(struct cat *c, char **arg);
} ops[] = {
	{"manifest", 1, op_manifest}, {"blob", 1, op_blob}, {"range", 4, op_range},
	{"peek", 5, op_peek},         {"idle", 5, op_idle}, {"nested", 4, op_nested},
	{"sleep", 1, op_sleep},
};

static int run_ops(struct cat *c, char **arg, int n)
{
	while (n > 0) {
		size_t i = 0;

		while (i < ARRAY_LEN(ops) && strcmp(ops[i].name, arg[0]) != 0)
			i++;
		if (i == ARRAY_LEN(ops) || n <= ops[i].args) {
			fprintf(stderr, "regcat: bad operation '%s'\n", arg[0]);
			return 2;
		}
		ops[i].run(c, arg + 1);
		fflush(stdout);
		arg += 1 + ops[i].args;
		n -= 1 + ops[i].args;
	}
	return c->failed ? 1 : 0;
}

static int read_ca(const char *path, struct buf *pem)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd_read_all(fd, pem);
}

/* --resolve NAME: that name is 127.0.0.1, any other is unknown. */
static int resolve_one(void *arg, const char *host, char *out, size_t size)
{
	if (strcmp(host, arg) != 0)
		return -ENOENT;
	snprintf(out, size, "127.0.0.1");
	return 0;
}

/* --sealed: from here on a file opened, or a thread or process made, is the end. */
static int seal(void)
{
	static const int deadly[] = {
		SCMP_SYS(open),  SCMP_SYS(openat), SCMP_SYS(openat2),
		SCMP_SYS(creat), SCMP_SYS(clone),  SCMP_SYS(clone3),
		SCMP_SYS(fork),  SCMP_SYS(vfork),  SCMP_SYS(execve),
	};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int r = filter ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(deadly); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, deadly[i], 0);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

static void usage(void)
{
	fprintf(stderr, "usage: regcat [--tls] [--insecure] [--ca FILE] [--user NAME] [--piece N]\n"
			"              [--stall MS] [--connect MS] [--resolve NAME] [--rss]\n"
			"              [--sealed]\n"
			"              HOST REPO OPERATION...\n");
}

/* What the command line says besides the operations. */
struct settings {
	struct registry_options opt;
	struct buf ca; /* owned; @opt points into it */
	bool rss;
	bool sealed;
};

static int parse(int argc, char **argv, struct settings *set, struct cat *c)
{
	static const struct option options[] = {
		{"tls", no_argument, NULL, 't'},
		{"insecure", no_argument, NULL, 'i'},
		{"ca", required_argument, NULL, 'c'},
		{"user", required_argument, NULL, 'u'},
		{"piece", required_argument, NULL, 'p'},
		{"stall", required_argument, NULL, 's'},
		{"connect", required_argument, NULL, 'C'},
		{"resolve", required_argument, NULL, 'r'},
		{"rss", no_argument, NULL, 'R'},
		{"sealed", no_argument, NULL, 'S'},
		{NULL, 0, NULL, 0},
	};
	int o;

	while ((o = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (o) {
		case 't':
			c->at.plain_http = false;
			break;
		case 'i':
			c->at.insecure_tls = true;
			break;
		case 'c':
			if (read_ca(optarg, &set->ca) < 0)
				return -1;
			set->opt.ca_pem = (char *)set->ca.data;
			set->opt.ca_pem_len = set->ca.len;
			break;
		case 'u':
			snprintf(c->at.user, sizeof(c->at.user), "%s", optarg);
			break;
		case 'p':
			c->piece = strtoul(optarg, NULL, 10);
			break;
		case 's':
			set->opt.stall_timeout_ms = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'C':
			set->opt.connect_timeout_ms = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'r':
			set->opt.resolve = resolve_one;
			set->opt.resolve_arg = optarg;
			break;
		case 'R':
			set->rss = true;
			break;
		case 'S':
			set->sealed = true;
			break;
		default:
			return -1;
		}
	}
	return argc - optind < 3 || c->piece == 0 ? -1 : optind;
}

static void settings_free(struct settings *set)
{
	buf_free(&set->ca);
}

int main(int argc, char **argv)
{
	_cleanup_(settings_free) struct settings set = {.opt.user_agent = "regcat"};
	struct cat c = {.at.plain_http = true, .piece = 64 << 10};
	const char *secret = getenv("SECRET");
	struct err e = ERR_INIT;
	struct rusage use;
	int first, r;

	buf_init(&set.ca, 4 << 20);
	first = parse(argc, argv, &set, &c);
	if (first < 0) {
		usage();
		return 2;
	}
	snprintf(c.at.host, sizeof(c.at.host), "%s", argv[first]);
	snprintf(c.at.repo, sizeof(c.at.repo), "%s", argv[first + 1]);
	snprintf(c.at.secret, sizeof(c.at.secret), "%s", secret ? secret : "");
	r = registry_new(&set.opt, &c.registry, &e);
	if (r < 0) {
		fprintf(stderr, "regcat: %s\n", e.text);
		return 2;
	}
	if (set.sealed && seal() < 0)
		return 2;
	r = run_ops(&c, argv + first + 2, argc - first - 2);
	registry_free(c.registry);
	if (set.rss && getrusage(RUSAGE_SELF, &use) == 0)
		printf("rss %ld\n", use.ru_maxrss);
	return r;
}
