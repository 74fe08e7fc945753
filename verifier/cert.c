#include "verifier/cert.h"

#include "verifier/base/utf8.h"
#include "verifier/der.h"

enum {
    TAG_BITS = 0x03,
    TAG_NULL = 0x05,
    TAG_UTF8 = 0x0c,
    TAG_PRINTABLE = 0x13,
    TAG_T61 = 0x14,
    TAG_UTC_TIME = 0x17,
    TAG_GENERALIZED_TIME = 0x18,
    TAG_SET = 0x31,
    TAG_CONTEXT_0 = 0xa0, /* [0] EXPLICIT; [1] and so on follow */
};

#define RSA_MIN 256 /* bytes of a modulus */
#define RSA_MAX 512

/* Content octets of OIDs. */
#define OID(name, ...) static const uint8_t name[] = {__VA_ARGS__}
OID(oid_ec_key, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01);
OID(oid_p256, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07);
OID(oid_p384, 0x2b, 0x81, 0x04, 0x00, 0x22);
OID(oid_ecdsa_sha256, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02);
OID(oid_ecdsa_sha384, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03);
OID(oid_rsa, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01);
OID(oid_mgf1, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08);
OID(oid_pss, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a);
OID(oid_rsa_sha256, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b);
OID(oid_sha384, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02);
OID(oid_key_usage, 0x55, 0x1d, 0x0f);
OID(oid_basic_constraints, 0x55, 0x1d, 0x13);
OID(oid_ext_key_usage, 0x55, 0x1d, 0x25);
#define IS(span, oid) span_equal(span, span_of(oid, sizeof oid))

/* --- elements ----------------------------------------------------------------------------------- */

static uint8_t next_tag(const struct der *d)
{
    return d->bad || d->rest.len == 0 ? 0 : d->rest.data[0];
}

/* The next element with its tag and length; its content by `*content`. */
static struct span take_whole(struct der *d, uint8_t tag, struct span *content)
{
    const uint8_t *from = d->rest.data;

    *content = der_take(d, tag);
    return d->bad ? span_of(NULL, 0) : span_of(from, (size_t)(d->rest.data - from));
}

static struct span take_element(struct der *d, uint8_t tag)
{
    struct span content;

    return take_whole(d, tag, &content);
}

/* A BIT STRING of whole bytes. */
static struct span take_bits(struct der *d)
{
    struct span s = der_take(d, TAG_BITS);

    if (s.len < 1 || s.data[0] != 0) {
        d->bad = true;
        return span_of(NULL, 0);
    }
    return span_of(s.data + 1, s.len - 1);
}

/* A BOOLEAN when one stands there, else false. An explicit FALSE is not DER, yet devices write it. */
static bool take_flag(struct der *d)
{
    struct span s;

    if (next_tag(d) != DER_BOOLEAN)
        return false;
    s = der_take(d, DER_BOOLEAN);
    if (s.len != 1 || (s.data[0] != 0 && s.data[0] != 0xff))
        d->bad = true;
    return !d->bad && s.data[0] == 0xff;
}

/* A number of any length, shortest form. */
static struct span take_number(struct der *d)
{
    struct span s = der_take(d, DER_INTEGER);

    if (s.len == 0 || (s.len > 1 && ((s.data[0] == 0 && s.data[1] < 0x80) || (s.data[0] == 0xff && s.data[1] >= 0x80))))
        d->bad = true;
    return s;
}

/* --- time --------------------------------------------------------------------------------------- */

static bool is_leap(unsigned year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

bool verifier_cert_seconds(struct span text, uint64_t *out)
{
    static const uint16_t before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365}; /* days */
    unsigned two[7], year, month, day, last;
    size_t pairs = text.len / 2;

    if ((text.len != 13 && text.len != 15) || text.data[text.len - 1] != 'Z')
        return false;
    for (size_t i = 0; i < pairs; i++) {
        uint8_t high = text.data[2 * i], low = text.data[2 * i + 1];

        if (high < '0' || high > '9' || low < '0' || low > '9')
            return false;
        two[i] = (unsigned)(high - '0') * 10 + (unsigned)(low - '0');
    }
    const unsigned *rest = two + pairs - 5; /* month, day, hour, minute, second */
    year = pairs == 6 ? two[0] + (two[0] < 50 ? 2000u : 1900u) : two[0] * 100 + two[1];
    month = rest[0], day = rest[1];
    if (year < 1970 || month < 1 || month > 12 || rest[2] > 23 || rest[3] > 59 || rest[4] > 59)
        return false;
    last = before[month] - before[month - 1] + (month == 2 && is_leap(year) ? 1u : 0u);
    if (day < 1 || day > last)
        return false;
    uint64_t leaps = (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400 - 477; /* since 1970 */
    uint64_t days =
        (uint64_t)(year - 1970) * 365 + leaps + before[month - 1] + (month > 2 && is_leap(year) ? 1u : 0u) + day - 1;
    *out = ((days * 24 + rest[2]) * 60 + rest[3]) * 60 + rest[4];
    return true;
}

static uint64_t take_time(struct der *d)
{
    bool short_year = next_tag(d) == TAG_UTC_TIME;
    struct span text = der_take(d, short_year ? TAG_UTC_TIME : TAG_GENERALIZED_TIME);
    uint64_t out = 0;

    if (d->bad || (text.len == 13) != short_year || !verifier_cert_seconds(text, &out))
        d->bad = true;
    return out;
}

/* --- keys ---------------------------------------------------------------------------------------- */

static bool take_point(struct verifier_public *out, enum verifier_key_kind kind, size_t half, struct span bits)
{
    if (bits.len != 1 + 2 * half || bits.data[0] != 0x04)
        return false;
    out->kind = kind;
    out->point = span_of(bits.data + 1, 2 * half);
    return true;
}

/* A number above zero, without the octet that keeps it positive; empty otherwise. */
static struct span take_positive(struct der *d)
{
    struct span s = take_number(d);

    if (d->bad || s.data[0] >= 0x80)
        return span_of(NULL, 0);
    return s.data[0] == 0 ? span_of(s.data + 1, s.len - 1) : s;
}

static bool take_rsa(struct verifier_public *out, struct span bits)
{
    struct der outer = der_over(bits), d = der_over(der_take(&outer, DER_SEQUENCE));

    out->modulus = take_positive(&d);
    out->exponent = take_positive(&d);
    if (!der_end(&d) || !der_end(&outer) || out->modulus.len < RSA_MIN || out->modulus.len > RSA_MAX ||
        out->exponent.len < 1 || out->exponent.len > 4 || (out->exponent.len == 1 && out->exponent.data[0] < 3))
        return false;
    out->kind = VERIFIER_KEY_RSA;
    return true;
}

/* A key of a kind that is not known here stays VERIFIER_KEY_OTHER: nothing can be proven by it. */
static bool take_key(struct verifier_public *out, struct span spki)
{
    struct der d = der_over(spki), alg = der_over(der_take(&d, DER_SEQUENCE));
    struct span oid = der_take(&alg, DER_OID), bits = take_bits(&d), curve;

    if (alg.bad || !der_end(&d))
        return false;
    if (IS(oid, oid_rsa))
        return take_rsa(out, bits);
    if (!IS(oid, oid_ec_key) || next_tag(&alg) != DER_OID)
        return true;
    curve = der_take(&alg, DER_OID);
    if (IS(curve, oid_p256))
        return take_point(out, VERIFIER_KEY_P256, 32, bits);
    return !IS(curve, oid_p384) || take_point(out, VERIFIER_KEY_P384, 48, bits);
}

/* --- extensions ---------------------------------------------------------------------------------- */

struct extension {
    struct span oid, value;
    bool critical;
};

static struct extension take_extension(struct der *list)
{
    struct der d = der_over(der_take(list, DER_SEQUENCE));
    struct extension e;

    e.oid = der_take(&d, DER_OID);
    e.critical = take_flag(&d);
    e.value = der_take(&d, DER_OCTETS);
    if (!der_end(&d))
        list->bad = true;
    return e;
}

/* BasicConstraints ::= SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER OPTIONAL } */
static bool read_basic_constraints(struct verifier_cert *c, struct span value)
{
    struct der outer = der_over(value), d = der_over(der_take(&outer, DER_SEQUENCE));

    c->is_ca = take_flag(&d);
    c->has_path_len = next_tag(&d) == DER_INTEGER;
    if (c->has_path_len)
        c->path_len = der_uint(&d, DER_INTEGER);
    return der_end(&d) && der_end(&outer) && (c->is_ca || !c->has_path_len);
}

/* KeyUsage ::= BIT STRING; bit 0 is digitalSignature, bit 5 keyCertSign. */
static bool read_key_usage(struct verifier_cert *c, struct span value)
{
    struct der d = der_over(value);
    struct span bits = der_take(&d, TAG_BITS);

    if (!der_end(&d) || bits.len < 2 || bits.len > 3 || bits.data[0] > 7)
        return false;
    c->signs_data = bits.data[1] >> 7;
    c->signs_certs = bits.data[1] >> 2 & 1;
    return !span_is_zero(span_of(bits.data + 1, bits.len - 1));
}

static bool read_extensions(struct verifier_cert *c)
{
    struct der list = der_over(c->extensions);
    bool constraints = false, usage = false;

    c->signs_certs = true;
    while (!list.bad && list.rest.len > 0) {
        struct extension e = take_extension(&list);

        if (list.bad)
            return false;
        if (IS(e.oid, oid_basic_constraints)) {
            if (constraints || !read_basic_constraints(c, e.value))
                return false;
            constraints = true;
        } else if (IS(e.oid, oid_key_usage)) {
            if (usage || !read_key_usage(c, e.value))
                return false;
            usage = true;
        } else if (e.critical && !IS(e.oid, oid_ext_key_usage)) {
            return false;
        }
    }
    return !list.bad;
}

/* Dotted text to content octets; 0 when it does not fit. The first two numbers share an octet. */
static size_t oid_octets(const char *text, uint8_t out[32])
{
    size_t len = 0, index = 0;
    uint32_t first = 0;

    for (const char *p = text; *p; p += *p == '.', index++) {
        uint32_t v = 0;
        size_t octets = 1;

        while (*p >= '0' && *p <= '9')
            v = v * 10 + (uint32_t)(*p++ - '0');
        if (index == 0) {
            first = v;
            continue;
        }
        if (index == 1)
            v += first * 40;
        for (uint32_t rest = v >> 7; rest; rest >>= 7)
            octets++;
        if (len + octets > 32)
            return 0;
        for (size_t i = 0; i < octets; i++)
            out[len + i] = (uint8_t)((v >> 7 * (octets - 1 - i) & 0x7f) | (i + 1 < octets ? 0x80u : 0));
        len += octets;
    }
    return len;
}

bool verifier_cert_extension(const struct verifier_cert *c, const char *oid, struct span *out)
{
    struct der list = der_over(c->extensions);
    uint8_t octets[32];
    struct span wanted = span_of(octets, oid_octets(oid, octets));
    size_t found = 0;

    while (!list.bad && list.rest.len > 0) {
        struct extension e = take_extension(&list);

        if (!list.bad && span_equal(e.oid, wanted)) {
            *out = e.value;
            found++;
        }
    }
    return found == 1 && wanted.len > 0;
}

/* --- names ---------------------------------------------------------------------------------------- */

/* Name ::= SEQUENCE OF SET OF SEQUENCE { OID, text }. How many attributes 2.5.4.kind there are; the last one's value.
 * False: not a name. */
static bool find_attribute(struct span name, uint8_t kind, size_t *found, uint8_t *tag, struct span *value)
{
    struct der outer = der_over(name), sets = der_over(der_take(&outer, DER_SEQUENCE));
    const uint8_t oid[] = {0x55, 0x04, kind};

    *found = 0;
    while (!sets.bad && sets.rest.len > 0) {
        struct der set = der_over(der_take(&sets, TAG_SET));

        while (!set.bad && set.rest.len > 0) {
            struct der d = der_over(der_take(&set, DER_SEQUENCE));
            struct span type = der_take(&d, DER_OID), text;
            uint8_t text_tag = der_any(&d, &text);

            if (!der_end(&d) || set.bad || text_tag == 0)
                return false;
            if (IS(type, oid)) {
                *tag = text_tag;
                *value = text;
                ++*found;
            }
        }
        if (set.bad)
            return false;
    }
    return der_end(&sets) && der_end(&outer);
}

static bool is_name(struct span element)
{
    struct span value;
    size_t found;
    uint8_t tag;

    return find_attribute(element, 0, &found, &tag, &value);
}

bool verifier_cert_subject(const struct verifier_cert *c, uint8_t kind, char *out, size_t cap)
{
    struct span text = {0};
    size_t found = 0;
    uint8_t tag = 0;

    if (!find_attribute(c->subject, kind, &found, &tag, &text) || found != 1 || text.len == 0 || text.len >= cap)
        return false;
    if (tag != TAG_UTF8 && tag != TAG_PRINTABLE && tag != DER_IA5 && tag != TAG_T61)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] >= 0x80 && tag != TAG_UTF8)
            return false;
    if (!utf8_is_printable(text))
        return false;
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
    return true;
}

/* --- certificates -------------------------------------------------------------------------------- */

/* { signed part, algorithm, signature }: what certificates and lists have in common. */
static bool open_shell(struct span der, struct span *signed_part, struct span *content, struct span *algorithm,
                       struct span *signature)
{
    struct der outer = der_over(der), d = der_over(der_take(&outer, DER_SEQUENCE));

    *signed_part = take_whole(&d, DER_SEQUENCE, content);
    *algorithm = take_element(&d, DER_SEQUENCE);
    *signature = take_bits(&d);
    return der_end(&d) && der_end(&outer);
}

static bool take_version(struct der *d, uint32_t *version)
{
    struct der v;

    *version = 0;
    if (next_tag(d) != TAG_CONTEXT_0)
        return true;
    v = der_over(der_take(d, TAG_CONTEXT_0));
    *version = der_uint(&v, DER_INTEGER);
    return der_end(&v) && (*version == 1 || *version == 2);
}

bool verifier_cert_parse(struct verifier_cert *out, struct span der)
{
    struct span content, spki, algorithm;
    struct der d, validity, list;
    uint32_t version;

    *out = (struct verifier_cert){.whole = der};
    if (!open_shell(der, &out->signed_part, &content, &out->algorithm, &out->signature))
        return false;
    d = der_over(content);
    if (!take_version(&d, &version))
        return false;
    out->serial = take_number(&d);
    algorithm = take_element(&d, DER_SEQUENCE);
    out->issuer = take_element(&d, DER_SEQUENCE);
    validity = der_over(der_take(&d, DER_SEQUENCE));
    out->from = take_time(&validity);
    out->to = take_time(&validity);
    out->subject = take_element(&d, DER_SEQUENCE);
    out->spki = take_whole(&d, DER_SEQUENCE, &spki);
    if (d.bad || !der_end(&validity) || !span_equal(algorithm, out->algorithm) || !is_name(out->issuer) ||
        !is_name(out->subject) || !take_key(&out->key, spki))
        return false;
    if (next_tag(&d) == TAG_CONTEXT_0 + 3 && version == 2) {
        list = der_over(der_take(&d, TAG_CONTEXT_0 + 3));
        out->extensions = der_take(&list, DER_SEQUENCE);
        if (!der_end(&list))
            return false;
    }
    return der_end(&d) && read_extensions(out);
}

/* --- revocation lists ----------------------------------------------------------------------------- */

/* One revoked certificate: its number, when, and perhaps why. */
static struct span take_revoked(struct der *list)
{
    struct der d = der_over(der_take(list, DER_SEQUENCE));
    struct span serial = take_number(&d);

    (void)take_time(&d);
    if (next_tag(&d) == DER_SEQUENCE)
        (void)der_take(&d, DER_SEQUENCE);
    if (!der_end(&d))
        list->bad = true;
    return serial;
}

static bool has_critical(struct span extensions)
{
    struct der list = der_over(extensions);

    while (!list.bad && list.rest.len > 0)
        if (take_extension(&list).critical)
            return true;
    return list.bad;
}

bool verifier_crl_parse(struct verifier_crl *out, struct span der)
{
    struct span content, algorithm, extensions = {0};
    struct der d, list;

    *out = (struct verifier_crl){.whole = der};
    if (!open_shell(der, &out->signed_part, &content, &out->algorithm, &out->signature))
        return false;
    d = der_over(content);
    if (next_tag(&d) == DER_INTEGER && der_uint(&d, DER_INTEGER) != 1)
        return false;
    algorithm = take_element(&d, DER_SEQUENCE);
    out->issuer = take_element(&d, DER_SEQUENCE);
    out->from = take_time(&d);
    out->to = take_time(&d);
    if (next_tag(&d) == DER_SEQUENCE)
        out->entries = der_take(&d, DER_SEQUENCE);
    if (next_tag(&d) == TAG_CONTEXT_0) {
        list = der_over(der_take(&d, TAG_CONTEXT_0));
        extensions = der_take(&list, DER_SEQUENCE);
        if (!der_end(&list))
            return false;
    }
    if (!der_end(&d) || !span_equal(algorithm, out->algorithm) || !is_name(out->issuer) || has_critical(extensions))
        return false;
    list = der_over(out->entries);
    while (!list.bad && list.rest.len > 0)
        (void)take_revoked(&list);
    return !list.bad;
}

bool verifier_crl_names(const struct verifier_crl *crl, struct span serial)
{
    struct der list = der_over(crl->entries);

    while (!list.bad && list.rest.len > 0)
        if (span_equal(take_revoked(&list), serial))
            return true;
    return list.bad;
}

/* --- how it is signed ------------------------------------------------------------------------------ */

/* AlgorithmIdentifier of a hash, its parameters absent or NULL (RFC 4055 § 2.1 allows both). */
static bool is_hash_sha384(struct der *d)
{
    struct der alg = der_over(der_take(d, DER_SEQUENCE));
    struct span oid = der_take(&alg, DER_OID);

    if (next_tag(&alg) == TAG_NULL)
        (void)der_take(&alg, TAG_NULL);
    return der_end(&alg) && IS(oid, oid_sha384);
}

/* RSASSA-PSS-params: [0] hash, [1] mask generation with its hash, [2] salt, [3] trailer (1, the default). */
static bool is_pss_sha384(struct der *alg)
{
    struct der p = der_over(der_take(alg, DER_SEQUENCE)), hash = der_over(der_take(&p, TAG_CONTEXT_0)),
               mask = der_over(der_take(&p, TAG_CONTEXT_0 + 1)), mgf = der_over(der_take(&mask, DER_SEQUENCE)),
               salt = der_over(der_take(&p, TAG_CONTEXT_0 + 2)), trailer;

    if (!is_hash_sha384(&hash) || !der_end(&hash) || !IS(der_take(&mgf, DER_OID), oid_mgf1) || !is_hash_sha384(&mgf) ||
        !der_end(&mgf) || !der_end(&mask) || der_uint(&salt, DER_INTEGER) != 48 || !der_end(&salt))
        return false;
    if (next_tag(&p) == TAG_CONTEXT_0 + 3) {
        trailer = der_over(der_take(&p, TAG_CONTEXT_0 + 3));
        if (der_uint(&trailer, DER_INTEGER) != 1 || !der_end(&trailer))
            return false;
    }
    return der_end(&p) && der_end(alg);
}

bool verifier_cert_is_form(struct span algorithm, enum verifier_chain_form form)
{
    struct der outer = der_over(algorithm), alg = der_over(der_take(&outer, DER_SEQUENCE));
    struct span oid = der_take(&alg, DER_OID);

    if (!der_end(&outer))
        return false;
    switch (form) {
    case VERIFIER_FORM_RSA_PSS_SHA384:
        return IS(oid, oid_pss) && is_pss_sha384(&alg);
    case VERIFIER_FORM_ECDSA_SHA256:
        return IS(oid, oid_ecdsa_sha256) && der_end(&alg);
    case VERIFIER_FORM_ECDSA_SHA384:
        return IS(oid, oid_ecdsa_sha384) && der_end(&alg);
    case VERIFIER_FORM_RSA_SHA256:
        return IS(oid, oid_rsa_sha256) && der_take(&alg, TAG_NULL).len == 0 && der_end(&alg);
    default:
        return false;
    }
}
