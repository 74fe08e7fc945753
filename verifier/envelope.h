/* envelope.h - all evidence of one node as it is sent. PROTOCOL.md § Fields, Envelope.
 * Decode and encode side by side; nothing is judged here and nothing inside a part is read. At most 1 MiB. */
#ifndef VERIFIER_ENVELOPE_H
#define VERIFIER_ENVELOPE_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/hw.h"
#include "verifier/types.h"

/* A part travels as its bytes or, when the challenge listed it under `have`, as their digest. */
enum verifier_part_form { VERIFIER_PART_NIL, VERIFIER_PART_BYTES, VERIFIER_PART_DIGEST };
struct verifier_part {
    enum verifier_part_form form;
    struct span bytes; /* VERIFIER_PART_BYTES; borrowed */
    uint8_t digest[VERIFIER_DIGEST_LEN];
};

struct verifier_device_part {
    struct span report; /* SPDM request and response */
    struct verifier_part chain;
};

/* A leaf's place in its tree. */
struct verifier_place {
    uint32_t index;
    size_t path_len;
    uint8_t path[VERIFIER_PATH_MAX][VERIFIER_DIGEST_LEN]; /* sibling of the leaf first */
};

/* One engine as a proxy shows it. */
struct verifier_engine_entry {
    struct span challenge, spki;
    uint8_t exporter[VERIFIER_EXPORTER_LEN];
    uint64_t checked_at;
    struct verifier_place place;
    struct span envelope; /* the engine's own, its `engines` nil */
};

struct verifier_envelope {
    enum verifier_tee tee;
    struct span quote;
    struct verifier_part chain, collateral;
    struct span statement, state;
    uint32_t tree_size;
    struct verifier_place place;
    size_t device_count; /* 0: nil */
    struct verifier_device_part devices[VERIFIER_DEVICES_MAX];
    struct verifier_part event_log;
    struct span config;
    struct verifier_part policy;
    struct span revocations, fleet, lease; /* signed objects; data NULL: nil */
    bool has_engines;                      /* false: nil */
    size_t engine_count;
    struct verifier_engine_entry engines[VERIFIER_ENGINES_MAX];
};

/* `*out` borrows from `in`; it must not be looked at after a refusal. About 30 KiB: mind the stack. */
MUST_CHECK enum verifier_err verifier_envelope_parse(struct verifier_envelope *out, struct span in);
void verifier_envelope_encode(struct writer *w, const struct verifier_envelope *in);

/* Contents of parts. */
struct verifier_certs {
    size_t count;                         /* 1 to 8 */
    struct span cert[VERIFIER_CERTS_MAX]; /* DER, leaf first, root last; borrowed */
};
MUST_CHECK enum verifier_err verifier_certs_parse(struct verifier_certs *out, struct span in);
void verifier_certs_encode(struct writer *w, const struct verifier_certs *in);
MUST_CHECK enum verifier_err verifier_collateral_parse(struct verifier_collateral *out, struct span in);
void verifier_collateral_encode(struct writer *w, const struct verifier_collateral *in);

#endif
