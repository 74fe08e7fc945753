/* types.h - the small words that every object of the protocol uses: roles, kinds of evidence, sizes, limits.
 * PROTOCOL.md § Encoding and § Fields. */
#ifndef VERIFIER_TYPES_H
#define VERIFIER_TYPES_H

#include "verifier/base/span.h"
#include "verifier/sha.h"

#define VERIFIER_DIGEST_LEN 64 /* SHA-512 */
#define VERIFIER_KEY_LEN 32    /* Ed25519 or X25519, private or public */
#define VERIFIER_SIG_LEN 64    /* Ed25519 */
#define VERIFIER_NONCE_LEN 32
#define VERIFIER_EXPORTER_LEN 32
#define VERIFIER_EXPORTER_LABEL "EXPORTER-airlock-attest-v1" /* its context is SHA-256(challenge) */

#define VERIFIER_CHALLENGE_MAX 4096
#define VERIFIER_STATEMENT_MAX 2048
#define VERIFIER_STATE_MAX 4096
#define VERIFIER_ENVELOPE_MAX (1u << 20)
#define VERIFIER_QUOTE_MAX (32u << 10)
#define VERIFIER_CHAIN_BYTES_MAX (64u << 10)
#define VERIFIER_PART_MAX (256u << 10) /* collateral, event log, policy, revocations, fleet; any signed object */
#define VERIFIER_CONFIG_MAX (64u << 10)
#define VERIFIER_LEASE_MAX (4u << 10)
#define VERIFIER_SPKI_MAX (4u << 10)
#define VERIFIER_DEVICE_REPORT_MAX (16u << 10)
#define VERIFIER_DEVICE_CHAIN_MAX (32u << 10)
#define VERIFIER_GRANT_MAX (1u << 20)
#define VERIFIER_CERT_MAX (8u << 10)
#define VERIFIER_CERTS_MAX 8
#define VERIFIER_DEVICES_MAX 16
#define VERIFIER_ENGINES_MAX 8
#define VERIFIER_HAVE_MAX 32
#define VERIFIER_PATH_MAX 16
#define VERIFIER_TREE_MAX 65536
#define VERIFIER_SIGS_MAX 16
#define VERIFIER_KEYSETS_MAX 64

#define VERIFIER_TIME_MAX ((UINT64_C(1) << 40) - 1) /* seconds since 1970 UTC; 0 where allowed: no trusted time */
#define VERIFIER_FUTURE_MAX 300                     /* seconds that a peer's clock may be ahead of ours */
#define VERIFIER_ENGINE_AGE_MAX 600                 /* seconds since the proxy last checked an engine */

enum verifier_role { VERIFIER_CLIENT, VERIFIER_PROXY, VERIFIER_ENGINE, VERIFIER_KEYD, VERIFIER_ROLES };
enum verifier_tee {
    VERIFIER_TEE_SNP,
    VERIFIER_TEE_TDX,
    VERIFIER_TEE_AZURE,
    VERIFIER_TEE_GCP,
    VERIFIER_TEE_NITRO,
    VERIFIER_TEES,                    /* how many may stand in an envelope */
    VERIFIER_TEE_SGX = VERIFIER_TEES, /* never in an envelope */
};
/* The accelerator's confidential-computing mode. */
enum verifier_cc {
    VERIFIER_CC_NONE,
    VERIFIER_CC_OFF,
    VERIFIER_CC_ON,
    VERIFIER_CC_DEVTOOLS,
    VERIFIER_CC_PPCIE,
    VERIFIER_CCS
};
/* Bits of state.stage: which walls stand, read by the attester from /proc. A bit once set is never cleared. */
enum verifier_stage {
    VERIFIER_STAGE_NAMESPACES = 1,
    VERIFIER_STAGE_SECCOMP = 2,
    VERIFIER_STAGE_LANDLOCK = 4,
    VERIFIER_STAGE_NO_DUMPS = 8,
    VERIFIER_STAGE_NO_SWAP = 16,
    VERIFIER_STAGE_NO_NEW_PRIVS = 32,
    VERIFIER_STAGE_UNPRIVILEGED = 64,
    VERIFIER_STAGE_ALL = 127
};

/* The words on the wire, indexed by the enums above. */
extern const char *const verifier_role_names[VERIFIER_ROLES];
extern const char *const verifier_tee_names[VERIFIER_TEES];
extern const char *const verifier_cc_names[VERIFIER_CCS];

/* H of PROTOCOL.md is verifier_sha512(). */

#endif
