/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_KNOWN_H
#define PLUGIN_CLI_KNOWN_H

#include <stdbool.h>

/* Whether a container exists, running or not. When that cannot be seen, it does. */

/* A runtime with its state in the usual place has it, or an engine with its storage there. */
bool runtime_knows(const char *id);
/* The same, and podman is asked. */
bool container_known(const char *id);

#endif
