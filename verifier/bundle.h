/* bundle.h - collateral that a verifier (or a node's operator) collected itself, kept in one file: what `airlock
 * collateral` writes and airlock_input.collateral takes. Nothing in it is believed for where it came from: every piece
 * is signed by its vendor and goes through the same checks as what comes in an envelope. PROTOCOL.md § Collateral
 * bundle: {v, from, until, chains [bin], collateral: bin}. */
#ifndef VERIFIER_BUNDLE_H
#define VERIFIER_BUNDLE_H

#include "verifier/envelope.h"

#define VERIFIER_BUNDLE_CHAINS_MAX 32
#define VERIFIER_BUNDLE_MAX (2u << 20) /* bytes */

struct verifier_bundle {
    uint64_t from, until; /* when all of it is valid, seconds since 1970; until <= from: never at once. Informative */
    size_t chain_count;
    struct span chain[VERIFIER_BUNDLE_CHAINS_MAX]; /* contents of `chain` parts: verifier_certs_parse() */
    struct span collateral;                        /* content of a `collateral` part */
};

/* `*out` borrows from `in`. VERIFIER_E_SIZE or a reader's fault; the parts inside are parsed by their own functions. */
MUST_CHECK enum verifier_err verifier_bundle_parse(struct verifier_bundle *out, struct span in);
void verifier_bundle_encode(struct writer *w, const struct verifier_bundle *in);

/* Put the verifier's own collateral before what a node sent: the own revocation lists are met first, every certificate
 * status of both counts, the documents fill in for what the node left out. What does not fit is the node's and is
 * dropped: less collateral never means a yes. */
void verifier_collateral_add(struct verifier_collateral *sent, const struct verifier_collateral *own);

#endif
