/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads every file of a tree in several processes and in every way a file can be read, and compares
 * each byte with a tree that is known to be right.
 *
 *   reader [OPTION]... EXPECTED DIR
 *
 *   -j N   processes (8)
 *   -s N   go on for N seconds; default: once through all files
 *   -t     go on until SIGTERM, and then on to the last file
 *   -m ..  ways, of which one is drawn for each file: r read, p pages at random, d SEEK_DATA,
 *          m mmap, x execve of what is executable (rpdm)
 *   -b     EBUSY from open and execve is no error
 *   -d     drop the pages of a file first, every other time
 *   -w N   a single call, or touch of a page, that takes longer than N seconds is stuck (60)
 *
 * Prints a line of JSON, in which max_ms is the longest time for a file and pause_ms that for a
 * single call or touch. Without -t, SIGTERM ends it early, each process after the file it is at.
 * Exit status 0: every byte was right and there was no error.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/kernel/reader.h"

#define PAGE      4096
#define CHUNK     (128u << 10)
#define PAGES_MAX 1024 /* of one file that are read at random */
#define TOLD_MAX  20   /* complaints of one process */

struct file {
	char *path; /* owned; below either tree */
	size_t size;
	bool program;
};

struct options {
	unsigned procs, seconds, stuck_s;
	const char *ways;
	bool busy, drop, till_term;
	char expected[PATH_MAX], dir[PATH_MAX];
};

static struct options opt = {.procs = 8, .stuck_s = 60, .ways = "rpdm"};
static struct file *files; /* owned */
static size_t nfiles;
static size_t top_len;
static struct tally *tallies,
	*mine; /* one more than processes: in the last, `files` is a wish to end */
static uint64_t told;
static sigjmp_buf bus;

static uint64_t draw(uint64_t below)
{
	static uint64_t x;

	if (x == 0)
		x = ((uint64_t)getpid() << 32) ^ now_ms() ^ 0x9e3779b97f4a7c15u;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x % below;
}

/* --- what a read led to --- */

static void complain(_Atomic uint64_t *count, const char *what, off_t at, int err)
{
	(*count)++;
	if (told++ < TOLD_MAX)
		fprintf(stderr, "reader %d: %s: %s at %lld%s%s\n", getpid(), mine->path, what,
			(long long)at, err ? ": " : "", err ? strerrorname_np(err) : "");
}

static void failed(const char *what, int err)
{
	if (opt.busy && err == EBUSY && (strcmp(what, "open") == 0 || strcmp(what, "execve") == 0))
		mine->busy++;
	else
		complain(&mine->errors, what, 0, err);
}

/* Says where the first of the wrong bytes is. */
static void compare(const char *way, const void *found, const void *expected, size_t n, off_t at)
{
	const unsigned char *f = found, *x = expected;
	size_t i = 0;

	mine->bytes += n;
	if (memcmp(f, x, n) == 0)
		return;
	while (f[i] == x[i])
		i++;
	complain(&mine->wrong, way, at + (off_t)i, 0);
}

/* --- the ways --- */

static void read_range(const char *way, int fd, const unsigned char *expected, off_t at, size_t n)
{
	static unsigned char buf[CHUNK];

	while (n > 0) {
		size_t want = n < CHUNK ? n : CHUNK;
		ssize_t got = pread_timed(fd, buf, want, at);

		if (got <= 0) {
			complain(&mine->errors, got == 0 ? "an early end" : way, at,
				 got < 0 ? errno : 0);
			return;
		}
		compare(way, buf, expected + at, (size_t)got, at);
		at += got;
		n -= (size_t)got;
	}
}

static void read_pages(int fd, const unsigned char *expected, size_t size)
{
	size_t pages = (size + PAGE - 1) / PAGE, n = pages < PAGES_MAX ? pages : PAGES_MAX;

	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	while (n-- > 0) {
		size_t at = draw(pages) * PAGE;

		read_range("random read", fd, expected, (off_t)at,
			   size - at < PAGE ? size - at : PAGE);
	}
}

/* As cp and tar do: what is said to be a hole is zeros. */
static void read_data(int fd, const unsigned char *expected, size_t size)
{
	static const unsigned char zeros[PAGE];
	off_t at = 0, end = (off_t)size;

	while (at < end) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0)
			data = end;
		for (; at < data; at += PAGE)
			compare("SEEK_DATA", zeros, expected + at,
				(size_t)(data - at < PAGE ? data - at : PAGE), at);
		if (data >= end)
			return;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole <= data)
			hole = end;
		read_range("read of data", fd, expected, data, (size_t)(hole - data));
		at = hole;
	}
}

static void on_bus(int sig)
{
	siglongjmp(bus, 1);
}

/* The file is closed by then: only the mapping is there. */
static void read_map(unsigned char *map, const unsigned char *expected, size_t size)
{
	size_t step = CHUNK, start = draw(size);

	start -= start % step;
	if (sigsetjmp(bus, 1)) {
		pause_end();
		complain(&mine->errors, "SIGBUS", 0, 0);
		return;
	}
	for (size_t k = 0; k < size; k += step) {
		size_t at = start + k < size ? start + k : (start + k - size) / step * step;

		pause_begin();
		compare("mmap", map + at, expected + at, size - at < step ? size - at : step,
			(off_t)at);
		pause_end();
	}
}

static void read_mapped(int fd, const unsigned char *expected, size_t size)
{
	unsigned char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	close(fd);
	if (map == MAP_FAILED) {
		failed("mmap", errno);
		return;
	}
	read_map(map, expected, size);
	munmap(map, size);
}

static void read_open_file(char way, int fd, const unsigned char *expected, size_t size)
{
	if (opt.drop && draw(2))
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	switch (way) {
	case 'm':
		read_mapped(fd, expected, size);
		return;
	case 'p':
		read_pages(fd, expected, size);
		break;
	case 'd':
		read_data(fd, expected, size);
		break;
	default:
		read_range("read", fd, expected, 0, size);
	}
	close(fd);
}

/* --- execve: the program is stopped before its first instruction, and what is mapped is read ---
 */

/* A line of /proc/PID/maps that maps this file, and not to be written: those may have changed. */
static bool parse_mapping(char *line, const char *path, uint64_t *start, uint64_t *end,
			  uint64_t *off)
{
	char *p, *name = strchr(line, '/');

	line[strcspn(line, "\n")] = '\0';
	if (!name || strcmp(name, path) != 0)
		return false;
	*start = strtoull(line, &p, 16);
	*end = strtoull(p + 1, &p, 16);
	if (*p != ' ' || p[2] == 'w')
		return false;
	*off = strtoull(p + 6, NULL, 16);
	return true;
}

static void read_memory(int mem, uint64_t start, uint64_t len, const unsigned char *expected,
			uint64_t off)
{
	static unsigned char buf[CHUNK];

	for (uint64_t at = 0; at < len; at += sizeof(buf)) {
		size_t want = len - at < sizeof(buf) ? len - at : sizeof(buf);
		ssize_t got = pread_timed(mem, buf, want, (off_t)(start + at));

		if (got < 0 || (size_t)got != want) {
			complain(&mine->errors, "memory of a program", (off_t)(off + at), errno);
			return;
		}
		compare("memory of a program", buf, expected + off + at, want, (off_t)(off + at));
	}
}

static void read_program(pid_t pid, const char *path, const unsigned char *expected, size_t size)
{
	char name[64], line[PATH_MAX + 128];
	uint64_t start, end, off;
	unsigned n = 0;
	FILE *maps;
	int mem;

	snprintf(name, sizeof(name), "/proc/%d/mem", pid);
	mem = open(name, O_RDONLY | O_CLOEXEC);
	snprintf(name, sizeof(name), "/proc/%d/maps", pid);
	maps = fopen(name, "re");
	while (maps && mem >= 0 && fgets(line, sizeof(line), maps)) {
		if (!parse_mapping(line, path, &start, &end, &off) || off >= size)
			continue;
		n++;
		read_memory(mem, start, end - start < size - off ? end - start : size - off,
			    expected, off);
	}
	if (n == 0)
		failed("the mappings of a program", 0);
	if (maps)
		fclose(maps);
	if (mem >= 0)
		close(mem);
}

static void exec_file(const char *path, const unsigned char *expected, size_t size)
{
	char *const argv[] = {(char *)path, NULL};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		execv(path, argv);
		_exit(errno);
	}
	pause_begin();
	if (pid > 0 && waitpid(pid, &status, 0) != pid)
		pid = -1;
	pause_end();
	if (pid < 0) {
		failed("fork", errno);
		return;
	}
	if (WIFEXITED(status)) {
		failed("execve", WEXITSTATUS(status));
		return;
	}
	if (WIFSTOPPED(status)) {
		read_program(pid, path, expected, size);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	} else {
		failed("a program that was killed", 0);
	}
}

/* --- one file --- */

static void read_file(char way, const char *path, const unsigned char *expected, size_t size)
{
	struct stat st;
	int fd = open_timed(path);

	if (fd < 0) {
		failed("open", errno);
		return;
	}
	if (fstat(fd, &st) < 0 || (size_t)st.st_size != size) {
		complain(&mine->wrong, "its size", st.st_size, 0);
		close(fd);
		return;
	}
	if (size == 0)
		close(fd);
	else
		read_open_file(way, fd, expected, size);
}

static void do_file(const struct file *f)
{
	char known[2 * PATH_MAX];
	unsigned char *expected = NULL;
	char way = opt.ways[draw(strlen(opt.ways))];
	uint64_t start = now_ms();
	int fd;

	snprintf(known, sizeof(known), "%s/%s", opt.expected, f->path);
	snprintf(mine->path, sizeof(mine->path), "%.2047s/%.2047s", opt.dir, f->path);
	fd = open(known, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && f->size > 0)
		expected = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (fd < 0 || expected == MAP_FAILED) {
		perror(known);
		exit(2);
	}
	close(fd);
	if (way == 'x' && f->program) {
		exec_file(mine->path, expected, f->size);
		mine->execs++;
	} else {
		read_file(way, mine->path, expected, f->size);
	}
	mine->since_ms = 0;
	mine->files++;
	if (now_ms() - start > mine->max_ms)
		mine->max_ms = now_ms() - start;
	if (expected)
		munmap(expected, f->size);
}

/* --- all files --- */

static bool is_program(const char *path, const struct stat *st)
{
	char magic[4] = "";
	int fd;

	if (!(st->st_mode & 0111))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, magic, sizeof(magic)) < 0)
		magic[0] = '\0';
	close(fd);
	return memcmp(magic, "\177ELF", 4) == 0;
}

static int add_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	static size_t cap;

	if (type != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	if (nfiles == cap) {
		struct file *grown = reallocarray(files, cap ? 2 * cap : 1024, sizeof(*files));

		if (!grown)
			return -1;
		files = grown;
		cap = cap ? 2 * cap : 1024;
	}
	files[nfiles].path = strdup(path + top_len + 1);
	files[nfiles].size = (size_t)st->st_size;
	files[nfiles].program = is_program(path, st);
	return files[nfiles++].path ? 0 : -1;
}

static void shuffle(void)
{
	for (size_t i = nfiles; i > 1; i--) {
		size_t k = draw(i);
		struct file f = files[k];

		files[k] = files[i - 1];
		files[i - 1] = f;
	}
}

static bool wanted_no_more(void)
{
	return tallies[opt.procs].files != 0;
}

static void on_term(int sig)
{
	tallies[opt.procs].files = 1;
}

static int child(unsigned i)
{
	const struct sigaction act = {.sa_handler = on_bus};
	uint64_t end = now_ms() + opt.seconds * 1000u;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGBUS, &act, NULL);
	mine = &tallies[i];
	do {
		shuffle();
		for (size_t k = 0; k < nfiles; k++) {
			if (!opt.till_term && k > 0 && wanted_no_more())
				break;
			if (opt.seconds && now_ms() >= end)
				break;
			do_file(&files[k]);
		}
	} while (!wanted_no_more() && (opt.till_term || (opt.seconds && now_ms() < end)));
	return 0;
}

/* --- the first process --- */

static unsigned look_for_stuck(const pid_t *pid)
{
	unsigned n = 0;

	for (unsigned i = 0; i < opt.procs; i++) {
		uint64_t since = tallies[i].since_ms;

		if (!since || now_ms() - since < opt.stuck_s * 1000u)
			continue;
		fprintf(stderr, "reader %d: stuck at %s\n", pid[i], tallies[i].path);
		n++;
	}
	return n;
}

static unsigned wait_all(const pid_t *pid, unsigned *ret_died)
{
	const struct timespec tick = {.tv_nsec = 50000000};
	unsigned left = opt.procs, stuck = 0;
	int status;

	while (left > 0 && stuck == 0) {
		pid_t p = waitpid(-1, &status, WNOHANG);

		if (p > 0) {
			left--;
			*ret_died += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
			continue;
		}
		nanosleep(&tick, NULL);
		stuck = look_for_stuck(pid);
	}
	for (unsigned i = 0; stuck > 0 && i < opt.procs; i++)
		kill(pid[i], SIGKILL);
	return stuck;
}

static int report(unsigned stuck, unsigned died)
{
	uint64_t errors = sum(offsetof(struct tally, errors), opt.procs);
	uint64_t wrong = sum(offsetof(struct tally, wrong), opt.procs);

	printf("{\"files\":%llu,\"bytes\":%llu,\"execs\":%llu,\"busy\":%llu,\"errors\":%llu,"
	       "\"wrong\":%llu,\"stuck\":%u,\"died\":%u,\"max_ms\":%llu,\"pause_ms\":%llu}\n",
	       (unsigned long long)sum(offsetof(struct tally, files), opt.procs),
	       (unsigned long long)sum(offsetof(struct tally, bytes), opt.procs),
	       (unsigned long long)sum(offsetof(struct tally, execs), opt.procs),
	       (unsigned long long)sum(offsetof(struct tally, busy), opt.procs),
	       (unsigned long long)errors, (unsigned long long)wrong, stuck, died,
	       (unsigned long long)most(offsetof(struct tally, max_ms), opt.procs),
	       (unsigned long long)most(offsetof(struct tally, pause_ms), opt.procs));
	return errors || wrong || stuck || died;
}

/* From now on there is an end by SIGTERM. */
static bool prepare(void)
{
	const struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESTART};

	tallies = mmap(NULL, (opt.procs + 1) * sizeof(*tallies), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return tallies != MAP_FAILED && sigaction(SIGTERM, &term, NULL) == 0;
}

static int run(void)
{
	pid_t *pid = calloc(opt.procs, sizeof(*pid));
	unsigned died = 0, stuck;

	if (!pid)
		return 2;
	for (unsigned i = 0; i < opt.procs; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			_exit(child(i));
		if (pid[i] < 0)
			return 2;
	}
	stuck = wait_all(pid, &died);
	free(pid);
	return report(stuck, died);
}

static bool parse(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "j:s:m:w:bdt")) != -1) {
		switch (c) {
		case 'j':
			opt.procs = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 's':
			opt.seconds = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'w':
			opt.stuck_s = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'm':
			opt.ways = optarg;
			break;
		case 'b':
			opt.busy = true;
			break;
		case 'd':
			opt.drop = true;
			break;
		case 't':
			opt.till_term = true;
			break;
		default:
			return false;
		}
	}
	return argc == optind + 2 && opt.procs > 0 && *opt.ways &&
	       realpath(argv[optind], opt.expected) && realpath(argv[optind + 1], opt.dir);
}

int main(int argc, char **argv)
{
	if (!parse(argc, argv)) {
		fputs("usage: reader [OPTION]... EXPECTED DIR (see the head of its source)\n",
		      stderr);
		return 2;
	}
	if (!prepare())
		return 2;
	top_len = strlen(opt.expected);
	if (nftw(opt.expected, add_file, 64, FTW_PHYS) != 0 || nfiles == 0) {
		fprintf(stderr, "reader: %s: no files\n", opt.expected);
		return 2;
	}
	return run();
}
