/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tarnd-deadly: a daemon with a defect that one event meets in every engine. $TARN_DEADLY is "INODE
 * BYTE" of a tar: no engine survives an event about that byte.
 */
#include <stdlib.h>

#include "plugin/engine.h"
#include "plugin/fault/fault_impl.h"

void __real_fault_new_content(struct fault *f, uint32_t i);
void __wrap_fault_new_content(struct fault *f, uint32_t i);

void __wrap_fault_new_content(struct fault *f, uint32_t i)
{
	const struct slot *s = &f->slots->s[i];
	char *end = getenv("TARN_DEADLY");
	uint64_t ino = end ? strtoull(end, &end, 10) : 0;
	uint64_t byte = end ? strtoull(end, NULL, 10) : 0;

	if (s->ino == ino && s->off <= byte && byte - s->off < s->count)
		abort();
	__real_fault_new_content(f, i);
}
