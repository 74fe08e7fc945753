/* evidence.h - the committed synthetic evidence (evidence/) in memory, with its root injected: for tests that need one
 * good piece of each kind rather than a walk over all cases. Everything stays until the program ends; a file that is
 * missing aborts. */
#ifndef TESTS_VECTORS_EVIDENCE_H
#define TESTS_VECTORS_EVIDENCE_H

#include "verifier/hw.h"

#define EVIDENCE_NOW 1780272000 /* 2026-06-01, when all of it is valid */

enum evidence_kind { EVIDENCE_SNP, EVIDENCE_TDX, EVIDENCE_AZURE, EVIDENCE_NITRO, EVIDENCE_GPU };

struct evidence {
    enum verifier_tee tee; /* not of a GPU */
    struct span bytes;     /* report, quote or document */
    struct span chain[VERIFIER_CERTS_MAX];
    size_t chain_count;
    struct verifier_collateral given;
    uint8_t nonce[32]; /* of a GPU */
};

void evidence_open(struct evidence *out, enum evidence_kind kind);
/* Another file of an item: evidence_file("tdx/v4-td10", "quote_qe_signer.bin"). */
struct span evidence_file(const char *item, const char *name);

#endif
