/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/hostile/order.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/hostile/attempts.h"

static struct order {
	_Atomic uint8_t who, what, result;
} * order;

__attribute__((constructor)) static void map_order(void)
{
	const char *path = getenv("TARN_EXPLOIT");
	int fd;

	if (!path)
		return;
	if (!strcmp(path, "list")) {
		for (size_t i = 0; i < nattempts; i++)
			printf("%s%s\n", attempts[i].name,
			       attempts[i].fetcher_may ? " (not of a fetcher)" : "");
		exit(EXIT_SUCCESS);
	}
	fd = open(path, O_RDWR | O_CLOEXEC);
	order = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || order == MAP_FAILED)
		exit(EXIT_FAILURE);
	close(fd);
}

bool order_take(uint8_t who, uint8_t *ret)
{
	if (!order || !atomic_compare_exchange_strong(&order->who, &who, 0))
		return false;
	*ret = atomic_load(&order->what);
	atomic_store(&order->result, 1);
	return true;
}

void order_make(uint8_t what)
{
	if (what < nattempts)
		atomic_store(&order->result, attempts[what].run() < 0 ? 2 : 3);
}

void order_obey(uint8_t who)
{
	uint8_t what;

	if (order_take(who, &what))
		order_make(what);
}
