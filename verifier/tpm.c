#include "verifier/tpm.h"

#include <jansson.h>

#include "verifier/base/reader.h"
#include "verifier/sha.h"

/* --- TPMS_ATTEST --------------------------------------------------------------------------------------------- */

#define MAGIC 0xff544347u /* TPM_GENERATED_VALUE */
#define ST_ATTEST_QUOTE 0x8018

static bool take_selection(struct verifier_attest *out, struct reader *r, size_t i)
{
    struct span bitmap;

    out->selection[i].bank = reader_u16be(r);
    bitmap = reader_span(r, reader_u8(r));
    if (r->err != READER_OK || bitmap.len > 4)
        return false;
    for (size_t k = 0; k < bitmap.len; k++)
        out->selection[i].pcrs |= (uint32_t)bitmap.data[k] << 8 * k;
    return out->selection[i].pcrs >> VERIFIER_TPM_PCRS == 0;
}

enum verifier_err verifier_attest_parse(struct verifier_attest *out, struct span attest)
{
    struct reader r = reader_over(attest);
    uint32_t magic = reader_u32be(&r), count;
    uint16_t type = reader_u16be(&r);

    memset(out, 0, sizeof *out);
    if (r.err != READER_OK)
        return VERIFIER_E_PARSE;
    if (magic != MAGIC)
        return VERIFIER_E_BAD_MAGIC;
    if (type != ST_ATTEST_QUOTE)
        return VERIFIER_E_NOT_A_QUOTE;
    out->qualified_signer = reader_span(&r, reader_u16be(&r));
    out->extra = reader_span(&r, reader_u16be(&r));
    out->clock = reader_u64be(&r);
    out->reset_count = reader_u32be(&r);
    out->restart_count = reader_u32be(&r);
    out->safe = reader_u8(&r) == 1;
    out->firmware = reader_u64be(&r);
    count = reader_u32be(&r);
    if (r.err != READER_OK || count > VERIFIER_TPM_SELECTIONS_MAX)
        return VERIFIER_E_PARSE;
    out->selection_count = count;
    for (uint32_t i = 0; i < count; i++)
        if (!take_selection(out, &r, i))
            return VERIFIER_E_PARSE;
    out->pcr_digest = reader_span(&r, reader_u16be(&r));
    return reader_end(&r) ? VERIFIER_OK : VERIFIER_E_PARSE;
}

static size_t bank_len(uint16_t bank)
{
    return bank == VERIFIER_TPM_SHA1 ? 20 : bank == VERIFIER_TPM_SHA256 ? 32 : bank == VERIFIER_TPM_SHA384 ? 48 : 0;
}

bool verifier_attest_has_pcrs(const struct verifier_attest *a, const struct span *values, size_t count)
{
    struct verifier_hash hash;
    uint8_t digest[32];
    size_t at = 0;

    verifier_hash_begin(&hash, VERIFIER_SHA256);
    for (size_t s = 0; s < a->selection_count; s++) {
        for (unsigned i = 0; i < VERIFIER_TPM_PCRS; i++) {
            if (!(a->selection[s].pcrs >> i & 1))
                continue;
            if (at == count || values[at].len == 0 || values[at].len != bank_len(a->selection[s].bank))
                return false;
            verifier_hash_add(&hash, values[at++]);
        }
    }
    verifier_hash_finish(&hash, digest);
    return a->selection_count > 0 && at == count && span_equal(a->pcr_digest, span_of(digest, sizeof digest));
}

/* --- Azure's paravisor report ----------------------------------------------------------------------------------- */

enum { HCL_HEAD = 32, REPORT_LEN = 1184, SNP_DATA = 0x50, TD_DATA = 128, HASH_SHA256 = 1 };

/* base64url without padding into `out`; its length, or 0. */
static size_t base64url(const char *text, uint8_t *out, size_t cap)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0;
    unsigned have = 0;
    size_t len = 0;

    for (; *text; text++) {
        const char *at = strchr(digits, *text);
        if (!at)
            return 0;
        bits = bits << 6 | (uint32_t)(at - digits);
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        if (len == cap)
            return 0;
        out[len++] = (uint8_t)(bits >> have);
    }
    return len;
}

/* keys[kid = HCLAkPub], an RSA key of RFC 7517. */
static enum verifier_err read_key(struct verifier_hcl *out)
{
    json_error_t error = {0};
    json_t *root = json_loadb((const char *)out->runtime.data, out->runtime.len, JSON_REJECT_DUPLICATES, &error), *one;
    size_t i, found = 0, n = 0, e = 0;

    if (!root && (error.text[0] == '\0' || json_error_code(&error) == json_error_out_of_memory))
        return VERIFIER_E_INTERNAL; /* no fault was found in it */
    json_array_foreach(json_object_get(root, "keys"), i, one)
    {
        const char *kid = json_string_value(json_object_get(one, "kid")),
                   *kty = json_string_value(json_object_get(one, "kty"));
        const char *modulus = json_string_value(json_object_get(one, "n")),
                   *exponent = json_string_value(json_object_get(one, "e"));

        if (!kid || strcmp(kid, "HCLAkPub") != 0)
            continue;
        found++;
        if (!kty || strcmp(kty, "RSA") != 0 || !modulus || !exponent)
            continue;
        n = base64url(modulus, out->modulus, sizeof out->modulus);
        e = base64url(exponent, out->exponent, sizeof out->exponent);
    }
    json_decref(root);
    out->key =
        (struct verifier_public){.kind = n >= 256 && out->modulus[0] >= 0x80 ? VERIFIER_KEY_RSA : VERIFIER_KEY_OTHER,
                                 .modulus = span_of(out->modulus, n),
                                 .exponent = span_of(out->exponent, e)};
    return found == 1 && n > 0 && e > 0 ? VERIFIER_OK : VERIFIER_E_PARSE;
}

bool verifier_hcl_covers(const struct verifier_hcl *hcl, const uint8_t report_data[64])
{
    uint8_t digest[32];

    verifier_sha256(digest, hcl->runtime);
    return memcmp(digest, report_data, sizeof digest) == 0 && span_is_zero(span_of(report_data + 32, 32));
}

enum verifier_err verifier_hcl_parse(struct verifier_hcl *out, struct span hcl)
{
    struct reader r = reader_over(hcl);
    struct span magic = reader_span(&r, 4);
    memset(out, 0, sizeof *out);
    out->version = reader_u32le(&r);
    out->size = reader_u32le(&r);
    out->request_type = reader_u32le(&r);
    (void)reader_span(&r, HCL_HEAD - 16);
    out->report = reader_span(&r, REPORT_LEN);
    out->data_size = reader_u32le(&r);
    out->data_version = reader_u32le(&r);
    out->report_type = reader_u32le(&r);
    out->hash_type = reader_u32le(&r);
    out->runtime = reader_span(&r, reader_u32le(&r));
    if (magic.len == 4 && memcmp(magic.data, "HCLA", 4) != 0)
        return VERIFIER_E_BAD_MAGIC;
    if (r.err != READER_OK || out->hash_type != HASH_SHA256 ||
        (out->report_type != VERIFIER_HCL_SNP && out->report_type != VERIFIER_HCL_TDX))
        return VERIFIER_E_PARSE;
    if (!span_is_zero(r.rest)) { /* zeros fill the TPM's index */
        if (out->report_type != VERIFIER_HCL_TDX)
            return VERIFIER_E_PARSE;
        out->quote = r.rest;
    }
    if (!verifier_hcl_covers(out, out->report.data + (out->report_type == VERIFIER_HCL_SNP ? SNP_DATA : TD_DATA)))
        return VERIFIER_E_RUNTIME_DATA_MISMATCH;
    return read_key(out);
}
