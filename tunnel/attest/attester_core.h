/* attester_core.h - the inside of the attester process. Private to this folder; nothing here is seen by a caller. */
#ifndef TUNNEL_ATTEST_ATTESTER_CORE_H
#define TUNNEL_ATTEST_ATTESTER_CORE_H

#include "tunnel/attest/attester.h"
#include "tunnel/attest/attester_wire.h"
#include "tunnel/bundle_file.h"
#include "verifier/base/secret.h"
#include "verifier/challenge.h"
#include "verifier/envelope.h"
#include "verifier/state.h"

/* Milliseconds of the monotonic clock. */
int64_t attester_clock(void);

/* --- attester_seal.c: every private key, and what was opened with them ----------------------------------- */

/* Which requests were opened in an epoch: a keyed hash of 16 bytes each, open addressing. */
struct attester_replay {
    uint8_t (*slot)[16]; /* mapped; a zero entry is free */
    size_t slots;        /* a power of two, at least twice the number that is remembered */
    size_t used;
};
struct attester_epoch {
    uint32_t number; /* 0: none */
    uint8_t public[VERIFIER_KEY_LEN], policy[VERIFIER_DIGEST_LEN];
    uint8_t *private; /* in attester_keys.memory */
    int64_t made, ends;
    struct attester_replay replay;
};
struct attester_keys {
    struct secret memory;
    uint8_t *identity, *release; /* seed; private key, zero once forgotten */
    uint8_t *replay_key;
    bool has_release;
    uint8_t identity_public[VERIFIER_KEY_LEN], release_public[VERIFIER_KEY_LEN];
    struct attester_epoch now, before;
    int64_t life;
    size_t replay_max;
};
MUST_CHECK bool attester_keys_init(struct attester_keys *k, uint32_t seal_life_s, uint32_t replay_max);
void attester_keys_release(struct attester_keys *k);
/* A new sealing key under this policy; the one in force opens for ATTESTER_SEAL_GRACE_S more. False when none could be
 * made: then the one in force stays, and the next try has the next number, for an epoch's number never repeats. */
MUST_CHECK bool attester_keys_rotate(struct attester_keys *k, const uint8_t policy[VERIFIER_DIGEST_LEN], int64_t now);
/* Wipe what is over; true when the key in force is due for replacement (its hour, or three quarters of its table). */
bool attester_keys_due(struct attester_keys *k, int64_t now);
enum attester_err attester_keys_open(struct attester_keys *k, const uint8_t h_statement[VERIFIER_DIGEST_LEN],
                                     const uint8_t enc[32], struct span info, struct span aad, int64_t now,
                                     struct verifier_hpke *out);
enum attester_err attester_keys_opened(struct attester_keys *k, const uint8_t enc[32], uint32_t epoch, int64_t now);
enum attester_err attester_keys_sign(const struct attester_keys *k, struct span type, struct span body,
                                     uint8_t sig[VERIFIER_SIG_LEN]);

/* --- attester_stage.c: the owner's sandbox, as /proc shows it --------------------------------------------- */

struct attester_watch {
    int status, folder, namespaces, swaps; /* descriptors of /proc, opened before anybody locks anything; -1: none */
    char start[4][64];                     /* the owner's namespaces at the fork */
    bool engine;                           /* its network must be empty */
};
void attester_watch_open(struct attester_watch *w, pid_t owner, bool engine);
size_t attester_watch_fds(const struct attester_watch *w, int out[4]);
/* `*proved`: bits that /proc shows; `*denied`: bits that it shows to be off. Others cannot be read. */
void attester_watch_read(const struct attester_watch *w, unsigned *proved, unsigned *denied);

/* --- attester_state.c: statement, state and the parts of the envelope --------------------------------------- */

struct attester_part {
    struct writer bytes; /* empty: nil */
    uint8_t digest[VERIFIER_DIGEST_LEN];
};
struct attester_core {
    enum verifier_role role;
    const struct attester_producer *producer;
    void *device;
    enum verifier_tee tee;
    unsigned batch_ms;
    struct attester_keys keys;
    struct attester_watch watch;
    uint8_t owner[VERIFIER_DIGEST_LEN];
    struct writer statement, config;
    struct tunnel_bundle own; /* of the node's operator: goes along with the producer's */
    uint8_t h_statement[VERIFIER_DIGEST_LEN];
    struct verifier_state state; /* seal and at are filled in when it is encoded */
    char load_options[1024];
    struct attester_part policy;
    struct writer revocations, fleet, lease;
    size_t device_count;
    struct {
        struct writer report;
        struct attester_part chain;
    } devices[VERIFIER_DEVICES_MAX];
    bool has_nonce; /* device evidence was asked for with this tree */
    uint8_t nonce_root[VERIFIER_DIGEST_LEN];
    uint64_t time; /* trusted seconds at `time_at`; 0: none */
    int64_t time_at;
};
MUST_CHECK bool attester_core_init(struct attester_core *c, const struct attester_config *config, char why[256]);
void attester_core_release(struct attester_core *c);
/* One of the owner's calls that change or ask the state; the answer's body goes to `answer`. */
enum attester_err attester_core_call(struct attester_core *c, uint8_t call, struct span body, struct writer *answer);
/* Trusted seconds now, 0 without a grant. */
uint64_t attester_core_time(const struct attester_core *c);
/* Replace the sealing key if it is due; false when no key could be made. */
MUST_CHECK bool attester_core_tick(struct attester_core *c);
/* The state as it stands. */
MUST_CHECK bool attester_core_state(struct attester_core *c, struct writer *out);

/* --- attester_batch.c: leaves that arrive together share one tree and one quote ------------------------------ */

struct attester_pending {
    void *caller; /* whose; opaque here */
    uint32_t id;
    uint8_t call;
    bool sealed;
    struct writer challenge; /* its bytes; owned */
    struct verifier_challenge asked;
    uint8_t leaf[VERIFIER_DIGEST_LEN];
};
struct attester_batch {
    struct attester_pending *pending; /* owned, ATTESTER_BATCH_MAX */
    size_t count;
    int64_t due; /* when there is a leaf: fire then */
};
/* How an answer leaves: body only with ATTESTER_OK. */
typedef void attester_reply(void *ctx, void *caller, uint32_t id, uint8_t call, enum attester_err err,
                            struct span body);

MUST_CHECK bool attester_batch_init(struct attester_batch *b);
void attester_batch_release(struct attester_batch *b);
/* A leaf or sealed-leaf request: ATTESTER_OK when it waits for its quote. */
enum attester_err attester_batch_add(struct attester_batch *b, const struct attester_core *c, void *caller, uint32_t id,
                                     uint8_t call, struct span body);
/* Nobody waits for this caller's leaves any more. */
void attester_batch_drop(struct attester_batch *b, const void *caller);
/* One tree, one quote, all answers. */
void attester_batch_fire(struct attester_batch *b, struct attester_core *c, attester_reply *reply, void *ctx);

/* --- attester_server.c ------------------------------------------------------------------------------------------ */

/* Serve until the owner's end closes. `peer` may be -1. */
void attester_serve(struct attester_core *c, int owner, int peer);

#endif
