/* signed.h - one signed object for every document: type label, exact bytes, detached Ed25519 signatures.
 * PROTOCOL.md § Objects, signed object: {v, type, body, sigs [{key, sig}]}, at most 256 KiB. What was signed is what
 * is parsed; nothing is canonicalised. Which keys may sign what is the caller's to know. */
#ifndef VERIFIER_SIGNED_H
#define VERIFIER_SIGNED_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/types.h"

enum verifier_signed_type {
    VERIFIER_SIGNED_KEYSET,
    VERIFIER_SIGNED_POLICY,
    VERIFIER_SIGNED_TENANTS,
    VERIFIER_SIGNED_FLEET,
    VERIFIER_SIGNED_REVOCATIONS,
    VERIFIER_SIGNED_LEASE,
    VERIFIER_SIGNED_GRANT,
    VERIFIER_SIGNED_ARTEFACT,
    VERIFIER_SIGNED_RELEASE,
    VERIFIER_SIGNED_RECEIPT,
    VERIFIER_SIGNED_CHECKPOINT,
    VERIFIER_SIGNED_TYPES
};
extern const char *const verifier_signed_names[VERIFIER_SIGNED_TYPES];

struct verifier_sig {
    uint8_t key[VERIFIER_KEY_LEN], sig[VERIFIER_SIG_LEN];
};
struct verifier_signed {
    enum verifier_signed_type type;
    struct span body; /* data NULL: nil, the body stands in a file beside (FILE.sig) */
    size_t sig_count; /* 1 to 16, keys distinct */
    struct verifier_sig sigs[VERIFIER_SIGS_MAX];
};

/* The shell alone: proves the form, no signature. `*out` borrows from `in`. A nil body is refused. */
MUST_CHECK enum verifier_err verifier_signed_parse(struct verifier_signed *out, struct span in);
/* FILE.sig: its body must be nil; `file`, the bytes of FILE, becomes the body (borrowed). */
MUST_CHECK enum verifier_err verifier_signed_parse_file(struct verifier_signed *out, struct span sig_file,
                                                        struct span file);
void verifier_signed_encode(struct writer *w, const struct verifier_signed *in);

/* Prove that `obj` is of `type` and signed by `m` or more of `keys`, by no other key, every signature good.
 * In this order: VERIFIER_E_SIGNED_TYPE, _KEY, _SIGNATURE, _COUNT. */
MUST_CHECK enum verifier_err verifier_signed_check(const struct verifier_signed *obj, enum verifier_signed_type type,
                                                   const uint8_t (*keys)[VERIFIER_KEY_LEN], size_t key_count,
                                                   unsigned m);
/* Parse, then check with one signature of one of `keys`; `*body` borrows from `in`. */
MUST_CHECK enum verifier_err verifier_signed_open(struct span *body, struct span in, enum verifier_signed_type type,
                                                  const uint8_t (*keys)[VERIFIER_KEY_LEN], size_t key_count);
/* One signature over `body` by the key of `seed`. */
MUST_CHECK bool verifier_signed_sign(struct verifier_sig *out, enum verifier_signed_type type, struct span body,
                                     const uint8_t seed[VERIFIER_KEY_LEN]);
/* Sign with one key and encode; false when something failed (then the writer may hold a part). */
MUST_CHECK bool verifier_signed_make(struct writer *w, enum verifier_signed_type type, struct span body,
                                     const uint8_t seed[VERIFIER_KEY_LEN]);

/* The policy part of an envelope or grant: the owner's signed key sets from the first to the newest, then the signed
 * policy; a msgpack list of 2 to 65 bin of at most 64 KiB each. Borrowed. */
struct verifier_policy_part {
    size_t keyset_count;
    struct span keyset[VERIFIER_KEYSETS_MAX];
    struct span policy;
};
MUST_CHECK enum verifier_err verifier_policy_part_parse(struct verifier_policy_part *out, struct span in);
void verifier_policy_part_encode(struct writer *w, const struct verifier_policy_part *in);

#endif
