/* sealed.h - sealed mode: a request encrypted from the client to one engine, and its answer in padded chunks. The proxy
 * between them sees the head, sizes and times only. PROTOCOL.md § Sealed mode.
 * Request body: lp(head), enc, ciphertext; the head is the AAD. Answer: 32-byte nonce, then chunks framed as in chunked
 * OHTTP; an answer without its final chunk is an error, never an end. */
#ifndef VERIFIER_SEALED_H
#define VERIFIER_SEALED_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/hpke.h"
#include "verifier/types.h"

#define VERIFIER_SEALED_TYPE "application/airlock-sealed"
#define VERIFIER_SEALED_HEAD_MAX 1024
#define VERIFIER_SEALED_CHUNK_MAX 16384                          /* plaintext of a chunk, padding included */
#define VERIFIER_SEALED_DATA_MAX (VERIFIER_SEALED_CHUNK_MAX - 4) /* data in a chunk */

/* What the proxy may see and must route and limit by. */
struct verifier_sealed_head {
    uint8_t engine[VERIFIER_KEY_LEN]; /* statement.identity */
    uint32_t epoch;                   /* state.seal.epoch */
    uint8_t request[16];              /* random */
    struct span endpoint, model;      /* text, 1 to 128 and 1 to 256 bytes */
    uint32_t max_tokens;
    bool stream;
};
/* `*out` borrows from `in`; it must not be looked at after a refusal. */
MUST_CHECK enum verifier_err verifier_sealed_head_parse(struct verifier_sealed_head *out, struct span in);
void verifier_sealed_head_encode(struct writer *w, const struct verifier_sealed_head *in);

/* A request body split; everything borrowed from the body. */
struct verifier_sealed_request {
    struct verifier_sealed_head head;
    struct span head_bytes; /* the AAD */
    const uint8_t *enc;     /* 32 bytes */
    struct span ciphertext;
};
MUST_CHECK enum verifier_err verifier_sealed_request_parse(struct verifier_sealed_request *out, struct span body);
/* Is it for this engine and key? VERIFIER_E_SEAL_ENGINE, VERIFIER_E_SEAL_EPOCH. */
MUST_CHECK enum verifier_err verifier_sealed_request_check(const struct verifier_sealed_request *req,
                                                           const uint8_t identity[VERIFIER_KEY_LEN], uint32_t epoch);
/* HPKE's info: appended to `w`. */
void verifier_sealed_info(struct writer *w, const uint8_t h_statement[VERIFIER_DIGEST_LEN],
                          const uint8_t policy_digest[VERIFIER_DIGEST_LEN]);
/* Engine: the context comes from its attester (verifier_hpke_setup_r with that info). Appends the JSON body. */
MUST_CHECK enum verifier_err verifier_sealed_request_open(const struct verifier_sealed_request *req,
                                                          const struct verifier_hpke *hpke, struct writer *plain);
/* Client: pads `json` with spaces to a size class, seals it and appends the body. `*hpke` opens the answer: wipe it. */
MUST_CHECK bool verifier_sealed_request_seal(const struct verifier_sealed_head *head,
                                             const uint8_t seal_public[VERIFIER_KEY_LEN],
                                             const uint8_t h_statement[VERIFIER_DIGEST_LEN],
                                             const uint8_t policy_digest[VERIFIER_DIGEST_LEN], struct span json,
                                             struct writer *body, struct verifier_hpke *hpke,
                                             uint8_t enc[VERIFIER_KEY_LEN]);

/* --- answers ------------------------------------------------------------------------------------ */

/* Keys of one answer: RFC 9458 § 4.4 with secret = Export(lp("airlock sealed response v1"), 32), salt = enc, nonce. */
struct verifier_sealed_keys {
    uint8_t key[VERIFIER_AEAD_KEY_LEN], nonce[VERIFIER_AEAD_NONCE_LEN];
};
MUST_CHECK bool verifier_sealed_keys_init(struct verifier_sealed_keys *out, const struct verifier_hpke *hpke,
                                          const uint8_t enc[VERIFIER_KEY_LEN], const uint8_t nonce[32]);

/* Engine's side. begin() appends the nonce; chunk() appends one chunk of at most VERIFIER_SEALED_DATA_MAX bytes,
 * framed; the last one with `final`, once. */
struct verifier_sealed_writer {
    struct verifier_sealed_keys keys;
    uint64_t counter;
};
MUST_CHECK bool verifier_sealed_writer_begin(struct verifier_sealed_writer *s, const struct verifier_hpke *hpke,
                                             const uint8_t enc[VERIFIER_KEY_LEN], const uint8_t nonce[32],
                                             struct writer *out);
MUST_CHECK bool verifier_sealed_writer_chunk(struct verifier_sealed_writer *s, struct span data, bool final,
                                             struct writer *out);
void verifier_sealed_writer_release(struct verifier_sealed_writer *s); /* wipes */

/* Client's side: feed bytes as they come, then end(). `piece` gets each chunk's data in order, from inside feed() and
 * end(), never of a chunk whose tag or padding is wrong. After an error every call returns it again. */
struct verifier_sealed_reader {
    struct verifier_hpke hpke;
    uint8_t enc[VERIFIER_KEY_LEN];
    struct verifier_sealed_keys keys;
    uint64_t counter;
    bool begun, final;  /* nonce seen; final mark seen */
    struct writer held; /* bytes of a piece not yet whole */
    enum verifier_err err;
    void (*piece)(void *ctx, struct span data);
    void *ctx;
};
void verifier_sealed_reader_init(struct verifier_sealed_reader *s, const struct verifier_hpke *hpke,
                                 const uint8_t enc[VERIFIER_KEY_LEN], void (*piece)(void *ctx, struct span data),
                                 void *ctx);
MUST_CHECK enum verifier_err verifier_sealed_reader_feed(struct verifier_sealed_reader *s, struct span in);
/* The stream ended: opens the final chunk, or VERIFIER_E_SEAL_TRUNCATED. */
MUST_CHECK enum verifier_err verifier_sealed_reader_end(struct verifier_sealed_reader *s);
void verifier_sealed_reader_release(struct verifier_sealed_reader *s); /* wipes */

/* The first chunk of an answer whose HTTP status is not 200: {status, type}. */
struct verifier_sealed_status {
    unsigned status;  /* 100 to 599 */
    struct span type; /* content type, text, 1 to 128 bytes */
};
MUST_CHECK enum verifier_err verifier_sealed_status_parse(struct verifier_sealed_status *out, struct span in);
void verifier_sealed_status_encode(struct writer *w, const struct verifier_sealed_status *in);

#endif
