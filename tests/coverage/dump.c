/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How processes that may not open a file, and end by _exit(), tell which lines they came through:
 * before anything else they map a file that all share, which forks inherit, and at their end they
 * add their counters to it. What is killed, or crashes, is not counted.
 */
#include <fcntl.h>
#include <gcov.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define AREA_SIZE (64ull << 30) /* of a sparse file */
#define SLACK     16384
#define PAGE      4096ull
#define MAGIC     0x56434e5241540a01ull

/*
 * Then records, at multiples of PAGE, so that one that nobody finished hides no other: MAGIC, the
 * length of all of it, of what counts, name and NUL, counters as in a .gcda.
 */
struct area {
	_Atomic uint64_t used;
	uint8_t data[];
};

extern const struct gcov_info *const __start_gcov_info[];
extern const struct gcov_info *const __stop_gcov_info[];

static struct area *area; /* NULL: nothing is counted */
static atomic_flag dumping = ATOMIC_FLAG_INIT;

/* One object's, first counted, then written. */
struct record {
	uint8_t *at; /* NULL: only its length is asked for */
	size_t len;
};

static void put(struct record *r, const void *data, size_t len)
{
	if (r->at)
		memcpy(r->at + r->len, data, len);
	r->len += len;
}

static void on_name(const char *name, void *arg)
{
	put(arg, name, strlen(name) + 1);
}

static void on_data(const void *data, unsigned len, void *arg)
{
	put(arg, data, len);
}

static void *on_alloc(unsigned len, void *arg)
{
	return malloc(len);
}

static void dump_one(const struct gcov_info *info)
{
	struct record r = {.at = NULL};
	uint64_t head[3] = {MAGIC}, at;

	__gcov_info_to_gcda(info, on_name, on_data, on_alloc, &r);
	/* Threads that still run change counters, and with them zeros that are left out. */
	head[1] = (sizeof(head) + r.len + SLACK + PAGE - 1) / PAGE * PAGE;
	at = atomic_fetch_add(&area->used, head[1]);
	if (at + head[1] > AREA_SIZE - sizeof(*area))
		return;
	r = (struct record){.at = area->data + at + sizeof(head)};
	__gcov_info_to_gcda(info, on_name, on_data, on_alloc, &r);
	head[2] = r.len;
	memcpy(area->data + at, head, sizeof(head));
}

static void dump(void)
{
	if (!area || atomic_flag_test_and_set(&dumping))
		return;
	for (const struct gcov_info *const *i = __start_gcov_info; i < __stop_gcov_info; i++)
		dump_one(*i);
}

__attribute__((constructor(101))) static void map_area(void)
{
	mode_t mask = umask(0);
	int fd = open(TARN_COVERAGE, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	void *p;

	umask(mask);
	if (fd < 0)
		return;
	p = ftruncate(fd, AREA_SIZE) < 0 ? MAP_FAILED
					 : mmap(NULL, AREA_SIZE, PROT_READ | PROT_WRITE,
						MAP_SHARED | MAP_NORESERVE, fd, 0);
	close(fd);
	area = p == MAP_FAILED ? NULL : p;
}

__attribute__((destructor(101))) static void at_exit(void)
{
	dump();
}

_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);
_Noreturn void __wrap__exit(int status)
{
	dump();
	__real__exit(status);
}

int __real_execv(const char *path, char *const argv[]);
int __wrap_execv(const char *path, char *const argv[]);
int __wrap_execv(const char *path, char *const argv[])
{
	int r;

	dump();
	r = __real_execv(path, argv);
	atomic_flag_clear(&dumping);
	return r;
}
