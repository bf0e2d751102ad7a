/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The default name of a registry's image is a reference to the same image. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size);
	char name[sizeof("docker://") + LIMIT_REF] = "docker://";
	struct err e = ERR_INIT;
	struct ref r, again;

	if (!text)
		return 0;
	(void)ref_name_valid(text);
	if (ref_parse(text, &r, &e) < 0) {
		if (!*e.text || strchr(e.text, '\n'))
			abort();
		return 0;
	}
	/* The scheme keeps a host called "oci" from being taken for a layout. */
	ref_default_name(&r, name + strlen(name));
	if (r.kind == REF_LAYOUT)
		return 0;
	if (r.plain_http != ref_host_is_loopback(r.host) || ref_parse(name, &again, &e) < 0 ||
	    strcmp(r.host, again.host) != 0 || strcmp(r.repo, again.repo) != 0 ||
	    strcmp(r.tag, again.tag) != 0)
		abort();
	return 0;
}
