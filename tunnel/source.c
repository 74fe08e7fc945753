#include "tunnel/source.h"

#include <netinet/in.h>

enum { OF_V4 = 4, OF_V6 = 6, V4_LEN = 4, NETWORK_LEN = 8 };

void tunnel_source_key(const struct sockaddr *from, uint8_t key[TUNNEL_SOURCE_LEN])
{
    memset(key, 0, TUNNEL_SOURCE_LEN);
    if (from->sa_family == AF_INET) {
        key[0] = OF_V4;
        memcpy(key + 1, &((const struct sockaddr_in *)from)->sin_addr, V4_LEN);
    } else if (from->sa_family == AF_INET6) {
        const struct in6_addr *a = &((const struct sockaddr_in6 *)from)->sin6_addr;
        bool v4 = IN6_IS_ADDR_V4MAPPED(a);
        key[0] = v4 ? OF_V4 : OF_V6;
        memcpy(key + 1, a->s6_addr + (v4 ? sizeof a->s6_addr - V4_LEN : 0), v4 ? V4_LEN : NETWORK_LEN);
    }
}

/* FNV-1a */
size_t tunnel_source_slot(const uint8_t key[TUNNEL_SOURCE_LEN], size_t slots)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < TUNNEL_SOURCE_LEN; i++)
        h = (h ^ key[i]) * 1099511628211u;
    return (size_t)(h % slots);
}
