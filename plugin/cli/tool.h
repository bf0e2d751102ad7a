/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_TOOL_H
#define PLUGIN_CLI_TOOL_H

struct buf;

/*
 * Runs a program found in PATH and collects its stdout, as much as fits into @out (NULL: none);
 * its stderr goes nowhere. argv ends with NULL. Its exit status, 128 + the signal that ended it,
 * -ENOENT when there is no such program, another negative errno. After 20 s it is killed:
 * -ETIMEDOUT.
 */
int tool_run(const char *const *argv, struct buf *out);

#endif
