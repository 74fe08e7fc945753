/* source.h - who counts as one when a listener counts its callers: an IPv4 address, also where an IPv6 socket shows it
 * as ::ffff:a.b.c.d; of IPv6 the network of 64 bits, which one customer has whole. */
#ifndef TUNNEL_SOURCE_H
#define TUNNEL_SOURCE_H

#include "verifier/base/span.h"

#include <sys/socket.h>

#define TUNNEL_SOURCE_LEN 9

/* Equal for what counts as one; another family than the two: all zero. */
void tunnel_source_key(const struct sockaddr *from, uint8_t key[TUNNEL_SOURCE_LEN]);
/* The key's place in a table of `slots`: where two collide, they share. */
size_t tunnel_source_slot(const uint8_t key[TUNNEL_SOURCE_LEN], size_t slots);

#endif
