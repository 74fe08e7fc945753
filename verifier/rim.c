#include "verifier/rim.h"

#include <libxml/c14n.h>
#include <libxml/parser.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "verifier/base/codec.h"
#include "verifier/chain.h"
#include "verifier/ocsp.h"

#define NS_SWID "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
#define NS_HASH "http://www.w3.org/2001/04/xmlenc#sha384"
#define NS_DS "http://www.w3.org/2000/09/xmldsig#"
#define C14N_11 "http://www.w3.org/2006/12/xml-c14n11"
#define ENVELOPED "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
#define ECDSA_SHA384 "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
#define DIGEST_SHA384 "http://www.w3.org/2001/04/xmldsig-more#sha384"
#define CERTS VERIFIER_RIM_CERTS

/* --- the tree ------------------------------------------------------------------------------------------ */

static bool is_element(const xmlNode *n, const char *ns, const char *name)
{
    return n && n->type == XML_ELEMENT_NODE && n->ns && n->ns->href && strcmp((const char *)n->ns->href, ns) == 0 &&
           strcmp((const char *)n->name, name) == 0;
}

/* The first element at or after `n` among its siblings; anything but white space between is refused by *clean. */
static xmlNode *next_element(xmlNode *n, bool *clean)
{
    while (n && n->type != XML_ELEMENT_NODE) {
        if (n->type != XML_TEXT_NODE || !xmlIsBlankNode(n))
            *clean = false;
        n = n->next;
    }
    return n;
}

/* Take the next child, which must be this element; NULL otherwise. `*at` moves behind it. */
static xmlNode *take(xmlNode **at, const char *name)
{
    bool clean = true;
    xmlNode *n = next_element(*at, &clean);

    if (!clean || !is_element(n, NS_DS, name))
        return NULL;
    *at = n->next;
    return n;
}

/* Nothing but white space is left. */
static bool at_end(xmlNode *at)
{
    bool clean = true;

    return next_element(at, &clean) == NULL && clean;
}

/* The value of an attribute; NULL when absent. Yours: xmlFree(). */
static char *attribute(xmlNode *n, const char *name, const char *ns)
{
    return (char *)(ns ? xmlGetNsProp(n, (const xmlChar *)name, (const xmlChar *)ns)
                       : xmlGetNoNsProp(n, (const xmlChar *)name));
}

static bool attribute_is(xmlNode *n, const char *name, const char *want)
{
    char *value = n ? attribute(n, name, NULL) : NULL;
    bool same = value && strcmp(value, want) == 0;

    xmlFree(value);
    return same;
}

static bool attribute_copy(xmlNode *n, const char *name, char *out, size_t cap)
{
    char *value = attribute(n, name, NULL);
    size_t len = value ? strlen(value) : 0;
    bool good = len > 0 && len < cap;

    for (size_t i = 0; good && i < len; i++)
        good = value[i] > 0x20 && value[i] < 0x7f;
    if (good)
        memcpy(out, value, len + 1);
    xmlFree(value);
    return good;
}

/* The bytes that an element's text is in base64; how many, 0 when malformed. */
static size_t decode(xmlNode *n, uint8_t *out, size_t cap)
{
    xmlChar *text = n ? xmlNodeGetContent(n) : NULL;
    size_t len = text ? codec_unbase64(span_str((const char *)text), out, cap) : 0;

    xmlFree(text);
    return len;
}

/* --- canonical form -------------------------------------------------------------------------------------- */

struct view {
    const xmlNode *only, *without; /* one of them: this subtree alone, or all but this */
};

static bool is_within(const xmlNode *n, const xmlNode *top)
{
    while (n && n != top)
        n = n->parent;
    return n == top;
}

static int is_visible(void *ctx, xmlNodePtr node, xmlNodePtr parent)
{
    const struct view *v = ctx;
    const xmlNode *at = node->type == XML_NAMESPACE_DECL || node->type == XML_ATTRIBUTE_NODE ? parent : node;

    return v->only ? is_within(at, v->only) : !is_within(at, v->without);
}

/* Inclusive C14N 1.1 without comments. The bytes live as long as `*buffer`. */
static struct span canonical(xmlDoc *doc, struct view v, xmlOutputBuffer **buffer)
{
    *buffer = xmlAllocOutputBuffer(NULL);
    if (!*buffer || xmlC14NExecute(doc, is_visible, &v, XML_C14N_1_1, NULL, 0, *buffer) < 0)
        return span_of(NULL, 0);
    return span_of(xmlOutputBufferGetContent(*buffer), xmlOutputBufferGetSize(*buffer));
}

/* --- the signature ------------------------------------------------------------------------------------------ */

struct signature {
    xmlNode *element, *info;
    uint8_t digest[48], value[96];
    size_t cert_count;
    uint8_t cert[VERIFIER_CERTS_MAX][VERIFIER_CERT_MAX];
    struct span der[VERIFIER_CERTS_MAX];
};

/* One Reference to the whole document, enveloped then C14N 1.1, SHA-384. */
static bool read_reference(xmlNode *reference, uint8_t digest[48])
{
    xmlNode *at = reference ? reference->children : NULL, *transforms = take(&at, "Transforms"), *inner, *method,
            *value;
    uint8_t bytes[51];

    if (!transforms || !attribute_is(reference, "URI", ""))
        return false;
    inner = transforms->children;
    if (!attribute_is(take(&inner, "Transform"), "Algorithm", ENVELOPED) ||
        !attribute_is(take(&inner, "Transform"), "Algorithm", C14N_11) || !at_end(inner))
        return false;
    method = take(&at, "DigestMethod");
    value = take(&at, "DigestValue");
    if (!attribute_is(method, "Algorithm", DIGEST_SHA384) || !at_end(at) || decode(value, bytes, sizeof bytes) != 48)
        return false;
    memcpy(digest, bytes, 48);
    return true;
}

static bool read_certificates(xmlNode *key_info, struct signature *s)
{
    xmlNode *at = key_info ? key_info->children : NULL, *data = take(&at, "X509Data"), *one;

    if (!data || !at_end(at))
        return false;
    at = data->children;
    while ((one = take(&at, "X509Certificate")) != NULL) {
        size_t len;
        if (s->cert_count == VERIFIER_CERTS_MAX)
            return false;
        len = decode(one, s->cert[s->cert_count], VERIFIER_CERT_MAX);
        if (len == 0)
            return false;
        s->der[s->cert_count] = span_of(s->cert[s->cert_count], len);
        s->cert_count++;
    }
    return at_end(at) && s->cert_count > 0;
}

/* Exactly one Signature, a child of the root, and exactly this form of it. */
static bool read_signature(xmlNode *root, struct signature *s)
{
    xmlNode *at, *info, *value, *keys, *reference;

    for (xmlNode *n = root->children; n; n = n->next) {
        if (!is_element(n, NS_DS, "Signature"))
            continue;
        if (s->element)
            return false;
        s->element = n;
    }
    if (!s->element)
        return false;
    at = s->element->children;
    info = take(&at, "SignedInfo");
    value = take(&at, "SignatureValue");
    keys = take(&at, "KeyInfo");
    if (!info || !at_end(at) || decode(value, s->value, sizeof s->value) != sizeof s->value)
        return false;
    s->info = info;
    at = info->children;
    if (!attribute_is(take(&at, "CanonicalizationMethod"), "Algorithm", C14N_11) ||
        !attribute_is(take(&at, "SignatureMethod"), "Algorithm", ECDSA_SHA384))
        return false;
    reference = take(&at, "Reference");
    return at_end(at) && read_reference(reference, s->digest) && read_certificates(keys, s);
}

/* The document's digest is the signed one, and the first certificate's key signed it. */
static bool signature_holds(xmlDoc *doc, const struct signature *s, struct verifier_chain *c)
{
    xmlOutputBuffer *all = NULL, *info = NULL;
    struct span whole = canonical(doc, (struct view){.without = s->element}, &all);
    struct span covered = canonical(doc, (struct view){.only = s->info}, &info);
    uint8_t digest[48];
    bool good = whole.len > 0 && covered.len > 0;

    if (good) {
        verifier_sha384(digest, whole);
        good = memcmp(digest, s->digest, sizeof digest) == 0 &&
               verifier_chain_ecdsa(c, 0, VERIFIER_P384, covered, span_of(s->value, sizeof s->value)) == VERIFIER_OK;
    }
    if (all)
        xmlOutputBufferClose(all);
    if (info)
        xmlOutputBufferClose(info);
    return good;
}

/* The same reasons as of any chain, in this file's names. */
static enum verifier_err rim_err(enum verifier_err err)
{
    switch (err) {
    case VERIFIER_OK:
    case VERIFIER_E_INTERNAL:
        return err;
    case VERIFIER_E_UNTRUSTED_ROOT:
        return VERIFIER_E_RIM_UNTRUSTED_ROOT;
    case VERIFIER_E_CHAIN_LENGTH:
        return VERIFIER_E_RIM_CHAIN_LENGTH;
    case VERIFIER_E_CHAIN_ISSUER:
        return VERIFIER_E_RIM_CHAIN_ISSUER;
    case VERIFIER_E_CHAIN_SIGNATURE:
    case VERIFIER_E_NOT_A_CA:
        return VERIFIER_E_RIM_CHAIN_SIGNATURE;
    case VERIFIER_E_CERT_EXPIRED:
    case VERIFIER_E_CERT_NOT_YET_VALID:
        return VERIFIER_E_RIM_CERT_EXPIRED;
    default:
        return VERIFIER_E_RIM_PARSE;
    }
}

/* Kept for verifier_rim_status(). */
static bool keep_certificates(struct verifier_rim *out, const struct signature *s)
{
    for (size_t i = 0; i < CERTS; i++) {
        if (s->der[i].len > VERIFIER_RIM_CERT_MAX)
            return false;
        out->cert_len[i] = (uint16_t)s->der[i].len;
        memcpy(out->cert[i], s->der[i].data, s->der[i].len);
    }
    return true;
}

static enum verifier_err open_certificates(struct verifier_chain *c, const struct verifier_rim *rim,
                                           struct span der[CERTS], struct verifier_note *why)
{
    for (size_t i = 0; i < CERTS; i++)
        der[i] = span_of(rim->cert[i], rim->cert_len[i]);
    return verifier_chain_open(c, der, CERTS, CERTS, why);
}

/* The certificates, now; the rest of a file holds at any time. */
static enum verifier_err prove_chain(struct verifier_rim *out, struct verifier_chain *c, uint64_t now,
                                     struct verifier_note *why)
{
    enum verifier_err err = verifier_chain_anchor(c, VERIFIER_ANCHOR_NVIDIA_RIM, why);

    if (err == VERIFIER_OK && c->count != CERTS)
        err = VERIFIER_E_CHAIN_LENGTH;
    if (err == VERIFIER_OK)
        err = verifier_chain_check(c, VERIFIER_FORM_ECDSA_SHA384, now, why);
    out->certificates = c->count;
    out->simulated = c->anchor.simulated;
    out->expires = c->expires;
    out->status_good = false;
    out->status_at = UINT64_MAX;
    return err;
}

static enum verifier_err prove(struct verifier_rim *out, xmlDoc *doc, const struct signature *s,
                               struct verifier_cache *cache, uint64_t now, struct verifier_note *why)
{
    struct verifier_chain c = {0};
    enum verifier_err err = verifier_chain_open(&c, s->der, s->cert_count, s->cert_count, why);

    verifier_chain_use(&c, cache);
    if (err == VERIFIER_OK && !signature_holds(doc, s, &c)) {
        verifier_chain_close(&c);
        return VERIFIER_E_RIM_SIGNATURE;
    }
    if (err == VERIFIER_OK)
        err = prove_chain(out, &c, now, why);
    if (err == VERIFIER_OK && !keep_certificates(out, s))
        err = VERIFIER_E_PARSE;
    verifier_chain_close(&c);
    return rim_err(err);
}

/* A file that was proven before: its signature and content are facts, its chain is looked at again. */
static enum verifier_err prove_known(struct verifier_rim *out, const struct verifier_rim *known,
                                     struct verifier_cache *cache, uint64_t now, struct verifier_note *why)
{
    struct verifier_chain c = {0};
    struct span der[CERTS];
    enum verifier_err err;

    *out = *known;
    err = open_certificates(&c, out, der, why);
    verifier_chain_use(&c, cache);
    if (err == VERIFIER_OK)
        err = prove_chain(out, &c, now, why);
    verifier_chain_close(&c);
    return rim_err(err);
}

static void remember(struct verifier_cache *cache, struct span xml, const struct verifier_rim *rim)
{
    struct verifier_rim *copy = malloc(sizeof *copy);

    if (!copy)
        return;
    *copy = *rim;
    verifier_cache_add(cache, VERIFIER_FACT_RIM, span_of(NULL, 0), xml, copy, sizeof *copy, free);
}

/* --- revocation ------------------------------------------------------------------------------------------------ */

enum verifier_err verifier_rim_status(struct verifier_rim *rim, const struct span *responses, size_t count,
                                      struct verifier_cache *cache, uint64_t now, struct verifier_note *why)
{
    struct verifier_chain c = {0};
    struct span der[CERTS];
    enum verifier_err err;
    size_t good = 0;

    rim->status_good = false;
    rim->status_at = UINT64_MAX;
    if (count == 0)
        return VERIFIER_OK;
    err = open_certificates(&c, rim, der, why);
    verifier_chain_use(&c, cache);
    for (size_t i = 0; err == VERIFIER_OK && i + 1 < CERTS; i++) {
        err = verifier_ocsp_check(&c, i, responses, count, now, why);
        good += err == VERIFIER_OK;
        if (verifier_ocsp_is_silence(err))
            err = VERIFIER_OK;
    }
    rim->status_good = err == VERIFIER_OK && good == CERTS - 1;
    rim->status_at = c.issued;
    if (c.expires < rim->expires)
        rim->expires = c.expires;
    verifier_chain_close(&c);
    return err == VERIFIER_E_CERT_REVOKED ? VERIFIER_E_RIM_CERT_REVOKED : err;
}

/* --- content --------------------------------------------------------------------------------------------------- */

static bool read_number(xmlNode *n, const char *name, unsigned long max, unsigned long *out)
{
    char *text = attribute(n, name, NULL), *end = NULL;
    bool good = text && text[0] >= '0' && text[0] <= '9';

    *out = good ? strtoul(text, &end, 10) : 0;
    good = good && *end == '\0' && *out <= max;
    xmlFree(text);
    return good;
}

static bool read_hash(xmlNode *n, unsigned long i, uint8_t out[VERIFIER_RIM_HASH_LEN])
{
    char name[32], *text;
    bool good;

    snprintf(name, sizeof name, "Hash%lu", i);
    text = attribute(n, name, NS_HASH);
    good = text && codec_unhex(span_str(text), out, VERIFIER_RIM_HASH_LEN);
    xmlFree(text);
    return good;
}

/* One Resource: active ones are kept, with all their alternatives. An index that is active twice is refused. */
static bool read_resource(struct verifier_rim *out, xmlNode *n)
{
    unsigned long index, size, alternatives;
    bool active = attribute_is(n, "active", "True");

    if (!attribute_is(n, "type", "Measurement"))
        return true;
    if (!active && !attribute_is(n, "active", "False"))
        return false;
    if (!read_number(n, "index", 254, &index) || !read_number(n, "size", VERIFIER_RIM_HASH_LEN, &size) ||
        !read_number(n, "alternatives", VERIFIER_RIM_HASHES_MAX, &alternatives))
        return false;
    if (!active)
        return true;
    if (size != VERIFIER_RIM_HASH_LEN || alternatives == 0 || out->count == VERIFIER_RIM_ENTRIES_MAX ||
        out->hash_count + alternatives > VERIFIER_RIM_HASHES_MAX)
        return false;
    for (size_t i = 0; i < out->count; i++)
        if (out->entry[i].index == index)
            return false;
    out->entry[out->count].index = (uint8_t)index;
    out->entry[out->count].first = (uint16_t)out->hash_count;
    out->entry[out->count].alternatives = (uint16_t)alternatives;
    out->count++;
    for (unsigned long i = 0; i < alternatives; i++)
        if (!read_hash(n, i, out->hash[out->hash_count++]))
            return false;
    return true;
}

static bool read_content(struct verifier_rim *out, xmlNode *root)
{
    xmlNode *meta = NULL, *payload = NULL;

    for (xmlNode *n = root->children; n; n = n->next) {
        if (is_element(n, NS_SWID, "Meta")) {
            if (meta)
                return false;
            meta = n;
        } else if (is_element(n, NS_SWID, "Payload")) {
            if (payload)
                return false;
            payload = n;
        }
    }
    if (!meta || !payload || !attribute_copy(meta, "colloquialVersion", out->version, sizeof out->version) ||
        !attribute_copy(meta, "product", out->product, sizeof out->product) ||
        !attribute_copy(root, "tagId", out->tag_id, sizeof out->tag_id))
        return false;
    for (xmlNode *n = payload->children; n; n = n->next)
        if (is_element(n, NS_SWID, "Resource") && !read_resource(out, n))
            return false;
    return out->count > 0;
}

/* --- all together --------------------------------------------------------------------------------------------------
 */

/* Real files have no DTD, comment, CDATA or processing instruction: refuse them before a parser meets them. */
static bool is_plain(struct span xml)
{
    for (size_t i = 0; i + 1 < xml.len; i++)
        if (xml.data[i] == '<' && (xml.data[i + 1] == '!' || (xml.data[i + 1] == '?' && i > 0)))
            return false;
    return true;
}

/* A file seen for the first time. */
static enum verifier_err read_new(struct verifier_rim *out, struct span xml, struct verifier_cache *cache, uint64_t now,
                                  struct verifier_note *why)
{
    struct signature *s = calloc(1, sizeof *s);
    enum verifier_err err = VERIFIER_E_RIM_PARSE;
    xmlDoc *doc = NULL;
    xmlNode *root;

    xmlInitParser();
    xmlResetLastError(); /* the thread's */
    if (s && xml.len > 0 && xml.len <= VERIFIER_RIM_BYTES_MAX && is_plain(xml))
        doc = xmlReadMemory((const char *)xml.data, (int)xml.len, NULL, NULL,
                            XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    root = doc ? xmlDocGetRootElement(doc) : NULL;
    if (is_element(root, NS_SWID, "SoftwareIdentity") && !doc->intSubset)
        err = read_signature(root, s) ? prove(out, doc, s, cache, now, why) : VERIFIER_E_RIM_SIGNATURE;
    if (err == VERIFIER_OK && !read_content(out, root))
        err = VERIFIER_E_RIM_PARSE;
    if (err != VERIFIER_OK && (!s || (xmlGetLastError() && xmlGetLastError()->code == XML_ERR_NO_MEMORY)))
        err = VERIFIER_E_INTERNAL;
    if (doc)
        xmlFreeDoc(doc);
    free(s);
    return err;
}

enum verifier_err verifier_rim_read(struct verifier_rim *out, struct span xml, struct verifier_cache *cache,
                                    uint64_t now, struct verifier_note *why)
{
    enum verifier_err err;
    void *known;

    memset(out, 0, sizeof *out);
    if (cache && verifier_cache_find(cache, VERIFIER_FACT_RIM, span_of(NULL, 0), xml, &known)) {
        err = prove_known(out, known, cache, now, why);
    } else {
        err = read_new(out, xml, cache, now, why);
        if (err == VERIFIER_OK && cache)
            remember(cache, xml, out);
    }
    if (err != VERIFIER_OK)
        memset(out, 0, sizeof *out);
    return err;
}
