/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_MOUNT_SIGN_H
#define PLUGIN_MOUNT_SIGN_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Is a file system still mounted, wherever? Nobody tells of its end, and the device number of one
 * without a block device goes to whichever is mounted next.
 */

/* What is kept of the file system with device @dev to tell it by later. 0: there is none. */
uint64_t mount_sign(uint64_t dev);
/* Is it there still? On architectures without ustat(2): true. */
bool mount_there(uint64_t dev, uint64_t sign);

#endif
