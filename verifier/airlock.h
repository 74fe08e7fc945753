/* airlock.h - libairlock: check that the far end of a TLS connection is the software and the machine you accept,
 * before you send it anything.
 *
 *   1. airlock_challenge()  draw 32 random bytes, make the challenge, send it on the connection that will carry prompts
 *   2. airlock_check()      the answer (an envelope) and what you know of your TLS session -> claims, or why not
 *   3. airlock_judge()      claims x your acceptance rules -> verdict: yes until a time, or why not
 *   4. airlock_report()     the same for people and logs, as JSON
 *
 * Send nothing before step 3 says yes, and nothing after `valid_until` without a new challenge. The library opens no
 * file or socket and reads no clock; it keeps no state between calls and may be used from any thread, one object from
 * one thread at a time. Every object it returns is yours and has its own free function; NULL is fine there.
 *
 * A struct that begins with `size` may grow at its end in later versions: set size to its sizeof, the rest to zero,
 * then fill in what you use. A size that this library does not know is refused ("struct_size"): it would not know all
 * that you ask for. The other structs never change. */
#ifndef AIRLOCK_H
#define AIRLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define AIRLOCK_API __attribute__((visibility("default")))
#else
#define AIRLOCK_API
#endif

#define AIRLOCK_CHALLENGE_MAX 4096 /* bytes of a challenge */
#define AIRLOCK_DIGEST_LEN 64      /* SHA-512 */
#define AIRLOCK_KEY_LEN 32
/* The TLS exporter that airlock_input wants: this label, context = SHA-256(challenge), 32 bytes. */
#define AIRLOCK_EXPORTER_LABEL "EXPORTER-airlock-attest-v1"

struct airlock_span {
    const uint8_t *data;
    size_t len;
};

enum airlock_role { AIRLOCK_CLIENT, AIRLOCK_PROXY, AIRLOCK_ENGINE, AIRLOCK_KEYD };

/* --- 1. the challenge ------------------------------------------------------------------------- */

struct airlock_ask {
    size_t size;                               /* sizeof(struct airlock_ask) */
    enum airlock_role verifier, attester;      /* you and the far end: usually AIRLOCK_CLIENT, AIRLOCK_PROXY */
    const uint8_t *nonce;                      /* 32 random bytes, never used before */
    bool engines;                              /* show your engines (client to proxy only) */
    const char *model;                         /* those that serve this model; NULL: any */
    unsigned engines_max;                      /* 1 to 8 */
    const uint8_t (*have)[AIRLOCK_DIGEST_LEN]; /* digests of parts that you hold and will pass as `held` */
    size_t have_count;                         /* at most 32 */
};

/* 0, with the challenge in out[0..*len); -1 when the request makes no sense, its size is not known, or `cap` is too
 * small. */
AIRLOCK_API int airlock_challenge(const struct airlock_ask *ask, uint8_t *out, size_t cap, size_t *len);

/* --- 2. evidence to facts --------------------------------------------------------------------- */

/* Your TLS session, asked after the handshake has finished on your side. */
struct airlock_session {
    bool tls13, finished;                               /* must be true */
    bool resumed, psk, early_data, post_handshake_auth; /* must be false */
};

struct airlock_claims; /* facts; airlock_claims_free() */

/* What earlier checks found out about bytes: that a certificate's key signed them, what a signed document says. Such
 * facts hold at any time and under any rules, so a cache makes a verdict faster and never another one; what was refused
 * is not remembered. Worth having when the same nodes are checked again and again. airlock_cache_free(). */
struct airlock_cache;
/* At most `bytes` of memory; 0: 4 MiB. NULL without memory. Use it from one thread at a time. */
AIRLOCK_API struct airlock_cache *airlock_cache_new(size_t bytes);
AIRLOCK_API void airlock_cache_free(struct airlock_cache *cache);

struct airlock_input {
    size_t size;                   /* sizeof(struct airlock_input) */
    struct airlock_span envelope;  /* the answer as received, at most 1 MiB */
    struct airlock_span challenge; /* the challenge as sent */
    struct airlock_span spki;      /* SubjectPublicKeyInfo (DER) of the key in the far end's certificate */
    const uint8_t *exporter;       /* 32 bytes; NULL: the answer is an engine's for sealed mode */
    struct airlock_session session;
    enum airlock_role verifier, attester; /* as in the challenge */
    uint64_t now;                         /* seconds since 1970 UTC */
    const struct airlock_span *held;      /* the parts listed in `have` */
    size_t held_count;
    struct airlock_span collateral; /* a file of `airlock collateral`; empty: only what the far end sends counts */
    const struct airlock_claims *previous; /* of the last attestation on this connection, or NULL */
    struct airlock_cache *cache;           /* of earlier checks, is added to; or NULL */
};

/* Why. `code` is a stable word ("ok", "report_data_mismatch"), the texts are for people. */
struct airlock_result {
    char code[64];
    int stage;       /* 0: accepted; else 1 to 11, PROTOCOL.md § Order of checks */
    int inner_stage; /* an engine's own stage, when `engine` is not -1 */
    int engine;      /* index of the engine, -1: the node itself */
    char observed[512], required[512];
    const char *remedy; /* what to do about it; static */
};

/* Stages 1 to 8 and 10. NULL when refused; `why` may be NULL. Keeps nothing of `in` but facts in its cache. */
AIRLOCK_API struct airlock_claims *airlock_check(const struct airlock_input *in, struct airlock_result *why);
AIRLOCK_API void airlock_claims_free(struct airlock_claims *claims);

AIRLOCK_API enum airlock_role airlock_claims_role(const struct airlock_claims *claims);
AIRLOCK_API bool airlock_claims_simulated(const struct airlock_claims *claims);
/* Identity key (Ed25519) of the node: signs receipts. */
AIRLOCK_API void airlock_claims_identity(const struct airlock_claims *claims, uint8_t out[AIRLOCK_KEY_LEN]);
AIRLOCK_API void airlock_claims_measurement(const struct airlock_claims *claims, uint8_t out[48]);
/* Digest of the policy in force; false: none. */
AIRLOCK_API bool airlock_claims_policy(const struct airlock_claims *claims, uint8_t out[AIRLOCK_DIGEST_LEN]);
/* Sealed mode: the sealing key, its epoch and the two digests that go into a sealed request. False: none. */
AIRLOCK_API bool airlock_claims_seal(const struct airlock_claims *claims, uint8_t public_key[AIRLOCK_KEY_LEN],
                                     uint32_t *epoch, uint8_t h_statement[AIRLOCK_DIGEST_LEN]);
/* The engines shown: your requests on this connection go only to these. */
AIRLOCK_API size_t airlock_claims_engine_count(const struct airlock_claims *claims);
AIRLOCK_API bool airlock_claims_engine_identity(const struct airlock_claims *claims, size_t index,
                                                uint8_t out[AIRLOCK_KEY_LEN]);
AIRLOCK_API bool airlock_claims_engine_model(const struct airlock_claims *claims, size_t index,
                                             uint8_t out[AIRLOCK_DIGEST_LEN]);

/* --- 3. facts to a verdict -------------------------------------------------------------------- */

struct airlock_rules; /* what you accept; airlock_rules_free() */

/* An acceptance file's text. NULL when it cannot be read: `why->observed` says line and reason. */
AIRLOCK_API struct airlock_rules *airlock_rules_parse(struct airlock_span text, struct airlock_result *why);
AIRLOCK_API void airlock_rules_free(struct airlock_rules *rules);

/* The highest versions you have met and when you first met each; all zero at first. Store it: it is what makes a
 * rolled-back policy visible. */
struct airlock_seen {
    uint32_t policy, keyset, epoch;
    uint64_t policy_since, keyset_since, epoch_since;
};

struct airlock_verdict {
    size_t size; /* sizeof(struct airlock_verdict), set before airlock_judge() */
    struct airlock_result result;
    uint64_t valid_until;        /* seconds since 1970; 0 when refused */
    const char *valid_by;        /* what ends then; static */
    bool simulated;              /* the evidence is simulated: it proves nothing about hardware */
    uint64_t revocation_latency; /* seconds a revocation may take to be felt here */
    struct airlock_seen seen;    /* what to store */
};

/* Stages 9, 9 of each engine, 11. 0: accepted, -1: refused. `seen` NULL: nothing was seen. With a size that is not
 * known -1, and nothing of `*out` is written. */
AIRLOCK_API int airlock_judge(const struct airlock_claims *claims, const struct airlock_rules *rules,
                              const struct airlock_seen *seen, uint64_t now, struct airlock_verdict *out);

/* --- sealed mode: to one engine, past the proxy --------------------------------------------------
 * Ask for AIRLOCK_CLIENT -> AIRLOCK_ENGINE (POST /.well-known/airlock/attest?engine=IDENTITY), check without an
 * exporter, judge; then seal each request to that engine and send it as application/airlock-sealed. The proxy sees
 * sizes only. */

struct airlock_sealed; /* one request and its answer; airlock_sealed_free() */

struct airlock_sealed_ask {
    size_t size;                  /* sizeof(struct airlock_sealed_ask) */
    const char *endpoint, *model; /* "/v1/chat/completions"; both are seen by the proxy and must fit the body */
    uint32_t max_tokens;          /* at least what the body asks for */
    bool stream;
    struct airlock_span json; /* the request's body; is padded with spaces to a size class */
};

/* Seal a request to the engine of `claims` (judged good). `*body` is malloc'ed: free() it. NULL when the claims are not
 * of an engine with a sealing key, when the size is not known, or without memory. Draws its own randomness. */
AIRLOCK_API struct airlock_sealed *airlock_sealed_request(const struct airlock_claims *claims,
                                                          const struct airlock_sealed_ask *ask, uint8_t **body,
                                                          size_t *len);
/* The answer's bytes as they come. `piece` gets what they open to, in order, from inside the call; nothing of a chunk
 * that is not genuine. 0, or -1: forged or malformed, airlock_sealed_code() says how; stop and discard the answer. */
AIRLOCK_API int airlock_sealed_feed(struct airlock_sealed *sealed, struct airlock_span bytes,
                                    void (*piece)(void *ctx, struct airlock_span data), void *ctx);
/* The answer's end. -1 with "seal_truncated" when it was cut: it is not complete. */
AIRLOCK_API int airlock_sealed_end(struct airlock_sealed *sealed, void (*piece)(void *ctx, struct airlock_span data),
                                   void *ctx);
AIRLOCK_API const char *airlock_sealed_code(const struct airlock_sealed *sealed); /* "ok" or why; static */
/* HTTP status of the answer: 200, or what its first chunk said. Good from the first piece on. */
AIRLOCK_API unsigned airlock_sealed_status(const struct airlock_sealed *sealed);
AIRLOCK_API void airlock_sealed_free(struct airlock_sealed *sealed); /* wipes its keys */

/* --- 4. for people ---------------------------------------------------------------------------- */

/* Every stage with its value, as stable JSON; free() it. NULL without memory, or when the verdict's size is not known.
 * `claims` NULL: airlock_check() refused; put its result into verdict->result. */
AIRLOCK_API char *airlock_report(const struct airlock_claims *claims, const struct airlock_verdict *verdict);
AIRLOCK_API const char *airlock_version(void);

#ifdef __cplusplus
}
#endif
#endif
