/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper's side of the store (plugin/store/files.c, open.c, container.c, leftovers.c). */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/store/files.h"

static char dir[64];
static int store; /* its directory, with the subdirectories that store_open() makes */
static struct digest key, second, scope;
static const struct digest none;
static char hex[3][DIGEST_HEX + 1];

static int up(void **state)
{
	static const char *const subdirs[] = {"images", "blobs",    "blobs/sha256",
					      "layers", "unproven", "containers"};
	const char *base = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%.30s/files.XXXXXX", base ? base : "/var/tmp");
	if (!mkdtemp(dir))
		return -1;
	store = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_LEN(subdirs); i++)
		if (mkdirat(store, subdirs[i], 0700) < 0)
			return -1;
	digest_of("key", 3, &key);
	digest_of("second", 6, &second);
	digest_of("scope", 5, &scope);
	digest_hex(&key, hex[0]);
	digest_hex(&second, hex[1]);
	digest_hex(&scope, hex[2]);
	return 0;
}

static int down(void **state)
{
	_cleanup_fd_ int top = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	close(store);
	return fd_remove_tree(top, dir + 1);
}

static bool exists(const char *path)
{
	return faccessat(store, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void put(const char *path, const char *text)
{
	_cleanup_fd_ int fd = openat(store, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void expect_text(const char *path, const char *text)
{
	_cleanup_fd_ int fd = openat(store, path, O_RDONLY | O_CLOEXEC);
	char got[64] = "";

	assert_true(fd >= 0);
	assert_true(read(fd, got, sizeof(got) - 1) >= 0);
	assert_string_equal(got, text);
}

static struct keep_file file(uint32_t kind, const struct digest *in)
{
	return (struct keep_file){.kind = kind, .key = key, .second = second, .scope = *in};
}

/* What is created and published under @kind is then at @path. */
static void expect_place(uint32_t kind, const struct digest *in, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void expect_place(uint32_t kind, const struct digest *in, const char *fmt, ...)
{
	const struct keep_file f = file(kind, in);
	struct err e = ERR_INIT;
	char path[300], tmp[310];
	struct stat st;
	va_list ap;
	int fd;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	fd = store_file_create(store, &f, &e);
	assert_true(fd >= 0);
	assert_true(exists(tmp) && !exists(path));
	assert_int_equal(write(fd, "one", 3), 3);
	assert_int_equal(store_file_publish(store, &f, &e), 0);
	assert_true(exists(path) && !exists(tmp));
	expect_text(path, "one");
	assert_int_equal(fstatat(store, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	close(fd);
	fd = store_file_open(store, &f, O_RDONLY, &e);
	assert_true(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	assert_int_equal(store_file_drop(store, &f, &e), 0);
	assert_false(exists(path));
	assert_int_equal(store_file_drop(store, &f, &e), 0); /* once more is harmless */
	assert_int_equal(store_file_open(store, &f, O_RDONLY, &e), -ENOENT);
	assert_non_null(strstr(e.text, path));
}

static void names_from_kinds(void **state)
{
	const char *k = hex[0], *s = hex[1], *u = hex[2];

	expect_place(KEEP_TAR, &none, "layers/%s/tar", k);
	expect_place(KEEP_INDEX, &none, "layers/%s/index", k);
	expect_place(KEEP_IMAGE, &none, "layers/%s/image.erofs", k);
	expect_place(KEEP_SOURCES, &none, "layers/%s/sources.json", k);
	expect_place(KEEP_PRESENT, &none, "layers/%s/present", k);
	expect_place(KEEP_MAP, &none, "layers/%s/blob-%s.map", k, s);
	expect_place(KEEP_TAR, &scope, "unproven/%s/%s/tar", u, k);
	expect_place(KEEP_MAP, &scope, "unproven/%s/%s/blob-%s.map", u, k, s);
	expect_place(KEEP_RECORD, &none, "images/%s.json", k);
	expect_place(KEEP_PARENTS, &none, "images/%s.erofs", k);
	expect_place(KEEP_BLOB, &none, "blobs/sha256/%s", k);
	expect_place(KEEP_INDEX_JSON, &none, "./index.json");
	expect_place(KEEP_PINS, &none, "./pins.json");
}

static void kinds_that_are_none(void **state)
{
	static const uint32_t kinds[] = {0, KEEP_CONTAINER, KEEP_KINDS, KEEP_KINDS + 7, UINT32_MAX};
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		const struct keep_file f = file(kinds[i], &none);

		assert_int_equal(store_file_open(store, &f, O_RDONLY, &e), -EINVAL);
		assert_int_equal(store_file_create(store, &f, &e), -EINVAL);
		assert_int_equal(store_file_publish(store, &f, &e), -EINVAL);
		assert_int_equal(store_file_drop(store, &f, &e), -EINVAL);
	}
}

static void create_makes_a_new_inode(void **state)
{
	const struct keep_file f = file(KEEP_TAR, &none);
	struct err e = ERR_INIT;
	struct stat a, b;
	int old = store_file_create(store, &f, &e), fd;

	/* Asked again after a keeper's death: the writer of before writes to nowhere. */
	fd = store_file_create(store, &f, &e);
	assert_true(old >= 0 && fd >= 0);
	assert_int_equal(fstat(old, &a), 0);
	assert_int_equal(fstat(fd, &b), 0);
	assert_true(a.st_ino != b.st_ino || a.st_nlink == 0);
	close(old);
	close(fd);
}

static void publish_again(void **state)
{
	const struct keep_file f = file(KEEP_INDEX, &none);
	struct err e = ERR_INIT;
	int fd;

	assert_int_equal(store_file_publish(store, &f, &e), -ENOENT);
	fd = store_file_create(store, &f, &e);
	close(fd);
	assert_int_equal(store_file_publish(store, &f, &e), 0);
	assert_int_equal(store_file_publish(store, &f, &e), 0);
	/* The new one replaces the old one. */
	fd = store_file_create(store, &f, &e);
	assert_int_equal(write(fd, "two", 3), 3);
	close(fd);
	assert_int_equal(store_file_publish(store, &f, &e), 0);
	fd = store_file_open(store, &f, O_RDONLY, &e);
	assert_int_equal(lseek(fd, 0, SEEK_END), 3);
	close(fd);
}

static void drop_takes_the_temporary_too(void **state)
{
	const struct keep_file f = file(KEEP_BLOB, &none);
	struct err e = ERR_INIT;
	char path[200];

	close(store_file_create(store, &f, &e));
	snprintf(path, sizeof(path), "blobs/sha256/%s.tmp", hex[0]);
	assert_true(exists(path));
	assert_int_equal(store_file_drop(store, &f, &e), 0);
	assert_false(exists(path));
}

/* A link in the store leads nowhere. */
static void links_are_not_followed(void **state)
{
	const struct keep_file f = file(KEEP_TAR, &none);
	struct err e = ERR_INIT;
	char path[200];

	snprintf(path, sizeof(path), "layers/%s", hex[0]);
	assert_int_equal(symlinkat("/etc", store, path), 0);
	assert_true(store_file_open(store, &f, O_RDONLY, &e) < 0);
	assert_true(store_file_create(store, &f, &e) < 0);
	assert_false(faccessat(AT_FDCWD, "/etc/tar.tmp", F_OK, 0) == 0);
}

static void drop_a_layer(void **state)
{
	struct keep_file f = file(KEEP_INDEX, &scope);
	struct err e = ERR_INIT;
	char path[300];

	assert_int_equal(store_layer_drop(store, &key, &scope, &e), 0); /* nothing there */
	close(store_file_create(store, &f, &e));
	assert_int_equal(store_file_publish(store, &f, &e), 0);
	f.kind = KEEP_TAR;
	close(store_file_create(store, &f, &e));
	assert_int_equal(store_layer_drop(store, &key, &scope, &e), 0);
	snprintf(path, sizeof(path), "unproven/%s/%s", hex[2], hex[0]);
	assert_false(exists(path));
}

/* --- listings --- */

static size_t list(uint32_t kind, struct digest *out, size_t max)
{
	struct err e = ERR_INIT;
	_cleanup_fd_ int fd = store_list(store, kind, &e);
	ssize_t n;

	assert_true(fd >= 0);
	n = pread(fd, out, max * sizeof(*out), 0);
	assert_true(n >= 0 && n % (ssize_t)sizeof(*out) == 0);
	return (size_t)n / sizeof(*out);
}

static void lists_hold_what_is_there(void **state)
{
	struct digest got[8];
	struct keep_file f = file(KEEP_RECORD, &none);
	struct err e = ERR_INIT;
	char path[200];

	assert_int_equal(list(KEEP_RECORD, got, 8), 0);
	assert_int_equal(list(KEEP_INDEX, got, 8), 0);
	close(store_file_create(store, &f, &e)); /* not published: not there */
	put("images/readme", "");
	put("images/0123.json", "");
	assert_int_equal(list(KEEP_RECORD, got, 8), 0);
	assert_int_equal(store_file_publish(store, &f, &e), 0);
	assert_int_equal(list(KEEP_RECORD, got, 8), 1);
	assert_true(digest_equal(&got[0], &key));
	/* A layer is one with an index. */
	snprintf(path, sizeof(path), "layers/%s", hex[1]);
	assert_int_equal(mkdirat(store, path, 0700), 0);
	assert_int_equal(list(KEEP_INDEX, got, 8), 0);
	f.kind = KEEP_INDEX;
	close(store_file_create(store, &f, &e));
	assert_int_equal(store_file_publish(store, &f, &e), 0);
	assert_int_equal(list(KEEP_INDEX, got, 8), 1);
	assert_true(digest_equal(&got[0], &key));
	assert_int_equal(store_list(store, KEEP_SOURCES, &e), -EINVAL);
}

static void sweep_removes_what_is_temporary(void **state)
{
	static const char *const go[] = {
		".tmp-0123456789abcdef",
		"pins.json.tmp",
		"images/x.json.tmp",
		"blobs/sha256/a.tmp",
		"layers/l/tar.tmp",
		"unproven/m/l/index.tmp",
		"resolver/etc/.tmp-0123456789abcdef",
	};
	static const char *const stay[] = {
		"pins.json",        "images/x.json",          "blobs/sha256/a",     "layers/l/tar",
		"layers/l/.tmp",    "unproven/m/l/tar",       "resolver/etc/hosts", "images/.tmp",
		"containers/c.tmp", "containers/d/upper.tmp",
	};

	mkdirat(store, "layers/l", 0700);
	mkdirat(store, "unproven/m", 0700);
	mkdirat(store, "unproven/m/l", 0700);
	mkdirat(store, "resolver", 0700);
	mkdirat(store, "resolver/etc", 0700);
	mkdirat(store, "containers/d", 0700);
	for (size_t i = 0; i < ARRAY_LEN(go); i++)
		put(go[i], "");
	for (size_t i = 0; i < ARRAY_LEN(stay); i++)
		put(stay[i], "");
	store_sweep(store);
	for (size_t i = 0; i < ARRAY_LEN(go); i++)
		assert_false(exists(go[i]));
	for (size_t i = 0; i < ARRAY_LEN(stay); i++)
		assert_true(exists(stay[i]));
}

/* --- image layouts of others --- */

static int open_layout(uint32_t which)
{
	struct keep_layout l = {.which = which, .digest = key};
	struct err e = ERR_INIT;

	snprintf(l.dir, sizeof(l.dir), "%s", dir);
	return store_layout_open(&l, &e);
}

static void layouts(void **state)
{
	struct keep_layout l = {.which = KEEP_LAYOUT_INDEX, .dir = "relative"};
	struct err e = ERR_INIT;
	char path[200];
	int fd;

	assert_int_equal(store_layout_open(&l, &e), -EINVAL);
	memset(l.dir, '/', sizeof(l.dir));
	assert_int_equal(store_layout_open(&l, &e), -EINVAL);
	snprintf(l.dir, sizeof(l.dir), "/nonexistent");
	assert_int_equal(store_layout_open(&l, &e), -ENOENT);

	put("oci-layout", "v");
	fd = open_layout(KEEP_LAYOUT_VERSION);
	assert_true(fd >= 0);
	close(fd);
	/* A link out of the layout ends inside it; a fifo does not hold us up. */
	assert_int_equal(symlinkat("/etc/passwd", store, "index.json"), 0);
	assert_int_equal(open_layout(KEEP_LAYOUT_INDEX), -ENOENT);
	snprintf(path, sizeof(path), "blobs/sha256/%s", hex[0]);
	assert_int_equal(mkfifoat(store, path, 0600), 0);
	assert_int_equal(open_layout(KEEP_LAYOUT_BLOB), -EINVAL);
	assert_int_equal(unlinkat(store, path, 0), 0);
	assert_int_equal(mkdirat(store, path, 0700), 0);
	assert_int_equal(open_layout(KEEP_LAYOUT_BLOB), -EINVAL);
}

/* --- containers --- */

static void ids(void **state)
{
	static const char *const good[] = {"a", "0", "Web_1.x+y-z", "mount-0123"};
	static const char *const bad[] = {"",     ".",   "..",  ".a",       "-a",  "_a",  "a/b",
					  "../a", "a b", "a\n", "\xc3\xa4", "a:b", "a\\b"};
	char full[LIMIT_ID + 8];

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(store_id_valid(good[i]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;
		int a, b;

		assert_false(store_id_valid(bad[i]));
		assert_int_equal(store_container_open(store, bad[i], store, &a, &b, &e), -EINVAL);
		assert_int_equal(store_container_drop(store, bad[i], &e), -EINVAL);
	}
	memset(full, 'a', sizeof(full));
	assert_false(store_id_valid(full)); /* no end within LIMIT_ID */
	full[LIMIT_ID - 1] = '\0';
	assert_true(store_id_valid(full));
}

static void a_container(void **state)
{
	struct err e = ERR_INIT;
	int root, upper, work;
	struct stat a, b;

	assert_int_equal(mkdirat(store, "root", 0700), 0);
	root = openat(store, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fchmod(root, 01751), 0);
	/* Left behind by an attempt that was cut short. */
	assert_int_equal(mkdirat(store, "containers/c", 0700), 0);
	assert_int_equal(mkdirat(store, "containers/c/upper.tmp", 0700), 0);
	put("containers/c/upper.tmp/junk", "");
	assert_int_equal(store_container_open(store, "c", root, &upper, &work, &e), 0);
	assert_int_equal(fstat(root, &a), 0);
	assert_int_equal(fstat(upper, &b), 0);
	assert_int_equal(b.st_mode, S_IFDIR | 01751);
	assert_true(a.st_uid == b.st_uid && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec);
	assert_false(exists("containers/c/upper/junk"));
	put("containers/c/upper/written", "x");
	close(upper);
	close(work);
	/* What was written is there the next time. */
	assert_int_equal(store_container_open(store, "c", root, &upper, &work, &e), 0);
	assert_int_equal(faccessat(upper, "written", F_OK, 0), 0);
	close(upper);
	close(work);
	close(root);
	assert_int_equal(store_container_drop(store, "c", &e), 0);
	assert_false(exists("containers/c"));
	assert_int_equal(store_container_drop(store, "c", &e), 0);
}

/* --- opening a store; needs a file system and rights that marks can be tried with --- */

static int try_open(const char *name, struct err *e)
{
	char path[100];
	int fd = -1, lock = -1, r;

	*e = (struct err)ERR_INIT;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	r = store_open(path, &fd, &lock, e);
	if (r == 0) {
		close(fd);
		close(lock);
	}
	return r;
}

static void need_marks(void)
{
	struct err e;

	if (geteuid() != 0 || try_open("probe", &e) == -EOPNOTSUPP)
		skip();
}

static void a_new_store(void **state)
{
	static const char *const made[] = {
		"s/format", "s/oci-layout", "s/index.json", "s/images",       "s/blobs/sha256",
		"s/layers", "s/unproven",   "s/containers", "s/resolver/etc",
	};
	struct err e;
	struct stat st;

	need_marks();
	assert_int_equal(try_open("s", &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(made); i++)
		assert_true(exists(made[i]));
	expect_text("s/format", "1\n");
	assert_false(exists("s/probe.tmp"));
	assert_int_equal(fstatat(store, "s", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	/* What is ours already stays as it is. */
	put("s/index.json", "mine");
	assert_int_equal(try_open("s", &e), 0);
	expect_text("s/index.json", "mine");
}

static void a_store_that_was_begun(void **state)
{
	static const char *const left[] = {"s/lock", "s/probe.tmp", "s/.tmp-0123456789abcdef"};
	struct err e;

	need_marks();
	for (size_t i = 0; i < ARRAY_LEN(left); i++) {
		assert_int_equal(mkdirat(store, "s", 0700), 0);
		put(left[i], "");
		assert_int_equal(try_open("s", &e), 0);
		assert_true(exists("s/format") && exists("s/index.json") && exists("s/images"));
		assert_int_equal(fd_remove_tree(store, "s"), 0);
	}
	assert_int_equal(mkdirat(store, "s", 0700), 0);
	put("s/format", "1\n");
	assert_int_equal(try_open("s", &e), 0);
	assert_true(exists("s/oci-layout") && exists("s/images"));
}

static void a_directory_of_something_else(void **state)
{
	struct err e;

	assert_int_equal(mkdirat(store, "s", 0755), 0);
	put("s/letter", "dear");
	assert_int_equal(try_open("s", &e), -EINVAL);
	assert_non_null(strstr(e.text, "neither empty nor a tarn store"));
	assert_false(exists("s/lock"));
	put("file", "");
	assert_true(try_open("file", &e) < 0);
	assert_true(try_open("no/such/place", &e) == -ENOENT);
}

static void formats(void **state)
{
	static const struct {
		const char *text, *words;
	} bad[] = {
		{"2\n", "made by a newer tarn"},
		{"0\n", "damaged"},
		{"", "damaged"},
		{"one\n", "damaged"},
		{"-1\n", "damaged"},
	};
	struct err e;

	assert_int_equal(mkdirat(store, "s", 0700), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		put("s/format", bad[i].text);
		assert_int_equal(try_open("s", &e), -EINVAL);
		assert_non_null(strstr(e.text, bad[i].words));
		assert_non_null(strstr(e.text, dir));
	}
}

static void one_tarnd_at_a_time(void **state)
{
	struct err e;
	int fd;

	need_marks();
	assert_int_equal(try_open("s", &e), 0);
	fd = openat(store, "s/lock", O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(try_open("s", &e), -EBUSY);
	close(fd);
	assert_int_equal(try_open("s", &e), 0);
}

#define RIGGED(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIGGED(names_from_kinds),
		RIGGED(kinds_that_are_none),
		RIGGED(create_makes_a_new_inode),
		RIGGED(publish_again),
		RIGGED(drop_takes_the_temporary_too),
		RIGGED(links_are_not_followed),
		RIGGED(drop_a_layer),
		RIGGED(lists_hold_what_is_there),
		RIGGED(sweep_removes_what_is_temporary),
		RIGGED(layouts),
		RIGGED(ids),
		RIGGED(a_container),
		RIGGED(a_new_store),
		RIGGED(a_store_that_was_begun),
		RIGGED(a_directory_of_something_else),
		RIGGED(formats),
		RIGGED(one_tarnd_at_a_time),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
