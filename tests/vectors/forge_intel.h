/* forge_intel.h - Intel's parties, quotes and collateral under a test root, also for vTPM evidence that rests on them.
 */
#ifndef TESTS_VECTORS_FORGE_INTEL_H
#define TESTS_VECTORS_FORGE_INTEL_H

#include "vectors/forge.h"
#include "verifier/quote.h"

/* Serial numbers, to be revoked. */
#define FORGE_INTEL_PCK 0x2001
#define FORGE_INTEL_CA 0x1001
#define FORGE_INTEL_SIGNER 0x1002

/* Good parties; `other_*` are a stranger's. forge_intel_init() first. */
extern struct forge_intel {
    EVP_PKEY *root_key, *ca_key, *pck_key, *signer_key, *quote_key, *other_key;
    X509 *root, *ca, *pck, *signer, *other_root;
} forge_intel;
extern const uint8_t forge_intel_components[16];

struct forge_quote {
    uint16_t version;
    uint32_t tee;
    uint8_t body[885]; /* by hand */
    size_t body_len;
    uint8_t qe[384];         /* report data is filled in */
    EVP_PKEY *pck_key, *key; /* sign QE report and quote */
    X509 *chain[4];
    size_t chain_count;
    bool loose; /* the QE names another key */
};

/* The platform as a PCK certificate states it; without part `leave_out` (0: whole). */
void forge_intel_fill_pck(struct forge_extension *e, unsigned leave_out);
/* How the good certificates are made, to be changed. */
struct forge_cert forge_intel_root(void);
struct forge_cert forge_intel_ca(void);
struct forge_cert forge_intel_pck(void);
struct forge_cert forge_intel_signer(void);
void forge_intel_init(void);
struct forge_quote forge_quote_good(uint16_t version, uint32_t tee);
/* Append the signed quote. */
void forge_quote_put(struct writer *w, struct forge_quote *q);
void forge_quote_file(struct forge_item *i, const char *role, const char *name, struct forge_quote *q);
/* Write {"NAME":value,"signature":..}; takes the value. */
void forge_intel_response(struct forge_item *i, const char *role, const char *file, const char *name, json_t *value,
                          EVP_PKEY *key);
/* Good documents and levels in them, to be changed. */
json_t *forge_intel_level(unsigned pcesvn, const char *status, const char *advisory, bool tdx, uint8_t tdx2);
json_t *forge_intel_svn_level(int svn, const char *status, const char *advisory);
json_t *forge_intel_info(bool tdx);
json_t *forge_intel_identity(bool tdx);
void forge_intel_info_file(struct forge_item *i, const char *file, json_t *value);
void forge_intel_identity_file(struct forge_item *i, const char *file, json_t *value);
void forge_intel_chain_file(struct forge_item *i, const char *role, const char *file, X509 *leaf, X509 *top);
void forge_intel_crl_file(struct forge_item *i, const char *role, const char *file, struct forge_crl spec,
                          bool of_root);
/* The good collateral of a TDX or SGX item: TCB info, identity, their chains, both lists, the root. */
void forge_intel_collateral(struct forge_item *i, bool tdx);

#endif
