#include "verifier/base/secret.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

bool secret_init(struct secret *s, size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *s = (struct secret){0};
    if (len == 0 || len > SIZE_MAX / 2 - 3 * page)
        return false;
    size_t inner = (len + page - 1) / page * page;
    uint8_t *map = mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return false;
    if (mprotect(map + page, inner, PROT_READ | PROT_WRITE) != 0) {
        (void)munmap(map, inner + 2 * page);
        return false;
    }
    /* A small RLIMIT_MEMLOCK is no reason to fail: the stage bit "no swap" says what held. */
    (void)mlock(map + page, inner);
    (void)madvise(map + page, inner, MADV_DONTDUMP);
    (void)madvise(map + page, inner, MADV_WIPEONFORK);
    /* The secret ends at the upper guard page, so that reading past it faults at once. */
    *s = (struct secret){.data = map + page + inner - len, .len = len, .map = map, .map_len = inner + 2 * page};
    return true;
}

void secret_release(struct secret *s)
{
    if (s->map) {
        OPENSSL_cleanse(s->data, s->len);
        (void)munmap(s->map, s->map_len);
    }
    *s = (struct secret){0};
}

bool secret_equal(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.data, b.data, a.len) == 0);
}

void secret_wipe(void *data, size_t len)
{
    OPENSSL_cleanse(data, len);
}
