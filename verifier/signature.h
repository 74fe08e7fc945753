/* signature.h - ECDSA over the two curves that evidence uses, on raw numbers as the formats carry them.
 * Refuses r or s that is zero or not below the order, and a key that is not on the curve. */
#ifndef VERIFIER_SIGNATURE_H
#define VERIFIER_SIGNATURE_H

#include "verifier/base/span.h"

enum verifier_curve { VERIFIER_P256 = 1 /* with SHA-256 */, VERIFIER_P384 /* with SHA-384 */ };

#define VERIFIER_POINT_MAX 96

/* Bytes of one coordinate, and of r and s each: 32 or 48. */
static inline size_t verifier_curve_len(enum verifier_curve curve)
{
    return curve == VERIFIER_P256 ? 32 : 48;
}

/* Is `rs` (r then s, big-endian, each of the curve's length) a signature by `point` (x then y) over `message`? */
MUST_CHECK bool verifier_ecdsa_check(enum verifier_curve curve, struct span point, struct span message, struct span rs);

#endif
