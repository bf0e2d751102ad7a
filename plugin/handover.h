/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_HANDOVER_H
#define PLUGIN_HANDOVER_H

#include <stdint.h>

/* Between linger.c, the guardian that stays, and successor.c, the one that comes. */

/*
 * The hand-over: the old guardian sends one `piece` per descriptor, the two shared memories first,
 * then PIECE_LAST. The successor answers with one byte once it has everything.
 */
struct piece {
	uint32_t version;
	int32_t number; /* what the ward calls this descriptor, or one of PIECE_* */
};

#define PIECE_LAST -1 /* that was all */
#define PIECE_WAIT -2 /* a keeper has to stop first: answer with one byte, then wait for more */

#define HANDOVER_MS 5000 /* for each of its steps */

/* How long send(2) and recv(2) on @sock wait. 0 or -errno. */
int handover_patience(int sock, unsigned ms);

#endif
