/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_LIMITS_H
#define OCI_BASE_LIMITS_H

/* Every limit tarn sets, with its reason. Sizes are bytes unless the name says otherwise. */

/* OCI distribution-spec: registries SHOULD refuse manifests larger than 4 MiB. */
#define LIMIT_MANIFEST (4u << 20)
/* Image configs carry history; the largest seen in the wild are some hundred KiB. */
#define LIMIT_CONFIG (4u << 20)
/* Env, Entrypoint or Cmd of a config: images set some dozen, and we look for each among all. */
#define LIMIT_STRINGS 4096
/* A runtime bundle's config.json; engines inject long mount and env lists. */
#define LIMIT_BUNDLE_CONFIG (8u << 20)
/* One parser stack frame per level: no document we read nests deeper than about 10. */
#define LIMIT_JSON_DEPTH 32
/* index → index → manifest; more is a loop or an attack. */
#define LIMIT_INDEX_NESTING 4
/* overlayfs takes 500 lowers, Docker and containerd stop at 127/128. */
#define LIMIT_LAYERS 128
/* Host + '/' + name: distribution-spec, section on names. */
#define LIMIT_REF  512
#define LIMIT_NAME 256
/* A user name for a registry, and a password or identity token: ECR's have 2.7 KiB. */
#define LIMIT_USER   256
#define LIMIT_SECRET 4096
/* Linux NAME_MAX and PATH_MAX. */
#define LIMIT_FILE_NAME 255
#define LIMIT_PATH      4096
/* Linux XATTR_NAME_MAX, and what EROFS stores in 16 bits. */
#define LIMIT_XATTR_NAME  255
#define LIMIT_XATTR_VALUE 65535
#define LIMIT_XATTRS      1024
/* 1 M files is the largest image we promise; 4 M entries leave room for duplicates. */
#define LIMIT_ENTRIES (4u << 20)
/* The encoded table of contents of such a layer. */
#define LIMIT_TOC (1u << 30)
/* 32-bit block numbers of 512 bytes in the EROFS chunk index (erofs_fs.h). */
#define LIMIT_TAR_SIZE ((uint64_t)1 << 41)
/* Nested directories in one layer: PATH_MAX / 2. */
#define LIMIT_TREE_DEPTH 2048
/* All windows of one blob's map: 131,072 spans of incompressible history. */
#define LIMIT_WINDOWS (4ull << 30)
/* The headers of one tar member: libarchive takes 1 MiB for each special one. */
#define LIMIT_TAR_HEADERS (8u << 20)
/* A span: the unit of fetch, verification, fill and eviction. */
#define LIMIT_SPAN_MIN (64u << 10)
#define LIMIT_SPAN_MAX (4u << 20)
/* Of what was written and is not durable yet, at most so much is locked in memory. */
#define LIMIT_HELD (512u << 20)
/* Bearer tokens of large registries are some KiB. */
#define LIMIT_TOKEN (16u << 10)
/* The token server's whole answer: the token under two names, and a refresh token. */
#define LIMIT_TOKEN_ANSWER (64u << 10)
/* Values of one WWW-Authenticate challenge; real ones are some hundred bytes. */
#define LIMIT_REALM 1024
#define LIMIT_SCOPE 1024
/* Signed storage URLs are 1 to 3 KiB, with session tokens more. */
#define LIMIT_URL (16u << 10)
/* Headers of one HTTP answer that we keep. */
#define LIMIT_HTTP_HEADERS (64u << 10)
#define LIMIT_REDIRECTS    5
/* Repositories whose token, and blobs whose storage URL, one client remembers. */
#define LIMIT_ACCOUNTS  64
#define LIMIT_LOCATIONS 128
/* passwd and group of an image. */
#define LIMIT_PASSWD (4u << 20)
/* One message on the control socket, and clients at once. */
#define LIMIT_CTL_MESSAGE (128u << 10)
#define LIMIT_CTL_CLIENTS 256
/* What a client keeps of a listing: 100,000 rows of some 600 bytes. */
#define LIMIT_CTL_ROWS (64u << 20)
/* auth.json of podman and docker: one entry for each login. */
#define LIMIT_AUTH_FILE (1u << 20)
/*
 * Events read and not yet answered, and a descriptor each: more than the threads that a handful of
 * containers may have by podman's default (2,048). Where fewer descriptors may be open it is less:
 * plugin/descriptors.h.
 */
#define LIMIT_SLOTS 16384
/* The fewest descriptors a process may have: those of a few fetchers, layers and events. */
#define LIMIT_NOFILE_LEAST 256
/* Layers mounted at once. */
#define LIMIT_MOUNTED 4096
/* Container ids become directory names. */
#define LIMIT_ID 128
/* A settings file. */
#define LIMIT_SETTINGS (64u << 10)
/* An index file: its table of contents and 32 bytes for each of the most and smallest spans. */
#define LIMIT_INDEX_FILE (LIMIT_TOC + LIMIT_TAR_SIZE / LIMIT_SPAN_MIN * 32 + 4096)
/* A blob map: a deflated window of some 13 KiB for each MiB of the largest layers known. */
#define LIMIT_MAP_FILE (1u << 30)
/* Our record of an image: 128 layers of some 300 bytes, its names and where it came from. */
#define LIMIT_RECORD       (1u << 20)
#define LIMIT_RECORD_NAMES 256
/* Places that have one layer's blobs; the oldest is forgotten when there are more. */
#define LIMIT_SOURCES      32
#define LIMIT_SOURCES_FILE (1u << 20)
/* The store's index.json: 300 bytes for each name of an image. */
#define LIMIT_STORE_INDEX (64u << 20)
/* What is pinned: ranges of some 30 bytes, at most one for each two spans of a layer. */
#define LIMIT_PINS (64u << 20)
/* Two bits for each of the most spans. */
#define LIMIT_PRESENT_FILE (LIMIT_TAR_SIZE / LIMIT_SPAN_MIN / 4 + 4096)

/* /proc/PID/mountinfo: fs.mount-max (100,000) lines of the usual 160 bytes. */
#define LIMIT_MOUNTINFO (16u << 20)
/* /proc/PID/fdinfo of an inotify descriptor: 1024 watches with lines of some 200 bytes. */
#define LIMIT_FDINFO (1u << 20)
/* The store's list of lost layers: 4,096 lines of some 90 bytes, and what was there before. */
#define LIMIT_LOST (2u << 20)
/* Entries of an image's root directory that are mounted one by one; images have some 20. */
#define LIMIT_GRAFTS 256
/* Symbolic links followed on one path, as the kernel does. */
#define LIMIT_LINKS 40

#endif
