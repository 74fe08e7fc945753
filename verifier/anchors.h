/* anchors.h - the roots that evidence may end in, known by the SHA-256 of their whole DER.
 * Subject names prove nothing. Which roots a program knows is decided when it is linked, by exactly one of
 * anchors/release.c (the vendors' roots), anchors/simulated.c (those and this machine's demo root) and
 * anchors/test.c (those and what a test injects). No function of the library adds one at run time. */
#ifndef VERIFIER_ANCHORS_H
#define VERIFIER_ANCHORS_H

#include "verifier/base/span.h"

enum verifier_anchor_kind {
    VERIFIER_ANCHOR_AMD = 1,       /* ARK of one product line */
    VERIFIER_ANCHOR_INTEL,         /* Intel SGX Root CA: PCK, TCB signing */
    VERIFIER_ANCHOR_NVIDIA_DEVICE, /* GPU and switch identities */
    VERIFIER_ANCHOR_NVIDIA_RIM,    /* reference measurements */
    VERIFIER_ANCHOR_NITRO,         /* AWS Nitro enclaves */
    VERIFIER_ANCHOR_GCP,           /* Google's EK/AK CA */
};

struct verifier_anchor {
    enum verifier_anchor_kind kind;
    char line[8];   /* AMD: "Milan", "Genoa" or "Turin"; otherwise empty */
    bool simulated; /* a demo root: whatever rests on it must say "simulated" */
};

/* False when no anchor has this digest; then `*out` is untouched. */
MUST_CHECK bool verifier_anchor_find(const uint8_t sha256[32], struct verifier_anchor *out);

#endif
