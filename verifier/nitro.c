#include "verifier/nitro.h"

#include "verifier/base/writer.h"
#include "verifier/cbor.h"
#include "verifier/chain.h"
#include "verifier/hw.h"

#define COSE_SIGN1 18
#define PAYLOAD_MAX 32768

static const uint8_t protected_es384[] = {0xa1, 0x01, 0x38, 0x22}; /* {1: -35} */

/* --- document -------------------------------------------------------------------------------------------- */

static bool take_pcrs(struct verifier_nitro_document *out, struct cbor *c)
{
    struct cbor_items items = cbor_map(c);

    while (cbor_more(c, &items)) {
        uint64_t index = cbor_uint(c);
        struct span value = cbor_bytes(c);

        if (c->bad || index >= VERIFIER_NITRO_PCRS || value.len != 48 || out->pcr[index].len > 0)
            return false;
        out->pcr[index] = value;
    }
    return !c->bad;
}

static bool take_bundle(struct verifier_nitro_document *out, struct cbor *c)
{
    struct cbor_items items = cbor_list(c);

    while (cbor_more(c, &items)) {
        if (out->bundle_count == VERIFIER_NITRO_BUNDLE_MAX)
            return false;
        out->bundle[out->bundle_count++] = cbor_bytes(c);
    }
    return !c->bad && out->bundle_count > 0;
}

static struct span bytes_or_null(struct cbor *c)
{
    return cbor_null(c) ? span_of(NULL, 0) : cbor_bytes(c);
}

enum key { MODULE_ID, DIGEST, TIMESTAMP, PCRS, CERTIFICATE, CABUNDLE, PUBLIC_KEY, USER_DATA, NONCE, KEYS };
static const char *const key_names[KEYS] = {"module_id", "digest",     "timestamp", "pcrs", "certificate",
                                            "cabundle",  "public_key", "user_data", "nonce"};

static bool take_value(struct verifier_nitro_document *out, enum key key, struct cbor *c)
{
    switch (key) {
    case MODULE_ID:
        out->module_id = cbor_text(c);
        return true;
    case DIGEST:
        return span_is(cbor_text(c), "SHA384");
    case TIMESTAMP:
        out->timestamp = cbor_uint(c);
        return true;
    case PCRS:
        return take_pcrs(out, c);
    case CERTIFICATE:
        out->certificate = cbor_bytes(c);
        return true;
    case CABUNDLE:
        return take_bundle(out, c);
    case PUBLIC_KEY:
        out->public_key = bytes_or_null(c);
        return true;
    case USER_DATA:
        out->user_data = bytes_or_null(c);
        return true;
    default:
        out->nonce = bytes_or_null(c);
        return true;
    }
}

/* Known keys only, each at most once; what the proof needs must be there. */
static bool take_payload(struct verifier_nitro_document *out)
{
    struct cbor c = cbor_over(out->payload);
    struct cbor_items items = cbor_map(&c);
    uint32_t seen = 0;

    while (cbor_more(&c, &items)) {
        struct span name = cbor_text(&c);
        int key = 0;

        while (key < KEYS && !span_is(name, key_names[key]))
            key++;
        if (key == KEYS || (seen >> key & 1) || !take_value(out, (enum key)key, &c))
            return false;
        seen |= 1u << key;
    }
    return cbor_end(&c) && (seen & 0x3f) == 0x3f;
}

enum verifier_err verifier_nitro_parse(struct verifier_nitro_document *out, struct span document)
{
    struct cbor c = cbor_over(document);
    struct cbor_items items, none;
    struct span head;

    memset(out, 0, sizeof *out);
    (void)cbor_tag(&c, COSE_SIGN1);
    items = cbor_list(&c);
    if (items.open || items.left != 4)
        return VERIFIER_E_PARSE;
    head = cbor_bytes(&c);
    if (!c.bad && !span_equal(head, span_of(protected_es384, sizeof protected_es384)))
        return VERIFIER_E_UNSUPPORTED_ALG;
    none = cbor_map(&c);
    if (cbor_more(&c, &none)) /* nothing unprotected */
        return VERIFIER_E_PARSE;
    out->payload = cbor_bytes(&c);
    out->signature = cbor_bytes(&c);
    if (c.bad || out->signature.len != 96 || out->payload.len > PAYLOAD_MAX || !take_payload(out))
        return VERIFIER_E_PARSE;
    return cbor_end(&c) ? VERIFIER_OK : VERIFIER_E_TRAILING_DATA;
}

/* --- proof ------------------------------------------------------------------------------------------------- */

/* Sig_structure of RFC 9052 § 4.4: ["Signature1", protected, external (empty), payload]. */
static bool signature_holds(const struct verifier_nitro_document *d, struct verifier_chain *c)
{
    struct writer w = writer_with_max(PAYLOAD_MAX + 64);
    bool good;

    writer_u8(&w, 0x84);
    writer_u8(&w, 0x6a);
    writer_str(&w, "Signature1");
    writer_u8(&w, 0x40 + sizeof protected_es384);
    writer_bytes(&w, span_of(protected_es384, sizeof protected_es384));
    writer_u8(&w, 0x40);
    if (d->payload.len < 24)
        writer_u8(&w, (uint8_t)(0x40 + d->payload.len));
    else if (d->payload.len < 256)
        writer_u8(&w, 0x58), writer_u8(&w, (uint8_t)d->payload.len);
    else
        writer_u8(&w, 0x59), writer_u16be(&w, (uint16_t)d->payload.len);
    writer_bytes(&w, d->payload);
    good = writer_ok(&w) && verifier_chain_ecdsa(c, 0, VERIFIER_P384, writer_span(&w), d->signature) == VERIFIER_OK;
    writer_release(&w);
    return good;
}

static enum verifier_err prove(const struct verifier_nitro_document *d, struct verifier_chain *c,
                               struct verifier_cache *cache, uint64_t now, struct verifier_note *why)
{
    struct span chain[VERIFIER_CERTS_MAX] = {d->certificate};
    size_t count = d->bundle_count + 1;
    enum verifier_err err;

    for (size_t i = 0; i < d->bundle_count; i++) /* the bundle stands root first */
        chain[1 + i] = d->bundle[d->bundle_count - 1 - i];
    err = verifier_chain_open(c, chain, count, count, why);
    verifier_chain_use(c, cache);
    if (err == VERIFIER_OK)
        err = verifier_chain_anchor(c, VERIFIER_ANCHOR_NITRO, why);
    if (err == VERIFIER_OK)
        err = verifier_chain_check(c, VERIFIER_FORM_ECDSA_SHA384, now, why);
    if (err == VERIFIER_OK && !signature_holds(d, c))
        err = VERIFIER_E_BAD_SIGNATURE;
    return err;
}

static bool fill(struct verifier_nitro *out, const struct verifier_nitro_document *d)
{
    out->debug = true;
    for (unsigned i = 0; i < VERIFIER_NITRO_PCRS; i++) {
        if (d->pcr[i].len == 0)
            continue;
        out->present |= 1u << i;
        memcpy(out->pcr[i], d->pcr[i].data, sizeof out->pcr[i]);
        if (i < 3 && !span_is_zero(d->pcr[i]))
            out->debug = false;
    }
    out->timestamp = d->timestamp;
    if ((out->present & 7) != 7 || d->module_id.len >= sizeof out->module_id)
        return false;
    for (size_t i = 0; i < d->module_id.len; i++)
        if (d->module_id.data[i] <= 0x20 || d->module_id.data[i] >= 0x7f)
            return false;
    memcpy(out->module_id, d->module_id.data, d->module_id.len);
    return true;
}

enum verifier_err verifier_nitro_verify(struct verifier_hw *out, struct span document, struct verifier_cache *cache,
                                        uint64_t now, const struct verifier_hw_rules *rules, struct verifier_note *why)
{
    struct verifier_nitro_document d;
    struct verifier_chain c = {0};
    enum verifier_err err;

    memset(out, 0, sizeof *out);
    err = verifier_nitro_parse(&d, document);
    if (err == VERIFIER_OK)
        err = prove(&d, &c, cache, now, why);
    if (err == VERIFIER_OK && !fill(&out->nitro, &d))
        err = VERIFIER_E_PARSE;
    if (err == VERIFIER_OK && out->nitro.debug && !rules->allow_debug)
        err = VERIFIER_E_DEBUG_ENABLED;
    if (err == VERIFIER_OK) {
        out->tee = VERIFIER_TEE_NITRO;
        out->simulated = c.anchor.simulated;
        strcpy(out->product, "nitro");
        memcpy(out->measurement, out->nitro.pcr[0], sizeof out->measurement);
        if (d.nonce.len == sizeof out->report_data)
            memcpy(out->report_data, d.nonce.data, d.nonce.len);
        out->expires = c.expires;
    } else {
        memset(out, 0, sizeof *out);
    }
    verifier_chain_close(&c);
    return err;
}
