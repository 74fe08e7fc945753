/* state.h - what moves on a node; every change needs a new quote. PROTOCOL.md § Objects, state.
 * {v, stage, cc, policy, model, seal, serves, devices, at}, at most 4 KiB. */
#ifndef VERIFIER_STATE_H
#define VERIFIER_STATE_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/types.h"

/* Which policy: digest of its text and its version. Also in a lease. */
struct verifier_policy_ref {
    uint8_t digest[VERIFIER_DIGEST_LEN];
    uint32_t version;
};

struct verifier_state {
    unsigned stage; /* bits of enum verifier_stage; a bit is never cleared */
    enum verifier_cc cc;
    bool has_policy, has_model, has_seal, has_serves, has_devices;
    struct verifier_policy_ref policy;
    struct {
        uint8_t root[VERIFIER_DIGEST_LEN]; /* artefact root */
        struct span load_options;          /* text, 0 to 1024 bytes */
    } model;                               /* engine only */
    struct {
        uint8_t public[VERIFIER_KEY_LEN]; /* X25519, sealed requests */
        uint32_t epoch;
    } seal; /* engine only */
    struct {
        uint32_t count; /* 1 to 65536 */
        uint8_t root[VERIFIER_DIGEST_LEN];
    } serves; /* proxy only: the tree of its engines */
    struct {
        unsigned count; /* 1 to 16 */
        uint8_t digest[VERIFIER_DIGEST_LEN];
        uint32_t tree_size; /* of the tree whose root made the devices' nonce */
        uint8_t tree_root[VERIFIER_DIGEST_LEN];
        uint64_t at; /* time0, when collected */
    } devices;
    uint64_t at; /* time0 */
};

/* {digest, version} or nil, as in a state: false for nil. A reader's fault stays in `r`. */
struct reader;
bool verifier_policy_ref_read_or_nil(struct reader *r, const char *key, struct verifier_policy_ref *out);
void verifier_policy_ref_read(struct reader *r, const char *key, struct verifier_policy_ref *out);
void verifier_policy_ref_write(struct writer *w, const char *key, const struct verifier_policy_ref *in);

/* `*out` borrows from `in`; it must not be looked at after a refusal. */
MUST_CHECK enum verifier_err verifier_state_parse(struct verifier_state *out, struct span in);
void verifier_state_encode(struct writer *w, const struct verifier_state *in);

#endif
