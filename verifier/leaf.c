#include "verifier/leaf.h"

#include "verifier/opposite.h"

#include <assert.h>
#include <stdlib.h>

/* Piecewise hashing: a handful of pieces, no copy of the whole. */
static void add(struct verifier_hash *h, const void *data, size_t len)
{
    verifier_hash_add(h, span_of(data, len));
}

static void add_be(struct verifier_hash *h, uint64_t v, size_t width)
{
    uint8_t b[8];
    for (size_t i = 0; i < width; i++)
        b[i] = (uint8_t)(v >> (8 * (width - 1 - i)));
    add(h, b, width);
}

/* One bound field. PROTOCOL.md's table names for each the attack that leaving it out would allow. */
#define FIELD(name, take)                                                                                              \
    do {                                                                                                               \
        if (!IGNORED(name))                                                                                            \
            take;                                                                                                      \
    } while (0)

/* Every leaf begins with a zero byte, as every node of a tree begins with a one: neither can stand for the other. */
static struct verifier_hash begin_leaf(const char *label)
{
    struct verifier_hash h;
    verifier_hash_begin(&h, VERIFIER_SHA512);
    add(&h, "\0", 1);
    verifier_hash_add_lp(&h, span_str(label));
    return h;
}

static struct verifier_hash begin_label(enum verifier_sha kind, const char *label)
{
    struct verifier_hash h;
    verifier_hash_begin(&h, kind);
    verifier_hash_add_lp(&h, span_str(label));
    return h;
}

void verifier_leaf(uint8_t out[VERIFIER_DIGEST_LEN], struct span challenge, struct span spki,
                   const uint8_t exporter[VERIFIER_EXPORTER_LEN])
{
    struct verifier_hash h = begin_leaf("airlock leaf v1");
    FIELD("leaf.challenge", verifier_hash_add_lp(&h, challenge));
    FIELD("leaf.spki", verifier_hash_add_lp(&h, spki));
    FIELD("leaf.exporter", verifier_hash_add_lp(&h, span_of(exporter, VERIFIER_EXPORTER_LEN)));
    verifier_hash_finish(&h, out);
}

void verifier_sealed_leaf(uint8_t out[VERIFIER_DIGEST_LEN], struct span challenge,
                          const uint8_t seal_public[VERIFIER_KEY_LEN])
{
    struct verifier_hash h = begin_leaf("airlock sealed leaf v1");
    FIELD("sealed_leaf.challenge", verifier_hash_add_lp(&h, challenge));
    FIELD("sealed_leaf.seal", verifier_hash_add_lp(&h, span_of(seal_public, VERIFIER_KEY_LEN)));
    verifier_hash_finish(&h, out);
}

void verifier_engine_leaf(uint8_t out[VERIFIER_DIGEST_LEN], struct span challenge, struct span spki,
                          const uint8_t exporter[VERIFIER_EXPORTER_LEN], const uint8_t h_quote[VERIFIER_DIGEST_LEN],
                          const uint8_t h_statement[VERIFIER_DIGEST_LEN], const uint8_t h_state[VERIFIER_DIGEST_LEN],
                          uint64_t checked_at)
{
    struct verifier_hash h = begin_leaf("airlock engine v1");
    FIELD("engine_leaf.challenge", verifier_hash_add_lp(&h, challenge));
    FIELD("engine_leaf.spki", verifier_hash_add_lp(&h, spki));
    FIELD("engine_leaf.exporter", verifier_hash_add_lp(&h, span_of(exporter, VERIFIER_EXPORTER_LEN)));
    FIELD("engine_leaf.quote", add(&h, h_quote, VERIFIER_DIGEST_LEN));
    FIELD("engine_leaf.statement", add(&h, h_statement, VERIFIER_DIGEST_LEN));
    FIELD("engine_leaf.state", add(&h, h_state, VERIFIER_DIGEST_LEN));
    FIELD("engine_leaf.checked_at", add_be(&h, checked_at, 8));
    verifier_hash_finish(&h, out);
}

void verifier_report_data(uint8_t out[VERIFIER_DIGEST_LEN], uint32_t size, const uint8_t root[VERIFIER_DIGEST_LEN],
                          const uint8_t h_statement[VERIFIER_DIGEST_LEN], const uint8_t h_state[VERIFIER_DIGEST_LEN])
{
    struct verifier_hash h = begin_label(VERIFIER_SHA512, "airlock quote v1");
    FIELD("report.size", add_be(&h, size, 4));
    FIELD("report.root", add(&h, root, VERIFIER_DIGEST_LEN));
    FIELD("report.statement", add(&h, h_statement, VERIFIER_DIGEST_LEN));
    FIELD("report.state", add(&h, h_state, VERIFIER_DIGEST_LEN));
    verifier_hash_finish(&h, out);
}

void verifier_device_nonce(uint8_t out[VERIFIER_NONCE_LEN], uint32_t size, const uint8_t root[VERIFIER_DIGEST_LEN])
{
    struct verifier_hash h = begin_label(VERIFIER_SHA256, "airlock device nonce v1");
    add_be(&h, size, 4);
    add(&h, root, VERIFIER_DIGEST_LEN);
    verifier_hash_finish(&h, out);
}

void verifier_device_item(uint8_t out[VERIFIER_DIGEST_LEN], struct span report, struct span chain)
{
    struct verifier_hash h = begin_label(VERIFIER_SHA512, "airlock device v1");
    verifier_hash_add_lp(&h, report);
    verifier_hash_add_lp(&h, chain);
    verifier_hash_finish(&h, out);
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, VERIFIER_DIGEST_LEN);
}

void verifier_devices_digest(uint8_t out[VERIFIER_DIGEST_LEN], const uint8_t (*items)[VERIFIER_DIGEST_LEN],
                             size_t count)
{
    uint8_t sorted[VERIFIER_DEVICES_MAX][VERIFIER_DIGEST_LEN];
    assert(count >= 1 && count <= VERIFIER_DEVICES_MAX);
    memcpy(sorted, items, count * VERIFIER_DIGEST_LEN);
    qsort(sorted, count, VERIFIER_DIGEST_LEN, compare);
    struct verifier_hash h = begin_label(VERIFIER_SHA512, "airlock devices v1");
    add_be(&h, count, 4);
    add(&h, sorted, count * VERIFIER_DIGEST_LEN);
    verifier_hash_finish(&h, out);
}

void verifier_commitment(uint8_t out[VERIFIER_DIGEST_LEN], const uint8_t salt[32],
                         const uint8_t h_body[VERIFIER_DIGEST_LEN])
{
    struct verifier_hash h = begin_label(VERIFIER_SHA512, "airlock commit v1");
    verifier_hash_add_lp(&h, span_of(salt, 32));
    add(&h, h_body, VERIFIER_DIGEST_LEN);
    verifier_hash_finish(&h, out);
}
