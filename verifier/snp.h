/* snp.h - AMD SEV-SNP attestation reports: bytes in, facts out.
 * Pure: no I/O, no clock, no globals; safe from any thread. Format: AMD 56860 (SEV-SNP ABI), ATTESTATION_REPORT,
 * little-endian; certificates: AMD 57230 (VCEK) and the VLEK of the same form. */
#ifndef VERIFIER_SNP_H
#define VERIFIER_SNP_H

#include "verifier/base/span.h"
#include "verifier/err.h"

#define VERIFIER_SNP_LEN 1184   /* bytes, signature included */
#define VERIFIER_SNP_SIGNED 672 /* of them signed */
#define VERIFIER_SNP_VMPL_HOST 0xffffffffu

/* Bits of `policy`. */
#define VERIFIER_SNP_POLICY_SMT (1ull << 16)
#define VERIFIER_SNP_POLICY_ONE (1ull << 17) /* reserved, must be 1 */
#define VERIFIER_SNP_POLICY_MIGRATE (1ull << 18)
#define VERIFIER_SNP_POLICY_DEBUG (1ull << 19)
#define VERIFIER_SNP_POLICY_SINGLE_SOCKET (1ull << 20)
/* Bits of `platform_info`. */
#define VERIFIER_SNP_INFO_SMT 0x01u
#define VERIFIER_SNP_INFO_TSME 0x02u
#define VERIFIER_SNP_INFO_ECC 0x04u
#define VERIFIER_SNP_INFO_RAPL_OFF 0x08u
#define VERIFIER_SNP_INFO_CIPHERTEXT_HIDING 0x10u
#define VERIFIER_SNP_INFO_ALIAS_CHECK 0x20u

enum verifier_snp_line { VERIFIER_SNP_MILAN = 1, VERIFIER_SNP_GENOA, VERIFIER_SNP_TURIN };
enum verifier_snp_key { VERIFIER_SNP_VCEK = 0, VERIFIER_SNP_VLEK = 1, VERIFIER_SNP_NO_KEY = 7 };

/* One TCB version, its bytes named. The raw bytes mean different things in different product lines. */
struct verifier_tcb {
    uint8_t fmc; /* Turin only, otherwise 0 */
    uint8_t bootloader, tee, snp, microcode;
};

struct verifier_snp_firmware {
    uint8_t major, minor, build;
};

/* Everything a report says. Unchecked after verifier_snp_parse(), a fact after verifier_hw_verify(). */
struct verifier_snp {
    uint32_t version, guest_svn, vmpl, signature_algo;
    uint64_t policy, platform_info;
    uint8_t family_id[16], image_id[16];
    bool author_key_en, mask_chip_key;
    uint8_t signing_key; /* enum verifier_snp_key or another number of 3 bits */
    uint8_t report_data[64], measurement[48], host_data[32];
    uint8_t id_key_digest[48], author_key_digest[48];
    uint8_t report_id[32], report_id_ma[32];
    uint8_t chip_id[64];                               /* zero when masked or signed by a VLEK */
    uint8_t cpuid_family, cpuid_model, cpuid_stepping; /* version >= 3, otherwise 0 */
    uint8_t reported_raw[8], committed_raw[8], current_raw[8], launch_raw[8];
    struct verifier_snp_firmware current_firmware, committed_firmware;
    uint64_t launch_mitigations, current_mitigations; /* version >= 5, otherwise 0 */

    /* Set with the certificate at hand, by verifier_hw_verify(): */
    enum verifier_snp_line line;
    struct verifier_tcb reported, committed, current, launch;
    char product[32]; /* product name as the leaf states it, e.g. "Milan-B0" */
    char csp_id[64];  /* VLEK only */
};

/* Split `report` into `*out`: proves the shape, not the signature. Copies; borrows nothing. */
MUST_CHECK enum verifier_err verifier_snp_parse(struct verifier_snp *out, struct span report);
struct verifier_hw;
struct verifier_collateral;
struct verifier_hw_rules;
/* verifier_hw_verify() for this format: `chain` is VCEK or VLEK, ASK or ASVK, ARK. hw.h has the terms. */
MUST_CHECK enum verifier_err verifier_snp_verify(struct verifier_hw *out, struct span report, const struct span *chain,
                                                 size_t chain_count, const struct verifier_collateral *collateral,
                                                 uint64_t now, const struct verifier_hw_rules *rules,
                                                 struct verifier_note *why);
/* The bytes of a TCB version, by product line. */
struct verifier_tcb verifier_snp_tcb(enum verifier_snp_line line, const uint8_t raw[8]);
/* "Milan", "Genoa" or "Turin". */
const char *verifier_snp_line_name(enum verifier_snp_line line);

#endif
