#include "verifier/gpu.h"

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "verifier/chain.h"
#include "verifier/der.h"
#include "verifier/ocsp.h"

#define CERTS 5
#define OID_COMPOSITE "2.23.133.5.4.1" /* Hopper and LS_10: TCG DICE CompositeDeviceID */
#define OID_TCBINFO "2.23.133.5.4.1.1" /* Blackwell: TCG DICE DiceTcbInfo */

static const uint8_t oid_sha384[] = {0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02};

/* --- what the leaf says ------------------------------------------------------------------------------------ */

/* FWID ::= SEQUENCE { hashAlg OID, digest OCTET STRING } */
static bool take_fwid(struct der *d, uint8_t out[48])
{
    struct der f = der_over(der_take(d, DER_SEQUENCE));
    struct span alg = der_take(&f, DER_OID), digest = der_take(&f, DER_OCTETS);

    if (!der_end(&f) || !span_equal(alg, span_of(oid_sha384, sizeof oid_sha384)) || digest.len != 48)
        return false;
    memcpy(out, digest.data, 48);
    return true;
}

/* { version, SubjectPublicKeyInfo, FWID } */
static bool fwid_of_composite(struct span value, uint8_t out[48])
{
    struct der outer = der_over(value), d = der_over(der_take(&outer, DER_SEQUENCE));

    (void)der_uint(&d, DER_INTEGER);
    (void)der_take(&d, DER_SEQUENCE);
    return take_fwid(&d, out) && der_end(&d) && der_end(&outer);
}

/* { ... [6] IMPLICIT fwids SEQUENCE OF FWID ... }: the first one. */
static bool fwid_of_tcbinfo(struct span value, uint8_t out[48])
{
    struct der outer = der_over(value), d = der_over(der_take(&outer, DER_SEQUENCE)), list;
    struct span content;
    uint8_t tag;
    bool found = false;

    while ((tag = der_any(&d, &content)) != 0) {
        if (tag != 0xa6)
            continue;
        list = der_over(content);
        if (found || !take_fwid(&list, out))
            return false;
        found = true;
    }
    return found && der_end(&d) && der_end(&outer);
}

static bool leaf_fwid(const struct verifier_chain *c, uint8_t out[48])
{
    struct span value;

    if (verifier_chain_extension(c, 0, OID_TCBINFO, &value))
        return fwid_of_tcbinfo(value, out);
    return verifier_chain_extension(c, 0, OID_COMPOSITE, &value) && fwid_of_composite(value, out);
}

/* Hexadecimal digits as a decimal number. */
static bool decimal(const char *hex, char *out, size_t cap)
{
    BIGNUM *n = NULL;
    char *text = NULL;
    bool good = BN_hex2bn(&n, hex) == (int)strlen(hex) && strlen(hex) > 0 && (text = BN_bn2dec(n)) != NULL &&
                strlen(text) < cap;

    if (good)
        strcpy(out, text);
    OPENSSL_free(text);
    BN_free(n);
    return good;
}

/* Device kind from the names: leaf "<chip> A01 GSP FMC LF" (switch: FSP), issued by "<chip> A01 GSP BROM". */
static enum verifier_err read_names(struct verifier_gpu *out, const struct verifier_chain *c)
{
    char hex[64];
    size_t len;

    if (!verifier_chain_name(c, 0, out->leaf, sizeof out->leaf) ||
        !verifier_chain_name(c, 1, out->model, sizeof out->model) || !verifier_chain_serial(c, 0, hex, sizeof hex) ||
        !decimal(hex, out->ueid, sizeof out->ueid) || !verifier_chain_serial(c, 1, out->serial, sizeof out->serial))
        return VERIFIER_E_PARSE;
    len = strcspn(out->leaf, " ");
    if (len == 0 || len >= sizeof out->chip || strncmp(out->model, out->leaf, len) != 0 || out->model[len] != ' ')
        return VERIFIER_E_ARCH_MISMATCH;
    memcpy(out->chip, out->leaf, len);
    out->chip[len] = '\0';
    out->is_switch = strcmp(out->chip, "LS_10") == 0;
    if (!out->is_switch && strcmp(out->chip, "GH100") != 0 && strncmp(out->chip, "GB1", 3) != 0 &&
        strncmp(out->chip, "GB2", 3) != 0)
        return VERIFIER_E_ARCH_MISMATCH;
    return strstr(out->leaf, out->is_switch ? " FSP FMC LF" : " GSP FMC LF") ? VERIFIER_OK : VERIFIER_E_ARCH_MISMATCH;
}

/* --- what the report says -------------------------------------------------------------------------------------- */

/* ASCII padded with NULs; false for other bytes. */
static bool text_of(struct span s, char *out, size_t cap)
{
    size_t len;

    out[0] = '\0';
    if (s.len == 0)
        return true;
    len = strnlen((const char *)s.data, s.len);
    if (len >= cap || !span_is_zero(span_of(s.data + len, s.len - len)))
        return false;
    for (size_t i = 0; i < len; i++)
        if (s.data[i] <= 0x20 || s.data[i] >= 0x7f)
            return false;
    memcpy(out, s.data, len);
    out[len] = '\0';
    return true;
}

/* A GPU reports its VBIOS version as five bytes, 3 2 1 0 4, a switch as text. */
static bool read_vbios(struct verifier_gpu *out)
{
    struct span v = verifier_spdm_field(&out->spdm, VERIFIER_OPAQUE_VBIOS);

    if (out->is_switch || v.len == 0)
        return text_of(v, out->vbios, sizeof out->vbios);
    if (v.len != 8)
        return false;
    snprintf(out->vbios, sizeof out->vbios, "%02X.%02X.%02X.%02X.%02X", v.data[3], v.data[2], v.data[1], v.data[0],
             v.data[4]);
    return true;
}

/* A GPU writes the ids of its switches little-endian, one for each link and zero for none; a switch its own big-endian.
 */
static bool read_fabric(struct verifier_gpu *out)
{
    struct span flag = verifier_spdm_field(&out->spdm, VERIFIER_OPAQUE_FEATURE);
    struct span ids = verifier_spdm_field(&out->spdm, VERIFIER_OPAQUE_SWITCH_PDI);

    if (out->is_switch) {
        for (size_t i = 0; i < ids.len && i < 8; i++)
            out->pdi = out->pdi << 8 | ids.data[i];
        return ids.len == 0 || ids.len == 8;
    }
    if ((flag.len != 0 && (flag.len != 2 || flag.data[1] != 0 || flag.data[0] > 2)) || ids.len % 8 != 0)
        return false;
    if (flag.len > 0)
        out->mode = (enum verifier_gpu_mode)(VERIFIER_GPU_SINGLE + flag.data[0]);
    for (size_t i = 0; i < ids.len; i += 8) {
        uint64_t id = 0;
        size_t at = 0;
        for (size_t k = 8; k-- > 0;)
            id = id << 8 | ids.data[i + k];
        while (at < out->switch_count && out->switches[at] != id)
            at++;
        if (id == 0 || at < out->switch_count)
            continue;
        if (at == VERIFIER_DEVICES_MAX)
            return false;
        out->switches[out->switch_count++] = id;
    }
    return true;
}

static bool read_versions(struct verifier_gpu *out)
{
    const struct verifier_spdm *s = &out->spdm;

    return text_of(verifier_spdm_field(s, VERIFIER_OPAQUE_DRIVER), out->driver, sizeof out->driver) &&
           text_of(verifier_spdm_field(s, VERIFIER_OPAQUE_PROJECT), out->project, sizeof out->project) &&
           text_of(verifier_spdm_field(s, VERIFIER_OPAQUE_PROJECT_SKU), out->project_sku, sizeof out->project_sku) &&
           text_of(verifier_spdm_field(s, VERIFIER_OPAQUE_CHIP_SKU), out->chip_sku, sizeof out->chip_sku) &&
           text_of(verifier_spdm_field(s, VERIFIER_OPAQUE_CHIP_INFO), out->chip_info, sizeof out->chip_info) &&
           read_vbios(out) && read_fabric(out);
}

/* The certificate is for the firmware that reports. Drivers before 550 did not say which that is. */
static enum verifier_err check_fwid(struct verifier_gpu *out, const struct verifier_chain *c)
{
    struct span fwid = verifier_spdm_field(&out->spdm, VERIFIER_OPAQUE_FWID);

    if (!leaf_fwid(c, out->cert_fwid))
        return VERIFIER_E_FWID_MISMATCH;
    out->has_fwid = fwid.len > 0;
    if (!out->has_fwid)
        return out->is_switch || strtoul(out->driver, NULL, 10) < 550 ? VERIFIER_OK : VERIFIER_E_FWID_MISMATCH;
    return span_equal(fwid, span_of(out->cert_fwid, sizeof out->cert_fwid)) ? VERIFIER_OK : VERIFIER_E_FWID_MISMATCH;
}

/* --- proof ------------------------------------------------------------------------------------------------------ */

static enum verifier_err prove(struct verifier_gpu *out, struct verifier_chain *c, const uint8_t *nonce, uint64_t now,
                               struct verifier_note *why)
{
    enum verifier_err err = verifier_chain_anchor(c, VERIFIER_ANCHOR_NVIDIA_DEVICE, why);

    if (err == VERIFIER_OK)
        err = verifier_chain_check(c, VERIFIER_FORM_ECDSA_SHA384, now, why);
    if (err == VERIFIER_OK)
        err = read_names(out, c);
    if (err != VERIFIER_OK)
        return err;
    err = verifier_chain_ecdsa(c, 0, VERIFIER_P384, out->spdm.covered, out->spdm.signature);
    if (err != VERIFIER_OK)
        return err;
    if (!read_versions(out))
        return VERIFIER_E_PARSE;
    err = check_fwid(out, c);
    if (err == VERIFIER_OK && nonce && !span_equal(out->spdm.nonce, span_of(nonce, 32)))
        err = VERIFIER_E_NONCE_MISMATCH;
    return err;
}

enum verifier_err verifier_gpu_verify(struct verifier_gpu *out, struct span report, const struct span *chain,
                                      size_t chain_count, const uint8_t *nonce, struct verifier_cache *cache,
                                      uint64_t now, struct verifier_note *why)
{
    struct verifier_chain c = {0};
    enum verifier_err err;

    memset(out, 0, sizeof *out);
    err = verifier_spdm_parse(&out->spdm, report);
    if (err == VERIFIER_OK)
        err = verifier_chain_open(&c, chain, chain_count, CERTS, why);
    verifier_chain_use(&c, cache);
    if (err == VERIFIER_OK)
        err = prove(out, &c, nonce, now, why);
    out->simulated = c.anchor.simulated;
    out->expires = c.expires;
    verifier_chain_close(&c);
    return err;
}

/* --- revocation ------------------------------------------------------------------------------------------------- */

enum verifier_err verifier_gpu_status(struct verifier_gpu *out, const struct span *chain, size_t chain_count,
                                      const struct span *responses, size_t count, struct verifier_cache *cache,
                                      uint64_t now, struct verifier_note *why)
{
    struct verifier_chain c = {0};
    enum verifier_err err = verifier_chain_open(&c, chain, chain_count, CERTS, why);
    size_t good = 0;

    verifier_chain_use(&c, cache);
    for (size_t i = 1; err == VERIFIER_OK && i + 1 < CERTS; i++) {
        err = verifier_ocsp_check(&c, i, responses, count, now, why);
        good += err == VERIFIER_OK;
        if (verifier_ocsp_is_silence(err))
            err = VERIFIER_OK;
    }
    out->status_good = err == VERIFIER_OK && good == CERTS - 2;
    out->status_at = c.issued;
    if (c.expires < out->expires)
        out->expires = c.expires;
    verifier_chain_close(&c);
    return err;
}

/* --- reference values --------------------------------------------------------------------------------------------- */

enum verifier_err verifier_gpu_rim_fits(const struct verifier_rim *rim, const char *version, struct verifier_note *why)
{
    if (version[0] && strcasecmp(rim->version, version) == 0)
        return VERIFIER_OK;
    verifier_note_observed(why, "reference file of version %s", rim->version);
    verifier_note_required(why, "one of version %s", version);
    return VERIFIER_E_RIM_VERSION_MISMATCH;
}

/* Block 36 (index 35) says nothing when the first decoder is off. Its status must be one of the two. */
static bool is_skipped(const struct verifier_gpu *gpu, uint8_t index, bool *known)
{
    struct span status = verifier_spdm_field(&gpu->spdm, VERIFIER_OPAQUE_NVDEC0);

    if (gpu->is_switch || index != 35)
        return false;
    *known = *known && status.len == 1 && (status.data[0] == 0xaa || status.data[0] == 0x55);
    return status.len == 1 && status.data[0] == 0x55;
}

static bool matches(const struct verifier_gpu *gpu, const struct verifier_rim *rim, size_t e)
{
    struct span value = gpu->spdm.block[rim->entry[e].index + 1];

    for (size_t i = 0; i < rim->entry[e].alternatives; i++)
        if (span_equal(value, span_of(rim->hash[rim->entry[e].first + i], VERIFIER_RIM_HASH_LEN)))
            return true;
    return false;
}

enum verifier_err verifier_gpu_compare(const struct verifier_gpu *gpu, const struct verifier_rim *const *rims,
                                       size_t count, struct verifier_note *why)
{
    bool seen[256] = {false}, known = true;
    char wrong[256] = "";
    size_t active = 0, len = 0;

    for (size_t r = 0; r < count; r++) {
        for (size_t e = 0; e < rims[r]->count; e++) {
            uint8_t index = rims[r]->entry[e].index;
            if (seen[index]) {
                verifier_note_observed(why, "two reference files for measurement %u", index);
                return VERIFIER_E_RIM_INDEX_CONFLICT;
            }
            seen[index] = true;
            active++;
            if (is_skipped(gpu, index, &known) || matches(gpu, rims[r], e))
                continue;
            if (len < sizeof wrong - 8)
                len += (size_t)snprintf(wrong + len, sizeof wrong - len, " %u", index);
        }
    }
    if (len == 0 && known && active <= gpu->spdm.block_count)
        return VERIFIER_OK;
    verifier_note_observed(why, "measurements that differ:%s", len ? wrong : known ? " too many" : " decoder status");
    return VERIFIER_E_MEASUREMENT_MISMATCH;
}
