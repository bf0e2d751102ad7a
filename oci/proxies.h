/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_PROXIES_H
#define OCI_PROXIES_H

/* URLs as curl(1) takes them, with user and password if need be. All borrowed; NULL = none. */
struct proxies {
	const char *http, *https; /* for registries that are spoken to by one or the other */
	const char *none;         /* hosts, domains and networks to go to directly: a,b,.c */
};

#endif
