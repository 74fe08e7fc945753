/* Target functions: verifier_hw_verify verifier_device_verify verifier_devices_compare verifier_rim_read
 * verifier_tcb_split
 * Claims come from signed bytes only: whatever a stranger changes in good evidence, its certificates, its collateral or
 * its reference files, it is refused, or the facts are the very same. The first byte says which part the rest takes the
 * place of. */
#include <stdlib.h>

#include "vectors/evidence.h"
#include "verifier/device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum part { SNP, TDX, AZURE, NITRO, GPU, RIM, TCB_INFO, QE_IDENTITY, SNP_LEAF, CRL, PARTS };

static struct evidence good[5];
static struct verifier_hw facts[4];
static struct verifier_device_claims device;

static const enum evidence_kind kind_of[PARTS] = {EVIDENCE_SNP, EVIDENCE_TDX, EVIDENCE_AZURE, EVIDENCE_NITRO,
                                                  EVIDENCE_GPU, EVIDENCE_GPU, EVIDENCE_TDX,   EVIDENCE_TDX,
                                                  EVIDENCE_SNP, EVIDENCE_SNP};

static bool accepts(const struct evidence *e, enum evidence_kind kind, void *out)
{
    struct verifier_hw_rules rules = verifier_hw_rules_default();

    if (kind != EVIDENCE_GPU)
        return verifier_hw_verify(out, e->tee, e->bytes, e->chain, e->chain_count, &e->given, EVIDENCE_NOW, &rules,
                                  NULL) == VERIFIER_OK;
    return verifier_device_verify(out, e->bytes, e->chain, e->chain_count, e->nonce, &e->given, EVIDENCE_NOW, NULL) ==
               VERIFIER_OK &&
           verifier_devices_compare(out, &e->bytes, 1, &e->given, EVIDENCE_NOW, NULL) == VERIFIER_OK;
}

static void open_all(void)
{
    for (int kind = EVIDENCE_SNP; kind <= EVIDENCE_GPU; kind++) {
        evidence_open(&good[kind], (enum evidence_kind)kind);
        if (!accepts(&good[kind], (enum evidence_kind)kind,
                     kind == EVIDENCE_GPU ? (void *)&device : (void *)&facts[kind]))
            abort();
    }
}

static void replace(struct evidence *e, enum part part, struct span with)
{
    switch (part) {
    case RIM:
        e->given.rims[1] = with;
        break;
    case TCB_INFO:
        e->given.tcb_info = with;
        break;
    case QE_IDENTITY:
        e->given.qe_identity = with;
        break;
    case SNP_LEAF:
        e->chain[0] = with;
        break;
    case CRL:
        e->given.crls[0] = with;
        break;
    default:
        e->bytes = with;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool opened;
    struct evidence e;
    enum evidence_kind kind;
    struct verifier_hw hw;
    struct verifier_device_claims claims;

    if (!opened)
        open_all();
    opened = true;
    if (size < 1 || data[0] >= PARTS)
        return 0;
    kind = kind_of[data[0]];
    e = good[kind];
    replace(&e, (enum part)data[0], span_of(data + 1, size - 1));
    if (kind == EVIDENCE_GPU) {
        if (accepts(&e, kind, &claims) && memcmp(&claims, &device, sizeof claims) != 0)
            abort();
    } else if (accepts(&e, kind, &hw) && memcmp(&hw, &facts[kind], sizeof hw) != 0) {
        abort();
    }
    return 0;
}
