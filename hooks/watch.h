/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_WATCH_H
#define HOOKS_WATCH_H

/*
 * A hook must come to an end: not every runtime has a timeout, and when the runtime is killed,
 * nobody waits for the hook any more. A timer ends this process, with one line on stderr, after
 * @seconds or as soon as the process behind @pidfd (-1: none) has ended. Calling it again changes
 * the process; the time goes on.
 */
void watch_start(unsigned int seconds, int pidfd);

#endif
