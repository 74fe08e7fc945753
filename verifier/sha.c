/* The functions on a caller's struct are deprecated since OpenSSL 3.0 in favour of ones that allocate and may fail. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "verifier/sha.h"

/* They report success only: each returns 1 whatever it is given. */
void verifier_hash_begin(struct verifier_hash *h, enum verifier_sha kind)
{
    h->kind = kind;
    if (kind == VERIFIER_SHA256)
        (void)SHA256_Init(&h->state.of_256);
    else if (kind == VERIFIER_SHA384)
        (void)SHA384_Init(&h->state.of_512);
    else
        (void)SHA512_Init(&h->state.of_512);
}

void verifier_hash_add(struct verifier_hash *h, struct span s)
{
    if (s.len == 0)
        return;
    if (h->kind == VERIFIER_SHA256)
        (void)SHA256_Update(&h->state.of_256, s.data, s.len);
    else
        (void)SHA512_Update(&h->state.of_512, s.data, s.len);
}

void verifier_hash_add_lp(struct verifier_hash *h, struct span s)
{
    const uint8_t len[4] = {(uint8_t)(s.len >> 24), (uint8_t)(s.len >> 16), (uint8_t)(s.len >> 8), (uint8_t)s.len};

    verifier_hash_add(h, span_of(len, sizeof len));
    verifier_hash_add(h, s);
}

void verifier_hash_finish(struct verifier_hash *h, uint8_t *out)
{
    if (h->kind == VERIFIER_SHA256)
        (void)SHA256_Final(out, &h->state.of_256);
    else
        (void)SHA512_Final(out, &h->state.of_512); /* as long as it was begun */
}

static void digest(enum verifier_sha kind, uint8_t *out, struct span in)
{
    struct verifier_hash h;

    verifier_hash_begin(&h, kind);
    verifier_hash_add(&h, in);
    verifier_hash_finish(&h, out);
}

void verifier_sha256(uint8_t out[32], struct span in)
{
    digest(VERIFIER_SHA256, out, in);
}

void verifier_sha384(uint8_t out[48], struct span in)
{
    digest(VERIFIER_SHA384, out, in);
}

void verifier_sha512(uint8_t out[64], struct span in)
{
    digest(VERIFIER_SHA512, out, in);
}
