/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=EVP_Digest */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "oci/base/cleanup.h"
#include "oci/base/digest.h"
#include "oci/base/err.h"

/* FIPS 180-2, appendix B.1 and B.2, and the sum of nothing. */
#define ABC   "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define LONG  "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
#define EMPTY "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const char long_text[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";

static void known_sums(void **state)
{
	char text[DIGEST_TEXT];
	struct digest d;

	assert_int_equal(digest_of("abc", 3, &d), 0);
	assert_string_equal(digest_text(&d, text), ABC);
	assert_int_equal(digest_of(long_text, strlen(long_text), &d), 0);
	assert_string_equal(digest_text(&d, text), LONG);
	assert_int_equal(digest_of(NULL, 0, &d), 0);
	assert_string_equal(digest_text(&d, text), EMPTY);
}

static void text_round_trip(void **state)
{
	char text[DIGEST_TEXT];
	char hex[DIGEST_HEX + 1];
	struct digest a;
	struct digest b;

	assert_int_equal(digest_parse(ABC, &a, NULL), 0);
	assert_string_equal(digest_text(&a, text), ABC);
	assert_string_equal(digest_hex(&a, hex), &ABC[7]);
	assert_int_equal(digest_parse_hex(hex, DIGEST_HEX, &b), 0);
	assert_true(digest_equal(&a, &b));
	b.sum[31] ^= 1;
	assert_false(digest_equal(&a, &b));
}

static void bad_texts_are_refused_by_name(void **state)
{
	static const char *const bad[] = {
		"",
		"sha256:",
		"sha256",
		"sha512:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"SHA256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		/* upper case, short by one, long by one, a bad digit first and last, a space */
		"sha256:BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a",
		"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015add",
		"sha256:ga7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a/",
		" sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct digest d = {.sum = {42}};
		struct err e = ERR_INIT;

		assert_int_equal(digest_parse(bad[i], &d, &e), -EINVAL);
		assert_non_null(strstr(e.text, bad[i]));
		assert_int_equal(d.sum[0], 42);
	}
}

static void a_missing_digest_is_an_error(void **state)
{
	struct digest d;
	struct err e = ERR_INIT;

	assert_int_equal(digest_parse(NULL, &d, &e), -EINVAL);
	assert_string_not_equal(e.text, "");
}

static void hex_needs_no_nul(void **state)
{
	char hex[DIGEST_HEX];
	struct digest d;

	memcpy(hex, &ABC[7], DIGEST_HEX);
	assert_int_equal(digest_parse_hex(hex, DIGEST_HEX, &d), 0);
	assert_int_equal(digest_parse_hex(hex, DIGEST_HEX - 1, &d), -EINVAL);
	assert_int_equal(digest_parse_hex(hex, 0, &d), -EINVAL);
}

static void zero(void **state)
{
	struct digest d = {.sum = {0}};

	assert_true(digest_is_zero(&d));
	d.sum[31] = 1;
	assert_false(digest_is_zero(&d));
}

static void a_running_sum_in_pieces(void **state)
{
	_cleanup_(hasher_freep) struct hasher *h = hasher_new();
	char text[DIGEST_TEXT];
	struct digest d;

	assert_non_null(h);
	for (size_t i = 0; i < strlen(long_text); i++)
		assert_int_equal(hasher_update(h, long_text + i, 1), 0);
	assert_int_equal(hasher_final(h, &d), 0);
	assert_string_equal(digest_text(&d, text), LONG);

	/* Used up until it is reset. */
	assert_int_equal(hasher_update(h, "x", 1), -EINVAL);
	assert_int_equal(hasher_final(h, &d), -EINVAL);
	assert_int_equal(hasher_reset(h), 0);
	assert_int_equal(hasher_update(h, "abc", 3), 0);
	assert_int_equal(hasher_final(h, &d), 0);
	assert_string_equal(digest_text(&d, text), ABC);

	/* A reset in the middle forgets. */
	assert_int_equal(hasher_reset(h), 0);
	assert_int_equal(hasher_update(h, "garbage", 7), 0);
	assert_int_equal(hasher_reset(h), 0);
	assert_int_equal(hasher_final(h, &d), 0);
	assert_string_equal(digest_text(&d, text), EMPTY);
}

static void freeing_nothing(void **state)
{
	assert_null(hasher_free(NULL));
}

/* libcrypto has no memory, so many times. */
static int shortage;

int __real_EVP_Digest(const void *data, size_t n, unsigned char *md, unsigned *size,
		      const EVP_MD *type, ENGINE *impl);
int __wrap_EVP_Digest(const void *data, size_t n, unsigned char *md, unsigned *size,
		      const EVP_MD *type, ENGINE *impl);

int __wrap_EVP_Digest(const void *data, size_t n, unsigned char *md, unsigned *size,
		      const EVP_MD *type, ENGINE *impl)
{
	if (shortage > 0 && shortage-- > 0)
		return 0;
	return __real_EVP_Digest(data, n, md, size, type, impl);
}

static void a_lack_of_memory_is_no_other_sum(void **state)
{
	char text[DIGEST_TEXT];
	struct digest d;

	shortage = 3;
	assert_int_equal(digest_of("abc", 3, &d), 0);
	assert_string_equal(digest_text(&d, text), ABC);
	shortage = 1000;
	assert_int_equal(digest_of("abc", 3, &d), -ENOMEM);
	shortage = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_sums),
		cmocka_unit_test(text_round_trip),
		cmocka_unit_test(bad_texts_are_refused_by_name),
		cmocka_unit_test(a_missing_digest_is_an_error),
		cmocka_unit_test(hex_needs_no_nul),
		cmocka_unit_test(zero),
		cmocka_unit_test(a_running_sum_in_pieces),
		cmocka_unit_test(freeing_nothing),
		cmocka_unit_test(a_lack_of_memory_is_no_other_sum),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
