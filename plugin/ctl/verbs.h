/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CTL_VERBS_H
#define PLUGIN_CTL_VERBS_H

#include <errno.h>

struct ctl_task;
struct err;
struct json_gen;

/*
 * What can be asked for over the control socket (proto.h), each served in a thread of its own.
 * IMAGE is a name or a manifest digest, LAYER a diff_id or a prefix of one; "what" takes either.
 * Arguments marked ? may be missing. Sizes are bytes, times milliseconds.
 *
 *   verb     arguments                                  rows                     done
 *   pull     source, keep? "auto|all|none", name?,      -                        digest, name,
 *            platform?, tls_verify? (true),                                      layers, size,
 *            user?, secret?                                                      resident
 *   attach   id, image, rw, kind, pid, label?           -                        image + fd
 *   detach   id                                         -                        -
 *   config   image                                      -                        image, config,
 *                                                                                names + fd
 *   evict    what or all: true, free?, cold_for_ms?,    diff_id, freed,          freed,
 *            wait?                                      kept_in_use              kept_in_use
 *   fill     what, wait?                                diff_id, size, resident  layers, size,
 *                                                                                resident
 *   verify   what                                       diff_id, checked, bad,   checked, bad,
 *                                                       whole, text?             layers
 *   status   waiting?, acknowledge?                     kind: layer, container,  daemon
 *                                                       waiting, lost
 *   images   -                                          name, digest, layers, size, resident
 *   layers   image?                                     as of status, images
 *   pin      image, paths?                              -                        paths, bytes
 *   unpin    image, paths?                              -                        paths
 *   rm       image                                      -                        gone, freed
 *   gc       -                                          kind, name, freed        freed
 *
 * An `oci:` source carries an absolute path; who asks makes it one.
 */

/*
 * The code for a request that was worded wrongly, as opposed to one that failed: the client
 * exits with 2. Any other code, -EINVAL included, says what the work met.
 */
#define CTL_USAGE (-EDOM)

int verb_pull(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_attach(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_detach(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_config(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_evict(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_fill(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_verify(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_status(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_images(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_layers(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_pin(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_unpin(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_rm(struct ctl_task *t, struct json_gen *done, struct err *e);
int verb_gc(struct ctl_task *t, struct json_gen *done, struct err *e);

#endif
