#include "verifier/snp.h"

#include "verifier/chain.h"
#include "verifier/der.h"
#include "verifier/hw.h"

#include <stdio.h>

#define NUMBER_LEN 48 /* significant bytes of r and of s in the 72 that the report gives each */

/* --- the report --------------------------------------------------------------------------------- */

static struct verifier_snp_firmware take_firmware(struct reader *r)
{
    struct verifier_snp_firmware f;

    f.build = reader_u8(r);
    f.minor = reader_u8(r);
    f.major = reader_u8(r);
    (void)reader_u8(r);
    return f;
}

/* The signed part, field by field (AMD 56860, table ATTESTATION_REPORT; attestation.md § 1). Reserved bits inside it
 * are not looked at: a report must not be refused because a reserved bit became used. */
static void take_fields(struct verifier_snp *out, struct reader *r)
{
    uint32_t flags;

    out->version = reader_u32le(r);
    out->guest_svn = reader_u32le(r);
    out->policy = reader_u64le(r);
    reader_copy(r, out->family_id, sizeof out->family_id);
    reader_copy(r, out->image_id, sizeof out->image_id);
    out->vmpl = reader_u32le(r);
    out->signature_algo = reader_u32le(r);
    reader_copy(r, out->current_raw, sizeof out->current_raw);
    out->platform_info = reader_u64le(r);
    flags = reader_u32le(r);
    out->author_key_en = flags & 1;
    out->mask_chip_key = flags >> 1 & 1;
    out->signing_key = flags >> 2 & 7;
    (void)reader_u32le(r);
    reader_copy(r, out->report_data, sizeof out->report_data);
    reader_copy(r, out->measurement, sizeof out->measurement);
    reader_copy(r, out->host_data, sizeof out->host_data);
    reader_copy(r, out->id_key_digest, sizeof out->id_key_digest);
    reader_copy(r, out->author_key_digest, sizeof out->author_key_digest);
    reader_copy(r, out->report_id, sizeof out->report_id);
    reader_copy(r, out->report_id_ma, sizeof out->report_id_ma);
    reader_copy(r, out->reported_raw, sizeof out->reported_raw);
    out->cpuid_family = reader_u8(r);
    out->cpuid_model = reader_u8(r);
    out->cpuid_stepping = reader_u8(r);
    (void)reader_span(r, 21);
    reader_copy(r, out->chip_id, sizeof out->chip_id);
    reader_copy(r, out->committed_raw, sizeof out->committed_raw);
    out->current_firmware = take_firmware(r);
    out->committed_firmware = take_firmware(r);
    reader_copy(r, out->launch_raw, sizeof out->launch_raw);
    out->launch_mitigations = reader_u64le(r);
    out->current_mitigations = reader_u64le(r);
    (void)reader_span(r, 152);
}

/* What the signature does not cover must be zero, or one report would have many encodings. */
static bool padding_is_zero(struct span report)
{
    return span_is_zero(span_of(report.data + 0x2d0, 24)) && span_is_zero(span_of(report.data + 0x318, 24)) &&
           span_is_zero(span_of(report.data + 0x330, 368));
}

enum verifier_err verifier_snp_parse(struct verifier_snp *out, struct span report)
{
    struct reader r = reader_over(report);

    memset(out, 0, sizeof *out);
    if (report.len != VERIFIER_SNP_LEN)
        return VERIFIER_E_PARSE;
    take_fields(out, &r);
    if (r.err != READER_OK)
        return VERIFIER_E_PARSE;
    if (out->version < 2 || out->version > 5)
        return VERIFIER_E_UNSUPPORTED_VERSION;
    if (out->signature_algo != 1)
        return VERIFIER_E_UNSUPPORTED_ALG;
    if (!padding_is_zero(report) || !(out->policy & VERIFIER_SNP_POLICY_ONE))
        return VERIFIER_E_PARSE;
    if (out->version < 3)
        out->cpuid_family = out->cpuid_model = out->cpuid_stepping = 0;
    if (out->version < 5)
        out->launch_mitigations = out->current_mitigations = 0;
    return VERIFIER_OK;
}

/* --- product lines ------------------------------------------------------------------------------ */

const char *verifier_snp_line_name(enum verifier_snp_line line)
{
    return line == VERIFIER_SNP_MILAN ? "Milan" : line == VERIFIER_SNP_GENOA ? "Genoa" : "Turin";
}

struct verifier_tcb verifier_snp_tcb(enum verifier_snp_line line, const uint8_t raw[8])
{
    if (line == VERIFIER_SNP_TURIN)
        return (struct verifier_tcb){
            .fmc = raw[0], .bootloader = raw[1], .tee = raw[2], .snp = raw[3], .microcode = raw[7]};
    return (struct verifier_tcb){.bootloader = raw[0], .tee = raw[1], .snp = raw[6], .microcode = raw[7]};
}

/* Line by processor family and model (AMD 57230, table of products); 0 when unknown. */
static int line_of_cpuid(uint8_t family, uint8_t model)
{
    if (family == 0x19 && model <= 0x0f)
        return VERIFIER_SNP_MILAN;
    if (family == 0x19 && ((model >= 0x10 && model <= 0x1f) || (model >= 0xa0 && model <= 0xaf)))
        return VERIFIER_SNP_GENOA;
    if (family == 0x1a && model <= 0x1f)
        return VERIFIER_SNP_TURIN;
    return 0;
}

/* Line by the name in a certificate, "Milan-B0" as well as "Milan"; Siena and Bergamo are of the Genoa line. */
static int line_of_name(const char *name)
{
    static const struct {
        const char *name;
        int line;
    } names[] = {{"Milan", VERIFIER_SNP_MILAN},
                 {"Genoa", VERIFIER_SNP_GENOA},
                 {"Bergamo", VERIFIER_SNP_GENOA},
                 {"Siena", VERIFIER_SNP_GENOA},
                 {"Turin", VERIFIER_SNP_TURIN}};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t len = strlen(names[i].name);
        if (strncmp(name, names[i].name, len) == 0 && (name[len] == '\0' || name[len] == '-'))
            return names[i].line;
    }
    return 0;
}

/* --- the leaf's extensions (AMD 57230, § VCEK certificate) --------------------------------------- */

#define AMD_OID "1.3.6.1.4.1.3704.1."

/* A VCEK has its chip id raw in the extension, every other value is DER. */
static bool extension_number(const struct verifier_chain *c, const char *oid, uint32_t *out)
{
    struct span value;
    struct der d;

    if (!verifier_chain_extension(c, 0, oid, &value))
        return false;
    d = der_over(value);
    *out = der_uint(&d, DER_INTEGER);
    return der_end(&d);
}

static bool extension_text(const struct verifier_chain *c, const char *oid, char *out, size_t cap)
{
    struct span value, text;
    struct der d;

    out[0] = '\0';
    if (!verifier_chain_extension(c, 0, oid, &value))
        return false;
    d = der_over(value);
    text = der_take(&d, DER_IA5);
    if (!der_end(&d) || text.len == 0 || text.len >= cap)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] < 0x20 || text.data[i] > 0x7e)
            return false;
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
    return true;
}

static enum verifier_err check_line(struct verifier_snp *s, const struct verifier_chain *c, struct verifier_note *why)
{
    int anchor = line_of_name(c->anchor.line), leaf;
    char name[64], issuer[64];

    if (s->version >= 3 && line_of_cpuid(s->cpuid_family, s->cpuid_model) == 0) {
        verifier_note_observed(why, "processor family %02x, model %02x", s->cpuid_family, s->cpuid_model);
        return VERIFIER_E_UNSUPPORTED_PRODUCT;
    }
    if (!extension_text(c, AMD_OID "2", s->product, sizeof s->product))
        return VERIFIER_E_PRODUCT_MISMATCH;
    leaf = line_of_name(s->product);
    verifier_note_observed(why, "leaf of %s, root of %s, processor family %02x, model %02x", s->product, c->anchor.line,
                           s->cpuid_family, s->cpuid_model);
    verifier_note_required(why, "one product line");
    if (anchor == 0 || leaf != anchor || (s->version >= 3 && line_of_cpuid(s->cpuid_family, s->cpuid_model) != anchor))
        return VERIFIER_E_PRODUCT_MISMATCH;
    snprintf(name, sizeof name, "SEV-%s", c->anchor.line);
    if (!verifier_chain_name(c, 1, issuer, sizeof issuer))
        return VERIFIER_E_PRODUCT_MISMATCH;
    if (strcmp(issuer, name) != 0) {
        snprintf(name, sizeof name, "SEV-VLEK-%s", c->anchor.line);
        if (strcmp(issuer, name) != 0)
            return VERIFIER_E_PRODUCT_MISMATCH;
    }
    s->line = (enum verifier_snp_line)anchor;
    return VERIFIER_OK;
}

/* Which key signed: the report, the leaf and the leaf's issuer must say the same. */
static enum verifier_err check_signing_key(const struct verifier_snp *s, const struct verifier_chain *c,
                                           struct verifier_note *why)
{
    char leaf[64], issuer[64];
    bool vlek;

    if (!verifier_chain_name(c, 0, leaf, sizeof leaf) || !verifier_chain_name(c, 1, issuer, sizeof issuer))
        return VERIFIER_E_SIGNING_KEY_MISMATCH;
    vlek = s->signing_key == VERIFIER_SNP_VLEK;
    if ((vlek || s->signing_key == VERIFIER_SNP_VCEK) && strcmp(leaf, vlek ? "SEV-VLEK" : "SEV-VCEK") == 0 &&
        (strncmp(issuer, "SEV-VLEK-", 9) == 0) == vlek)
        return VERIFIER_OK;
    verifier_note_observed(why, "report signed by key kind %d, certificate of %s by %s", s->signing_key, leaf, issuer);
    return VERIFIER_E_SIGNING_KEY_MISMATCH;
}

/* The certificate was derived for REPORTED_TCB; the committed and the current version may be higher. */
static enum verifier_err check_tcb(const struct verifier_snp *s, const struct verifier_chain *c,
                                   struct verifier_note *why)
{
    const struct {
        const char *oid, *name;
        uint8_t value;
    } parts[] = {{AMD_OID "3.1", "boot loader", s->reported.bootloader},
                 {AMD_OID "3.2", "TEE", s->reported.tee},
                 {AMD_OID "3.3", "SNP", s->reported.snp},
                 {AMD_OID "3.8", "microcode", s->reported.microcode},
                 {AMD_OID "3.9", "FMC", s->reported.fmc}};
    size_t count = s->line == VERIFIER_SNP_TURIN ? 5 : 4;

    for (size_t i = 0; i < count; i++) {
        uint32_t value;

        if (!extension_number(c, parts[i].oid, &value) || value != parts[i].value) {
            verifier_note_observed(why, "report says %s %u", parts[i].name, parts[i].value);
            verifier_note_required(why, "%s as in the certificate", parts[i].name);
            return VERIFIER_E_TCB_MISMATCH;
        }
    }
    return VERIFIER_OK;
}

/* VCEK: the certificate names the chip. A masked chip id (all zero) is no contradiction, it identifies nothing. */
static enum verifier_err check_chip(struct verifier_hw *out, const struct verifier_chain *c)
{
    const struct verifier_snp *s = &out->snp;
    size_t len = s->line == VERIFIER_SNP_TURIN ? 8 : 64;
    struct span id;

    if (!verifier_chain_extension(c, 0, AMD_OID "4", &id) || id.len != len)
        return VERIFIER_E_CHIP_ID_MISSING;
    if (span_is_zero(span_of(s->chip_id, sizeof s->chip_id)))
        return VERIFIER_OK;
    if (memcmp(s->chip_id, id.data, len) != 0 || !span_is_zero(span_of(s->chip_id + len, sizeof s->chip_id - len)))
        return VERIFIER_E_CHIP_ID_MISMATCH;
    memcpy(out->chip_id, s->chip_id, sizeof out->chip_id);
    out->has_chip_id = true;
    return VERIFIER_OK;
}

static enum verifier_err check_leaf(struct verifier_hw *out, const struct verifier_chain *c, struct verifier_note *why)
{
    struct verifier_snp *s = &out->snp;
    enum verifier_err err = check_signing_key(s, c, why);

    if (err == VERIFIER_OK)
        err = check_tcb(s, c, why);
    if (err != VERIFIER_OK)
        return err;
    if (s->signing_key == VERIFIER_SNP_VCEK)
        return check_chip(out, c);
    if (!extension_text(c, AMD_OID "5", s->csp_id, sizeof s->csp_id))
        return VERIFIER_E_SIGNING_KEY_MISMATCH;
    return span_is_zero(span_of(s->chip_id, sizeof s->chip_id)) ? VERIFIER_OK : VERIFIER_E_CHIP_ID_MISMATCH;
}

/* --- signature ---------------------------------------------------------------------------------- */

/* The report carries r and s little-endian. */
static void reversed(uint8_t *out, const uint8_t *in)
{
    for (size_t i = 0; i < NUMBER_LEN; i++)
        out[i] = in[NUMBER_LEN - 1 - i];
}

static enum verifier_err check_signature(struct span report, struct verifier_chain *c)
{
    uint8_t rs[2 * NUMBER_LEN];

    reversed(rs, report.data + 0x2a0);
    reversed(rs + NUMBER_LEN, report.data + 0x2e8);
    return verifier_chain_ecdsa(c, 0, VERIFIER_P384, span_of(report.data, VERIFIER_SNP_SIGNED), span_of(rs, sizeof rs));
}

/* --- rules -------------------------------------------------------------------------------------- */

static bool tcb_at_least(const struct verifier_tcb *have, const struct verifier_tcb *least)
{
    return have->fmc >= least->fmc && have->bootloader >= least->bootloader && have->tee >= least->tee &&
           have->snp >= least->snp && have->microcode >= least->microcode;
}

static enum verifier_err check_rules(const struct verifier_snp *s, const struct verifier_hw_rules *rules,
                                     struct verifier_note *why)
{
    if ((s->policy & VERIFIER_SNP_POLICY_DEBUG) && !rules->allow_debug)
        return VERIFIER_E_DEBUG_ENABLED;
    if ((s->policy & VERIFIER_SNP_POLICY_MIGRATE) && !rules->allow_migration)
        return VERIFIER_E_MIGRATION_AGENT;
    if (s->vmpl > rules->max_vmpl) {
        verifier_note_observed(why, "VMPL %u", s->vmpl);
        verifier_note_required(why, "VMPL at most %u", rules->max_vmpl);
        return VERIFIER_E_VMPL;
    }
    if (rules->has_min_tcb &&
        (!tcb_at_least(&s->reported, &rules->min_tcb) || !tcb_at_least(&s->committed, &rules->min_tcb))) {
        verifier_note_observed(why, "reported fmc %u, boot loader %u, TEE %u, SNP %u, microcode %u", s->reported.fmc,
                               s->reported.bootloader, s->reported.tee, s->reported.snp, s->reported.microcode);
        verifier_note_required(why, "fmc %u, boot loader %u, TEE %u, SNP %u, microcode %u or newer", rules->min_tcb.fmc,
                               rules->min_tcb.bootloader, rules->min_tcb.tee, rules->min_tcb.snp,
                               rules->min_tcb.microcode);
        return VERIFIER_E_TCB_TOO_OLD;
    }
    return VERIFIER_OK;
}

/* --- all together ------------------------------------------------------------------------------- */

/* The chain, before anything in the report is believed. */
static enum verifier_err check_chain(struct verifier_snp *s, struct verifier_chain *c,
                                     const struct verifier_collateral *collateral, uint64_t now,
                                     const struct verifier_hw_rules *rules, struct verifier_note *why)
{
    enum verifier_err err = verifier_chain_anchor(c, VERIFIER_ANCHOR_AMD, why);

    if (err == VERIFIER_OK)
        err = verifier_chain_check(c, VERIFIER_FORM_RSA_PSS_SHA384, now, why);
    if (err == VERIFIER_OK)
        err = check_line(s, c, why);
    /* The root's list names revoked intermediates; there is none of leaves. */
    if (err == VERIFIER_OK && (rules->require_crl || collateral->crl_count > 0))
        err = verifier_chain_revocation(c, 1, collateral->crls, collateral->crl_count, VERIFIER_FORM_RSA_PSS_SHA384,
                                        now, why);
    return err;
}

static void fill_facts(struct verifier_hw *out, const struct verifier_chain *c)
{
    struct verifier_snp *s = &out->snp;

    out->tee = VERIFIER_TEE_SNP;
    out->simulated = c->anchor.simulated;
    snprintf(out->product, sizeof out->product, "%s", verifier_snp_line_name(s->line));
    memcpy(out->report_data, s->report_data, sizeof out->report_data);
    memcpy(out->measurement, s->measurement, sizeof out->measurement);
    out->expires = c->expires;
    out->collateral_at = c->issued;
}

static void fill_tcb(struct verifier_snp *s)
{
    s->reported = verifier_snp_tcb(s->line, s->reported_raw);
    s->committed = verifier_snp_tcb(s->line, s->committed_raw);
    s->current = verifier_snp_tcb(s->line, s->current_raw);
    s->launch = verifier_snp_tcb(s->line, s->launch_raw);
}

enum verifier_err verifier_snp_verify(struct verifier_hw *out, struct span report, const struct span *chain,
                                      size_t chain_count, const struct verifier_collateral *collateral, uint64_t now,
                                      const struct verifier_hw_rules *rules, struct verifier_note *why)
{
    struct verifier_chain c = {0};
    enum verifier_err err;

    memset(out, 0, sizeof *out);
    err = verifier_snp_parse(&out->snp, report);
    if (err == VERIFIER_OK)
        err = verifier_chain_open(&c, chain, chain_count, 3, why);
    verifier_chain_use(&c, collateral->cache);
    if (err == VERIFIER_OK)
        err = check_chain(&out->snp, &c, collateral, now, rules, why);
    if (err == VERIFIER_OK) {
        fill_tcb(&out->snp);
        err = check_signature(report, &c);
    }
    if (err == VERIFIER_OK)
        err = check_leaf(out, &c, why);
    if (err == VERIFIER_OK)
        err = check_rules(&out->snp, rules, why);
    if (err == VERIFIER_OK)
        fill_facts(out, &c);
    else
        memset(out, 0, sizeof *out);
    verifier_chain_close(&c);
    return err;
}
