// A C library whose names rebind: what begins with "rebind-a." or "rebind-b." is public the first time that it is asked for and this
// machine ever after. Everything else is the real library's. Loaded by LD_PRELOAD in a test of the guard.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

static int asked[2];

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
	int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
	if (node != NULL && strncmp(node, "rebind-", 7) == 0 && (node[7] == 'a' || node[7] == 'b')) {
		node = __sync_fetch_and_add(&asked[node[7] - 'a'], 1) == 0 ? "93.184.215.14" : "127.0.0.1";
	}
	return next(node, service, hints, found);
}
