/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_HOSTILE_ORDER_H
#define TESTS_HOSTILE_ORDER_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What the processes of a program are to do, from the file that $TARN_EXPLOIT names:
 *
 *	byte 0	who: a letter that the program gives to one of its places
 *	byte 1	which of the attempts (attempts.c), or another number, which is the program's own
 *	byte 2	what came of it: 0 nothing yet, 1 it began and had no answer, 2 refused, 3 it got
 *		through
 *
 * It is mapped by every process before any right is given up. With TARN_EXPLOIT=list the program
 * prints the attempts instead of running.
 */

/* True, and from then on it has begun: @who has an order, which is in *ret. For one process only.
 */
bool order_take(uint8_t who, uint8_t *ret);
/* Makes the attempt, if it is one, and notes what came of it. */
void order_make(uint8_t what);
/* Both. */
void order_obey(uint8_t who);

#endif
