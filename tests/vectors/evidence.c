#include "vectors/evidence.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>

#include "verifier/anchors/test.h"

/* Bytes that stay. */
static uint8_t *keep(size_t len)
{
    static uint8_t memory[1 << 18];
    static size_t used;
    uint8_t *at = memory + used;

    if (len > sizeof memory - used)
        abort();
    used += len;
    return at;
}

struct span evidence_file(const char *item, const char *name)
{
    char path[512];
    FILE *f;
    long size;
    uint8_t *data;

    snprintf(path, sizeof path, "%s/%s/%s", OWN_EVIDENCE, item, name);
    f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) <= 0) {
        fprintf(stderr, "%s: cannot be read\n", path);
        abort();
    }
    rewind(f);
    data = keep((size_t)size);
    if (fread(data, 1, (size_t)size, f) != (size_t)size)
        abort();
    fclose(f);
    return span_of(data, (size_t)size);
}

static size_t certificates(struct span pem, struct span out[VERIFIER_CERTS_MAX])
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    size_t n = 0;
    X509 *x;

    while (n < VERIFIER_CERTS_MAX && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        int len = i2d_X509(x, NULL);
        uint8_t *der = keep((size_t)len), *end = der;
        i2d_X509(x, &end);
        out[n++] = span_of(der, (size_t)len);
        X509_free(x);
    }
    ERR_clear_error();
    BIO_free(bio);
    return n;
}

static void inject(struct span root, enum verifier_anchor_kind kind, const char *line)
{
    struct verifier_anchor anchor = {.kind = kind, .simulated = true};
    uint8_t digest[32];

    snprintf(anchor.line, sizeof anchor.line, "%s", line);
    verifier_sha256(digest, root);
    if (!verifier_anchors_inject(digest, &anchor))
        abort();
}

static void inject_pem(const char *item, const char *name, enum verifier_anchor_kind kind)
{
    struct span root[VERIFIER_CERTS_MAX];

    if (certificates(evidence_file(item, name), root) != 1)
        abort();
    inject(root[0], kind, "");
}

static void open_amd(struct evidence *e, const char *item, const char *line)
{
    e->chain[0] = evidence_file(item, "leaf.der");
    e->chain[1] = evidence_file(item, "ask.der");
    e->chain[2] = evidence_file(item, "ark.der");
    e->chain_count = 3;
    e->given.crls[0] = evidence_file(item, "ark.crl");
    e->given.crl_count = 1;
    inject(e->chain[2], VERIFIER_ANCHOR_AMD, line);
}

static void open_intel(struct evidence *e, const char *item)
{
    e->given.tcb_info = evidence_file(item, "tcb_info.json");
    e->given.qe_identity = evidence_file(item, "qe_identity.json");
    e->given.tcb_chain_count = e->given.qe_chain_count =
        certificates(evidence_file(item, "chain.pem"), e->given.tcb_chain);
    memcpy(e->given.qe_chain, e->given.tcb_chain, sizeof e->given.qe_chain);
    e->given.crls[0] = evidence_file(item, "root_ca.crl");
    e->given.crls[1] = evidence_file(item, "pck.crl");
    e->given.crl_count = 2;
    inject_pem(item, "root_ca.pem", VERIFIER_ANCHOR_INTEL);
}

static void open_gpu(struct evidence *e, const char *item)
{
    e->bytes = evidence_file(item, "report.bin");
    memcpy(e->nonce, e->bytes.data + 4, sizeof e->nonce);
    e->chain_count = certificates(evidence_file(item, "cert_chain.pem"), e->chain);
    e->given.rims[0] = evidence_file(item, "vbios_rim.xml");
    e->given.rims[1] = evidence_file(item, "driver_rim.xml");
    e->given.rim_count = 2;
    inject_pem(item, "device_root.pem", VERIFIER_ANCHOR_NVIDIA_DEVICE);
    inject_pem(item, "rim_root.pem", VERIFIER_ANCHOR_NVIDIA_RIM);
}

void evidence_open(struct evidence *out, enum evidence_kind kind)
{
    *out = (struct evidence){.tee = VERIFIER_TEE_SNP};
    switch (kind) {
    case EVIDENCE_SNP:
        out->bytes = evidence_file("snp/milan-v3-vcek", "report.bin");
        open_amd(out, "snp/milan-v3-vcek", "Milan");
        return;
    case EVIDENCE_TDX:
        out->tee = VERIFIER_TEE_TDX;
        out->bytes = evidence_file("tdx/v5-td15", "quote.bin");
        open_intel(out, "tdx/v5-td15");
        return;
    case EVIDENCE_AZURE:
        out->tee = VERIFIER_TEE_AZURE;
        out->bytes = evidence_file("vtpm/azure-snp", "evidence.bin");
        open_amd(out, "vtpm/azure-snp", "Genoa");
        return;
    case EVIDENCE_NITRO:
        out->tee = VERIFIER_TEE_NITRO;
        out->bytes = evidence_file("nitro/enclave", "document.cbor");
        inject_pem("nitro/enclave", "root.pem", VERIFIER_ANCHOR_NITRO);
        return;
    case EVIDENCE_GPU:
        open_gpu(out, "nvgpu/gh100");
    }
}
