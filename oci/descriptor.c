/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/descriptor.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"

#define OCI    "application/vnd.oci.image."
#define DOCKER "application/vnd.docker."

/*
 * The first name of each meaning is the OCI one, which media_name() gives. Foreign and
 * nondistributable layers are ordinary layers whose bytes may be missing from the registry.
 */
static const struct {
	enum media media;
	const char *name;
} media_types[] = {
	{MEDIA_INDEX, OCI "index.v1+json"},
	{MEDIA_MANIFEST, OCI "manifest.v1+json"},
	{MEDIA_CONFIG, OCI "config.v1+json"},
	{MEDIA_LAYER_TAR, OCI "layer.v1.tar"},
	{MEDIA_LAYER_GZIP, OCI "layer.v1.tar+gzip"},
	{MEDIA_LAYER_ZSTD, OCI "layer.v1.tar+zstd"},
	{MEDIA_LAYER_TAR, OCI "layer.nondistributable.v1.tar"},
	{MEDIA_LAYER_GZIP, OCI "layer.nondistributable.v1.tar+gzip"},
	{MEDIA_LAYER_ZSTD, OCI "layer.nondistributable.v1.tar+zstd"},
	{MEDIA_INDEX, DOCKER "distribution.manifest.list.v2+json"},
	{MEDIA_MANIFEST, DOCKER "distribution.manifest.v2+json"},
	{MEDIA_CONFIG, DOCKER "container.image.v1+json"},
	{MEDIA_LAYER_TAR, DOCKER "image.rootfs.diff.tar"},
	{MEDIA_LAYER_GZIP, DOCKER "image.rootfs.diff.tar.gzip"},
	{MEDIA_LAYER_ZSTD, DOCKER "image.rootfs.diff.tar.zstd"},
	{MEDIA_LAYER_TAR, DOCKER "image.rootfs.foreign.diff.tar"},
	{MEDIA_LAYER_GZIP, DOCKER "image.rootfs.foreign.diff.tar.gzip"},
	{MEDIA_LAYER_ZSTD, DOCKER "image.rootfs.foreign.diff.tar.zstd"},
};

enum media media_of(const char *media_type)
{
	size_t len;

	if (!media_type)
		return MEDIA_UNKNOWN;
	/* RFC 9110, 8.3.1: white space may stand before the ';', and case does not count. */
	len = strcspn(media_type, "; \t");
	for (size_t i = 0; i < ARRAY_LEN(media_types); i++) {
		const char *name = media_types[i].name;

		if (strlen(name) == len && strncasecmp(name, media_type, len) == 0)
			return media_types[i].media;
	}
	return MEDIA_UNKNOWN;
}

const char *media_name(enum media m)
{
	for (size_t i = 0; i < ARRAY_LEN(media_types); i++) {
		if (media_types[i].media == m)
			return media_types[i].name;
	}
	return "unknown";
}

int descriptor_parse(const struct json *v, const char *what, struct descriptor *ret, struct err *e)
{
	const char *media_type = json_get_str(v, "mediaType");
	const char *digest = json_get_str(v, "digest");
	struct descriptor d = {.media = media_of(media_type)};
	int64_t size;
	int r;

	if (!json_is_object(v))
		return err_set(e, -EINVAL, "%s is not a descriptor (a JSON object)", what);
	if (!media_type)
		return err_set(e, -EINVAL, "%s has no mediaType", what);
	if (!digest)
		return err_set(e, -EINVAL, "%s has no digest", what);
	if (!json_get_int(v, "size", &size))
		return err_set(e, -EINVAL, "%s has no size (a whole number)", what);
	if (size < 0)
		return err_set(e, -EINVAL, "%s: size %" PRId64 " is negative", what, size);
	r = digest_parse(digest, &d.digest, e);
	if (r < 0)
		return err_wrap(e, r, "%s", what);
	d.size = (uint64_t)size;
	*ret = d;
	return 0;
}
