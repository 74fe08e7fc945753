/* world.h - a small honest world for tests: an owner with keys, policy and revocations, a keyd, one proxy with two
 * engines, each able to prove itself with simulated evidence. A test breaks one thing in it and looks who notices.
 * Everything is deterministic but the hardware's signatures. One world at a time is enough: it is large, keep it
 * static. */
#ifndef TESTS_UNIT_WORLD_H
#define TESTS_UNIT_WORLD_H

#include "policy/judge.h"
#include "policy/lease.h"
#include "policy/revocations.h"
#include "verifier/challenge.h"
#include "verifier/envelope.h"

#define WORLD_ENGINES 2
#define WORLD_SPKI_LEN 91 /* of a P-256 key */

/* Secrets and public keys of one pair. */
struct world_key {
    uint8_t seed[32], public[32];
};

/* A verifier's TLS session with a node and its challenge there. */
struct world_session {
    enum verifier_role verifier, attester;
    uint8_t challenge[VERIFIER_CHALLENGE_MAX];
    size_t challenge_len;
    uint8_t spki[WORLD_SPKI_LEN], exporter[32];
};

struct world_node {
    enum verifier_role role;
    void *chip; /* the producer's */
    uint8_t measurement[48], chip_id[64];
    struct world_key identity, release, seal;
    char config[128];
    struct verifier_statement statement;
    struct verifier_state state;
    struct policy_lease lease;
    bool no_lease;
    struct world_session session; /* engines: the proxy's, on which it attested last */
    uint64_t checked_at;
    size_t device_count; /* fake devices (fake_device.c); the state must name them: world_devices() */
    char device[4][96];  /* reports */
    /* Another kind of evidence than the simulated chip's: fills tee, quote, chain and collateral of the envelope. */
    void (*quote)(struct world_node *node, const uint8_t report_data[64], struct verifier_envelope *e,
                  struct writer parts[3]);
};

struct world {
    uint64_t now;
    struct world_key owner[2], revoker, keyd, fleet, stranger;
    uint8_t owner_digest[64], policy_digest[64];
    uint32_t policy_version;
    char policy_not_after[16]; /* date */
    struct writer policy_text, policy_part, revocations;
    struct world_node proxy, engine[WORLD_ENGINES];
    struct policy_rules rules; /* a client's, that accept this world */
    size_t shown;              /* how many engines the proxy shows: 2 */
};

void world_open(struct world *w);
void world_close(struct world *w);
/* Write policy and key sets anew after policy_version, `keyset_version` (1 or 2) or the signers changed; the nodes'
 * states and leases follow. */
void world_sign_policy(struct world *w, unsigned keyset_version, const struct world_key *signer, size_t signers);
/* Revocations of `epoch` naming `value`; len 0: none. */
void world_revoke(struct world *w, uint32_t epoch, enum policy_revocation_kind kind, struct span value);

/* A client's acceptance file for this world, by the owner with this digest. */
void world_acceptance(const struct world *w, const uint8_t owner[64], char *out, size_t cap);

/* A session of `verifier` with `node`, numbered so that two differ in challenge, key and exporter. */
void world_session(struct world_session *s, enum verifier_role verifier, const struct world_node *node, unsigned number,
                   unsigned engines);
/* Give `node` fake accelerators with these ueids, evidence collected now; ends with NULL. */
void world_devices(struct world *w, struct world_node *node, const char *const *ueids);
/* The report that a fake device with this ueid makes for the nonce of a tree. */
void world_device_report(char out[96], const char *ueid, uint32_t tree_size, const uint8_t tree_root[64]);

/* The envelope of `node` for `s`, quoted now; a sealed leaf for client to engine. `edit` (may be NULL) may change the
 * envelope between quote and encoding. */
void world_envelope(struct world *w, struct world_node *node, const struct world_session *s,
                    void (*edit)(struct world *w, struct verifier_envelope *e), struct writer *out);
/* What the verifier hands to verifier_check(). */
struct verifier_input world_input(const struct world *w, const struct world_session *s, struct span envelope);

/* Check and judge; the verdict's refusal says how it went. Claims, when `claims` is not NULL, are the caller's. */
struct policy_verdict world_judge(const struct world *w, const struct verifier_input *in,
                                  const struct policy_seen *seen, struct verifier_claims **claims);

#endif
