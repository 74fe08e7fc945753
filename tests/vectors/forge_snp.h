/* forge_snp.h - SEV-SNP reports and their certificates under test roots, also for vTPM evidence that rests on them. */
#ifndef TESTS_VECTORS_FORGE_SNP_H
#define TESTS_VECTORS_FORGE_SNP_H

#include "vectors/forge.h"
#include "verifier/snp.h"

struct forge_snp {
    enum verifier_snp_line line;
    uint32_t version;
    bool vlek;
    const char *product; /* the leaf's product name; NULL: the line's */
    uint8_t signing_key; /* of the report */
    uint8_t tcb[8];      /* every TCB of the report */
    uint64_t policy;
    uint32_t vmpl;
    uint8_t cpuid[3];
    uint8_t report_data[64], chip_id[64];
    const char *label; /* seeds what is arbitrary */
    EVP_PKEY *key;     /* the chip's */
};

/* The keys of the three CAs, the same for all lines. */
extern EVP_PKEY *forge_ark, *forge_ask, *forge_asvk;
void forge_snp_keys(void);
/* A VCEK or VLEK report that nothing speaks against. */
struct forge_snp forge_snp_good(enum verifier_snp_line line, uint32_t version, bool vlek);
void forge_snp_report(const struct forge_snp *s, uint8_t out[VERIFIER_SNP_LEN]);
/* The CAs of a line: self-signed root, and what it signed for VCEKs or VLEKs. */
struct forge_cert forge_snp_ark(enum verifier_snp_line line);
struct forge_cert forge_snp_ask(enum verifier_snp_line line, X509 *ark, bool vlek);
struct forge_cert forge_snp_leaf(const struct forge_snp *s, X509 *ask);

#endif
