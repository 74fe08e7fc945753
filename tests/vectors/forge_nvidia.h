/* forge_nvidia.h - what is needed to make synthetic NVIDIA evidence: parties, devices, their chains and reports,
 * reference files; all under test roots. For the generator of the vectors and for tests that need evidence of a nonce
 * of theirs. */
#ifndef TESTS_VECTORS_FORGE_NVIDIA_H
#define TESTS_VECTORS_FORGE_NVIDIA_H

#include "vectors/forge.h"

#define FORGE_NV_HASH 48
#define FORGE_NV_BLOCKS 40
#define FORGE_NV_C14N "http://www.w3.org/2006/12/xml-c14n11"
#define FORGE_NV_ENVELOPED "http://www.w3.org/2000/09/xmldsig#enveloped-signature"

/* The parties: forge_nv_open(). */
struct forge_nv {
    EVP_PKEY *device_root_key, *identity_key, *ica_key, *brom_key, *leaf_key, *other_key;
    EVP_PKEY *rim_root_key, *rim_ca_key, *rim_l3_key, *rim_key;
    X509 *device_root, *rim_root, *rim_ca, *rim_l3, *rim_signer;
    uint8_t nonce[32]; /* of the reports that are made */
};
extern struct forge_nv forge_nv;
/* `until`: end of the reference files' certificates; NULL: the vectors'. */
void forge_nv_open(const char *until);
X509 *forge_nv_cert(struct forge_cert spec);

struct forge_nv_device {
    const char *chip, *unit; /* "GH100"; "GSP", a switch's "FSP" */
    bool tcb_info;           /* the leaf says its FWID as Blackwell does */
    const char *driver, *vbios, *chip_info;
    uint8_t blocks;
    bool has_fwid;
    uint8_t nvdec;               /* 0: not reported */
    EVP_PKEY *signer;            /* of the report */
    uint8_t fwid[FORGE_NV_HASH]; /* of the report */
    struct span flag, switches;  /* mode, and the switches that it sits behind or, of a switch, its own id */
    bool twice, no_text;         /* an opaque field stands twice; the driver's version is not text */
};
struct forge_nv_device forge_nv_device(const char *chip); /* "GH100", "GB100", "LS_10" */
void forge_nv_report(struct writer *w, const struct forge_nv_device *d);

struct forge_nv_chain {
    char name[5][64];
    struct forge_cert spec[5]; /* leaf first */
    X509 *x[5];
};
void forge_nv_chain_plan(struct forge_nv_chain *c, const struct forge_nv_device *d);
void forge_nv_chain_make(struct forge_nv_chain *c);

/* Written in canonical form by hand, so that what is hashed is the text itself. */
struct forge_nv_rim {
    const char *version, *product;
    const char *active; /* indices, by blanks */
    X509 *chain[5];
    size_t chain_count;
    EVP_PKEY *signer;
    /* flaws; NULL or false: none */
    const char *uri, *first, *second, *digest, *method, *canon; /* in place of the right words */
    const char *prologue;                                       /* before the root element */
    const char *meta, *payload;                                 /* in place of the right elements */
    bool unsigned_, signed_twice, key_value, wrong_digest, more_payload;
};
struct forge_nv_rim forge_nv_rim(const char *version, const char *product, const char *active);
void forge_nv_rim_write(struct writer *w, const struct forge_nv_rim *r);

#endif
