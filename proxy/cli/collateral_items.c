/* collateral_items.c - one piece of collateral: is it of its kind, in which form does it go into the bundle, and from
 * when to when is it valid? */
#include <jansson.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "proxy/cli/collateral.h"
#include "verifier/base/codec.h"
#include "verifier/chain.h"

const char *const collateral_names[COLLATERAL_KINDS] = {"chain",       "crl",      "tcb_info", "tcb_chain",
                                                        "qe_identity", "qe_chain", "ocsp",     "rim"};

/* --- dates ------------------------------------------------------------------------------------------ */

static bool narrow(struct collateral_dates *d, const ASN1_TIME *from, const ASN1_TIME *until)
{
    uint64_t a, b;

    if (!verifier_chain_seconds(from, &a) || !verifier_chain_seconds(until, &b))
        return false;
    if (a > d->from)
        d->from = a;
    if (b < d->until)
        d->until = b;
    return true;
}

static bool narrow_cert(struct collateral_dates *d, struct span der)
{
    const unsigned char *p = der.data;
    X509 *x = der.len > 0 && der.len <= VERIFIER_CERT_MAX ? d2i_X509(NULL, &p, (long)der.len) : NULL;
    bool good = x && p == der.data + der.len && narrow(d, X509_get0_notBefore(x), X509_get0_notAfter(x));

    X509_free(x);
    return good;
}

static bool chain_dates(struct collateral_dates *d, struct span list)
{
    struct verifier_certs certs;

    if (verifier_certs_parse(&certs, list) != VERIFIER_OK)
        return false;
    for (size_t i = 0; i < certs.count; i++)
        if (!narrow_cert(d, certs.cert[i]))
            return false;
    return true;
}

static bool crl_dates(struct collateral_dates *d, struct span der)
{
    const unsigned char *p = der.data;
    X509_CRL *crl = d2i_X509_CRL(NULL, &p, (long)der.len);
    bool good =
        crl && p == der.data + der.len && narrow(d, X509_CRL_get0_lastUpdate(crl), X509_CRL_get0_nextUpdate(crl));

    X509_CRL_free(crl);
    return good;
}

static bool ocsp_dates(struct collateral_dates *d, struct span der)
{
    const unsigned char *p = der.data;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &p, (long)der.len);
    OCSP_BASICRESP *basic = response && p == der.data + der.len ? OCSP_response_get1_basic(response) : NULL;
    ASN1_GENERALIZEDTIME *revoked, *from = NULL, *until = NULL;
    bool good = basic && OCSP_resp_count(basic) == 1;

    if (good) {
        (void)OCSP_single_get0_status(OCSP_resp_get0(basic, 0), NULL, &revoked, &from, &until);
        good = narrow(d, from, until);
    }
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(response);
    return good;
}

/* {"tcbInfo": {"issueDate": ..., "nextUpdate": ...}, "signature": ...} and the like. */
static bool json_dates(struct collateral_dates *d, struct span text, const char *body)
{
    json_t *root = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *in = json_object_get(root, body);
    const char *from = json_string_value(json_object_get(in, "issueDate"));
    const char *until = json_string_value(json_object_get(in, "nextUpdate"));
    bool good = json_is_string(json_object_get(root, "signature")) && from && until &&
                policy_date_parse(span_str(from), &d->from) && policy_date_parse(span_str(until), &d->until);

    json_decref(root);
    return good;
}

/* Base64, white space inside allowed, appended to `out`. */
static bool unbase64(struct span text, struct writer *out)
{
    uint8_t *bytes = malloc(text.len + 1);
    size_t len = bytes ? codec_unbase64(text, bytes, text.len) : 0;

    writer_bytes(out, span_of(bytes, len));
    free(bytes);
    return len > 0 && writer_ok(out);
}

bool collateral_rim_chain(struct span xml, struct writer *out)
{
    static const char open[] = "X509Certificate>";
    const uint8_t *at = xml.data, *stop = xml.data + xml.len, *end;
    struct writer cert[VERIFIER_CERTS_MAX];
    struct verifier_certs certs = {0};
    bool good = true;

    for (size_t i = 0; i < VERIFIER_CERTS_MAX; i++)
        cert[i] = writer_with_max(VERIFIER_CERT_MAX);
    while (good && (at = memmem(at, (size_t)(stop - at), open, sizeof open - 1)) != NULL) {
        at += sizeof open - 1;
        end = memchr(at, '<', (size_t)(stop - at));
        good = end && certs.count < VERIFIER_CERTS_MAX && unbase64(span_of(at, (size_t)(end - at)), &cert[certs.count]);
        if (good)
            certs.cert[certs.count] = writer_span(&cert[certs.count]), certs.count++;
        /* past the closing name, which ends like the opening one */
        at = end ? memchr(end, '>', (size_t)(stop - end)) : NULL;
        good = good && at;
    }
    good = good && certs.count > 0;
    if (good)
        verifier_certs_encode(out, &certs);
    for (size_t i = 0; i < VERIFIER_CERTS_MAX; i++)
        writer_release(&cert[i]);
    return good && writer_ok(out);
}

static bool rim_dates(struct collateral_dates *d, struct span xml)
{
    struct writer chain = writer_with_max(VERIFIER_CHAIN_BYTES_MAX);
    bool good = collateral_rim_chain(xml, &chain) && chain_dates(d, writer_span(&chain));

    writer_release(&chain);
    return good;
}

bool collateral_dates(enum collateral_kind kind, struct span item, struct collateral_dates *out)
{
    bool good = false;

    *out = (struct collateral_dates){.until = UINT64_MAX};
    if (kind == COLLATERAL_CHAIN || kind == COLLATERAL_TCB_CHAIN || kind == COLLATERAL_QE_CHAIN)
        good = chain_dates(out, item);
    else if (kind == COLLATERAL_CRL)
        good = crl_dates(out, item);
    else if (kind == COLLATERAL_OCSP)
        good = ocsp_dates(out, item);
    else if (kind == COLLATERAL_RIM)
        good = rim_dates(out, item);
    else
        good = json_dates(out, item, kind == COLLATERAL_TCB_INFO ? "tcbInfo" : "enclaveIdentity");
    ERR_clear_error();
    return good;
}

/* --- forms ------------------------------------------------------------------------------------------ */

static bool is_pem(struct span s)
{
    return memmem(s.data, s.len, "-----BEGIN ", 11) != NULL;
}

/* The blocks named `label` of a PEM text, at most `max`; another block refuses all. Returns how many, -1: refused. */
static int unpem(struct span text, const char *label, struct writer *out, int max)
{
    BIO *bio = BIO_new_mem_buf(text.data, (int)text.len);
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long len;
    int count = 0;

    while (bio && count >= 0 && PEM_read_bio(bio, &name, &header, &der, &len) == 1) {
        if (count == max || strcmp(name, label) != 0 || header[0] != '\0')
            count = -1;
        else
            writer_bytes(&out[count++], span_of(der, (size_t)len));
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    ERR_clear_error(); /* the end of the text is an error to the reader */
    BIO_free(bio);
    return count;
}

/* One certificate in DER before certificates in PEM is how one vendor's two answers come out when joined. */
static bool list_of_certs(struct span in, struct writer *out)
{
    struct writer cert[VERIFIER_CERTS_MAX];
    struct verifier_certs certs = {0};
    const unsigned char *p = in.data;
    size_t first = 0;
    int count;
    X509 *leaf = in.len > 0 && in.data[0] == 0x30 ? d2i_X509(NULL, &p, (long)in.len) : NULL;

    for (size_t i = 0; i < VERIFIER_CERTS_MAX; i++)
        cert[i] = writer_with_max(VERIFIER_CERT_MAX);
    if (leaf) {
        writer_bytes(&cert[first++], span_of(in.data, (size_t)(p - in.data)));
        in = span_of(p, in.len - (size_t)(p - in.data));
    }
    X509_free(leaf);
    count = unpem(in, "CERTIFICATE", cert + first, VERIFIER_CERTS_MAX - (int)first);
    certs.count = count < 0 ? 0 : first + (size_t)count;
    for (size_t i = 0; i < certs.count; i++)
        certs.cert[i] = writer_span(&cert[i]);
    if (certs.count > 0)
        verifier_certs_encode(out, &certs);
    for (size_t i = 0; i < VERIFIER_CERTS_MAX; i++)
        writer_release(&cert[i]);
    return certs.count > 0 && writer_ok(out);
}

static bool xml_of_rim(struct span in, struct writer *out)
{
    json_t *root = in.len > 0 && in.data[0] == '{'
                       ? json_loadb((const char *)in.data, in.len, JSON_REJECT_DUPLICATES, NULL)
                       : NULL;
    const json_t *rim = json_object_get(root, "rim");
    bool good = true;

    if (root)
        good = json_is_string(rim) && unbase64(span_of(json_string_value(rim), json_string_length(rim)), out);
    else
        writer_bytes(out, in);
    json_decref(root);
    return good && writer_ok(out) && out->len > 0 && out->data[0] == '<';
}

const char *collateral_add(struct collateral *c, enum collateral_kind kind, struct span bytes)
{
    struct writer form = writer_with_max(COLLATERAL_ITEM_MAX);
    struct collateral_dates dates;
    bool good = true;

    if (c->count == COLLATERAL_ITEMS_MAX || bytes.len == 0 || bytes.len > COLLATERAL_ITEM_MAX)
        return bytes.len == 0 ? "is empty" : "is one too many, or longer than any of its kind";
    if (kind == COLLATERAL_CHAIN || kind == COLLATERAL_TCB_CHAIN || kind == COLLATERAL_QE_CHAIN)
        good = list_of_certs(bytes, &form);
    else if (kind == COLLATERAL_CRL && is_pem(bytes))
        good = unpem(bytes, "X509 CRL", &form, 1) == 1;
    else if (kind == COLLATERAL_RIM)
        good = xml_of_rim(bytes, &form);
    else
        writer_bytes(&form, bytes);
    if (!good || !writer_ok(&form) || !collateral_dates(kind, writer_span(&form), &dates)) {
        writer_release(&form);
        return "is not of that kind: it cannot be read as one";
    }
    c->item[c->count].kind = kind;
    c->item[c->count++].bytes = form; /* given away */
    return NULL;
}

void collateral_release(struct collateral *c)
{
    for (size_t i = 0; i < c->count; i++)
        writer_release(&c->item[i].bytes);
    c->count = 0;
}

/* --- the bundle ------------------------------------------------------------------------------------- */

static bool put(struct span *list, size_t *count, size_t max, struct span s)
{
    if (*count == max)
        return false;
    list[(*count)++] = s;
    return true;
}

static bool put_item(struct verifier_bundle *b, struct verifier_collateral *all, enum collateral_kind kind,
                     struct span s)
{
    struct verifier_certs certs;
    bool tcb = kind == COLLATERAL_TCB_INFO || kind == COLLATERAL_TCB_CHAIN;
    struct span *document = tcb ? &all->tcb_info : &all->qe_identity;
    size_t *count = tcb ? &all->tcb_chain_count : &all->qe_chain_count;

    switch (kind) {
    case COLLATERAL_CHAIN:
        return put(b->chain, &b->chain_count, VERIFIER_BUNDLE_CHAINS_MAX, s);
    case COLLATERAL_CRL:
        return put(all->crls, &all->crl_count, VERIFIER_CRLS_MAX, s);
    case COLLATERAL_OCSP:
        return put(all->ocsp, &all->ocsp_count, VERIFIER_OCSP_MAX, s);
    case COLLATERAL_RIM:
        return put(all->rims, &all->rim_count, VERIFIER_RIMS_MAX, s);
    case COLLATERAL_TCB_INFO:
    case COLLATERAL_QE_IDENTITY:
        if (document->len > 0)
            return false;
        *document = s;
        return true;
    default:
        if (*count > 0 || verifier_certs_parse(&certs, s) != VERIFIER_OK)
            return false;
        memcpy(tcb ? all->tcb_chain : all->qe_chain, certs.cert, sizeof certs.cert);
        *count = certs.count;
        return true;
    }
}

bool collateral_write(const struct collateral *c, const char *path)
{
    struct writer inner = writer_with_max(VERIFIER_PART_MAX), out = writer_with_max(VERIFIER_BUNDLE_MAX);
    struct verifier_bundle bundle = {.until = VERIFIER_TIME_MAX};
    struct verifier_collateral *all = calloc(1, sizeof *all);
    struct collateral_dates dates;
    bool good = all != NULL;

    for (size_t i = 0; good && i < c->count; i++) {
        struct span s = writer_span(&c->item[i].bytes);
        good = put_item(&bundle, all, c->item[i].kind, s) && collateral_dates(c->item[i].kind, s, &dates);
        if (!good) {
            cli_fail("there are more pieces of kind %s than a bundle has room for", collateral_names[c->item[i].kind]);
            break;
        }
        if (dates.from > bundle.from)
            bundle.from = dates.from;
        if (dates.until < bundle.until)
            bundle.until = dates.until;
    }
    if (good) {
        verifier_collateral_encode(&inner, all);
        bundle.collateral = writer_span(&inner);
        verifier_bundle_encode(&out, &bundle);
        good = writer_ok(&inner) && writer_ok(&out);
        if (good)
            good = cli_write(path, writer_span(&out), 0644, false);
        else
            cli_fail("the pieces together are longer than a bundle may be (256 KiB)");
    }
    writer_release(&inner);
    writer_release(&out);
    free(all);
    return good;
}
