/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_TOOL_H
#define PLUGIN_CLI_TOOL_H

struct buf;

/*
 * Runs a program found in PATH with @in (at most TOOL_IN_MAX bytes; NULL: nothing) for its stdin
 * and collects its stdout, as much as fits into @out (NULL: none); its stderr goes nowhere. argv
 * ends with NULL. Its exit status, 128 + the signal that ended it, -ENOENT when there is no such
 * program, another negative errno. After 20 s it is killed: -ETIMEDOUT.
 */
#define TOOL_IN_MAX 4096u /* a pipe holds as much, so that writing it waits for nobody */
int tool_run(const char *const *argv, const char *in, struct buf *out);

#endif
