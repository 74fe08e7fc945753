/* signature.h - one signature, checked by libcrypto. A key is bytes until it is used: an elliptic-curve point is set
 * into one key object per curve, because making an object costs a third of a P-256 verification. */
#ifndef VERIFIER_SIGNATURE_H
#define VERIFIER_SIGNATURE_H

#include "verifier/cert.h"

enum verifier_curve { VERIFIER_P256, VERIFIER_P384, VERIFIER_CURVES };

#define VERIFIER_POINT_MAX 96
/* Bytes of a coordinate; also of r and s. */
static inline size_t verifier_curve_len(enum verifier_curve curve)
{
    return curve == VERIFIER_P256 ? 32 : 48;
}

/* Key objects, made when first needed; {0} at first. One thread at a time. Release with verifier_keys_release(). */
struct verifier_keys {
    void *curve[VERIFIER_CURVES]; /* EVP_PKEY *, owned */
    bool starved;                 /* a check failed for want of memory, since somebody cleared this */
};
void verifier_keys_release(struct verifier_keys *keys);

/* ECDSA with SHA-256 (P-256) or SHA-384 (P-384) over `message`. `point` is x then y, `rs` r then s, big-endian, twice
 * verifier_curve_len() bytes each. False for a wrong signature, r or s that is zero or not below the order, a point not
 * on the curve, or no memory. */
MUST_CHECK bool verifier_keys_ecdsa(struct verifier_keys *keys, enum verifier_curve curve, struct span point,
                                    struct span message, struct span rs);
/* A signature as certificates have it (ECDSA: DER), in this form. */
MUST_CHECK bool verifier_keys_signed(struct verifier_keys *keys, const struct verifier_public *key,
                                     enum verifier_chain_form form, struct span message, struct span signature);

#endif
