/* claims.h - the facts that evidence proved about one node and the engines that it shows; no opinion about them.
 * Made by verifier_check() (check.h), read by the judge (policy/judge.h), by keyd and by the report. */
#ifndef VERIFIER_CLAIMS_H
#define VERIFIER_CLAIMS_H

#include "verifier/hw.h"
#include "verifier/state.h"
#include "verifier/statement.h"
#include "verifier/types.h"

/* How a GPU is shared, as its report says: alone, several without protected links, several behind switches. */
enum verifier_gpu_mode { VERIFIER_GPU_UNSTATED, VERIFIER_GPU_SINGLE, VERIFIER_GPU_MULTI, VERIFIER_GPU_PPCIE };

/* One accelerator or switch. */
struct verifier_device_claims {
    bool is_switch;
    bool simulated;
    char arch[16]; /* "GH100", "LS_10" */
    char ueid[65]; /* decimal digits */
    char driver[32], vbios[32];
    enum verifier_gpu_mode mode; /* a switch: UNSTATED */
    uint64_t pdi;                /* a switch's own id in the fabric */
    size_t switch_count;         /* of a GPU: the distinct switches that it names */
    uint64_t switches[VERIFIER_DEVICES_MAX];
    bool status_good;   /* the vendor answered for every certificate (OCSP) and calls it good */
    uint64_t status_at; /* earliest date of all those answers; UINT64_MAX: none */
    bool rims_good;     /* the same for the signers of the reference files that its measurements were compared with */
    uint64_t expires;   /* earliest authenticated expiry; 0: none */
};

/* One node. Spans point into the claims' own memory. */
struct verifier_node {
    struct verifier_hw hw;
    struct verifier_statement statement;
    struct verifier_state state;
    uint8_t h_quote[VERIFIER_DIGEST_LEN], h_statement[VERIFIER_DIGEST_LEN], h_state[VERIFIER_DIGEST_LEN];
    struct span config;                    /* text, equal to what the statement says */
    struct span policy;                    /* policy part; data NULL: nil. Not yet checked: stage 9 */
    struct span revocations, fleet, lease; /* signed objects; data NULL: nil. Not yet checked */
    size_t device_count;
    struct verifier_device_claims devices[VERIFIER_DEVICES_MAX];
};

struct verifier_engine_claims {
    struct verifier_node node;
    uint64_t checked_at;
    uint32_t index; /* in state.serves */
};

struct verifier_claims {
    enum verifier_role verifier, attester; /* the pair, as the verifier expected it */
    bool sealed;                           /* the leaf binds the sealing key, not a TLS session */
    bool engines_asked;
    struct verifier_node node;
    size_t engine_count;
    struct verifier_engine_claims engine[VERIFIER_ENGINES_MAX];
    void *memory; /* owned: every span's bytes */
};

/* NULL is fine. */
void verifier_claims_free(struct verifier_claims *claims);

#endif
