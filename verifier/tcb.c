#include "verifier/tcb.h"

#include <jansson.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#include "verifier/base/codec.h"

/* --- names ---------------------------------------------------------------------------------------- */

static const char *const status_names[VERIFIER_TCB_STATUSES] = {"",
                                                                "UpToDate",
                                                                "SWHardeningNeeded",
                                                                "ConfigurationNeeded",
                                                                "ConfigurationAndSWHardeningNeeded",
                                                                "OutOfDate",
                                                                "OutOfDateConfigurationNeeded",
                                                                "TDRelaunchAdvised",
                                                                "TDRelaunchAdvisedConfigurationNeeded",
                                                                "Revoked"};

const char *verifier_tcb_status_name(enum verifier_tcb_status status)
{
    return status < VERIFIER_TCB_STATUSES ? status_names[status] : "";
}

enum verifier_tcb_status verifier_tcb_status_of(const char *name)
{
    for (int i = 1; i < VERIFIER_TCB_STATUSES; i++)
        if (strcmp(status_names[i], name) == 0)
            return (enum verifier_tcb_status)i;
    return VERIFIER_TCB_NONE;
}

/* --- the exact bytes of a member --------------------------------------------------------------------- */

/* A scanner that finds where values end and understands nothing else; a fault makes `at` stay at the end. */
struct scan {
    const uint8_t *at, *end;
    bool bad;
};

enum { DEPTH_MAX = 32 };

static void scan_fail(struct scan *s)
{
    s->bad = true;
    s->at = s->end;
}

static uint8_t scan_peek(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
        s->at++;
    return s->at < s->end ? *s->at : 0;
}

static void scan_take(struct scan *s, uint8_t want)
{
    if (scan_peek(s) != want || s->at == s->end)
        scan_fail(s);
    else
        s->at++;
}

/* A string; its characters between the quotes, escapes unread. */
static struct span scan_string(struct scan *s)
{
    const uint8_t *from;

    scan_take(s, '"');
    from = s->at;
    while (s->at < s->end && *s->at != '"')
        s->at += *s->at == '\\' && s->end - s->at > 1 ? 2 : 1;
    if (s->at >= s->end) {
        scan_fail(s);
        return span_of(NULL, 0);
    }
    s->at++;
    return span_of(from, (size_t)(s->at - 1 - from));
}

/* Any value; objects and lists by counting brackets outside strings. */
static struct span scan_value(struct scan *s)
{
    const uint8_t *from;
    int depth = 0;

    (void)scan_peek(s);
    from = s->at;
    do {
        uint8_t c = scan_peek(s);
        if (c == '"')
            (void)scan_string(s);
        else if (c == 0)
            scan_fail(s);
        else {
            depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
            s->at++;
        }
        if (depth < 0 || depth > DEPTH_MAX)
            scan_fail(s);
    } while (depth > 0 && !s->bad);
    return s->bad ? span_of(NULL, 0) : span_of(from, (size_t)(s->at - from));
}

enum verifier_err verifier_tcb_split(struct span body, const char *name, struct span *value, uint8_t signature[64])
{
    struct scan s = {.at = body.data, .end = body.data + body.len};
    bool has_value = false, has_signature = false;

    if (body.len == 0)
        return VERIFIER_E_PARSE;
    scan_take(&s, '{');
    for (int i = 0; i < 2 && !s.bad; i++) {
        struct span key = scan_string(&s);

        scan_take(&s, ':');
        if (span_is(key, name) && !has_value && scan_peek(&s) == '{') {
            *value = scan_value(&s);
            has_value = true;
        } else if (span_is(key, "signature") && !has_signature) {
            struct span hex = scan_string(&s);
            has_signature = codec_unhex(hex, signature, 64);
        } else {
            return VERIFIER_E_PARSE;
        }
        if (i == 0)
            scan_take(&s, ',');
    }
    scan_take(&s, '}');
    return !s.bad && scan_peek(&s) == 0 && s.at == s.end && has_value && has_signature ? VERIFIER_OK : VERIFIER_E_PARSE;
}

/* --- reading the proven value -------------------------------------------------------------------------- */

/* A sticky reader: after one wrong or missing member everything is zero, and `bad` is asked once. */
struct document {
    json_t *root;
    bool bad;
};

static uint32_t get_uint(struct document *d, json_t *o, const char *key, uint32_t max)
{
    json_t *v = json_object_get(o, key);

    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > (json_int_t)max) {
        d->bad = true;
        return 0;
    }
    return (uint32_t)json_integer_value(v);
}

static const char *get_text(struct document *d, json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);

    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v)) {
        d->bad = true;
        return "";
    }
    return json_string_value(v);
}

static void get_hex(struct document *d, json_t *o, const char *key, uint8_t *out, size_t len)
{
    const char *text = get_text(d, o, key);

    if (!codec_unhex(span_str(text), out, len)) {
        memset(out, 0, len);
        d->bad = true;
    }
}

static uint64_t get_time(struct document *d, json_t *o, const char *key)
{
    struct tm tm = {0};
    const char *text = get_text(d, o, key), *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    time_t t = end && *end == '\0' ? timegm(&tm) : -1;

    if (t < 0)
        d->bad = true;
    return t < 0 ? 0 : (uint64_t)t;
}

static json_t *get_list(struct document *d, json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);

    if (!json_is_array(v))
        d->bad = true;
    return v;
}

/* issueDate and nextUpdate both hold the time; the earlier end counts. */
static enum verifier_err check_dates(struct document *d, uint64_t now, struct verifier_tcb_result *out)
{
    uint64_t from = get_time(d, d->root, "issueDate"), to = get_time(d, d->root, "nextUpdate");

    if (d->bad)
        return VERIFIER_E_PARSE;
    if (to < out->expires)
        out->expires = to;
    if (from < out->issued)
        out->issued = from;
    return now >= from && now <= to ? VERIFIER_OK : VERIFIER_E_COLLATERAL_EXPIRED;
}

/* A parsed value takes about this many times the memory of its text. */
#define PARSED_GROWTH 12

static enum verifier_err load(struct document *d, struct span value, struct verifier_cache *cache)
{
    json_error_t error = {0};
    void *known;

    *d = (struct document){0};
    if (cache && verifier_cache_find(cache, VERIFIER_FACT_DOCUMENT, span_of(NULL, 0), value, &known))
        d->root = json_incref(known);
    else
        d->root = json_loadb((const char *)value.data, value.len, JSON_REJECT_DUPLICATES, &error);
    if (!d->root && (error.text[0] == '\0' || json_error_code(&error) == json_error_out_of_memory))
        return VERIFIER_E_INTERNAL; /* no fault was found in it */
    return json_is_object(d->root) ? VERIFIER_OK : VERIFIER_E_PARSE;
}

static void forget(void *root)
{
    json_decref(root);
}

static void keep(struct document *d, struct span value, struct verifier_cache *cache)
{
    verifier_cache_add(cache, VERIFIER_FACT_DOCUMENT, span_of(NULL, 0), value, json_incref(d->root),
                       value.len * PARSED_GROWTH, forget);
}

/* --- levels ----------------------------------------------------------------------------------------------- */

/* One level of any of the three lists, as far as it counts for the verdict. */
struct level {
    enum verifier_tcb_status status;
    uint64_t date;
    json_t *advisories; /* borrowed; NULL: none */
};

static struct level get_level(struct document *d, json_t *o)
{
    struct level l = {.status = verifier_tcb_status_of(get_text(d, o, "tcbStatus")),
                      .date = get_time(d, o, "tcbDate"),
                      .advisories = json_object_get(o, "advisoryIDs")};

    /* what only an evaluation can conclude must not stand in a document */
    if (l.status == VERIFIER_TCB_NONE || l.status == VERIFIER_TCB_RELAUNCH ||
        l.status == VERIFIER_TCB_RELAUNCH_CONFIGURATION || (l.advisories && !json_is_array(l.advisories)))
        d->bad = true;
    return l;
}

/* The first level whose isvsvn is not above ours. */
static enum verifier_err find_svn(struct document *d, json_t *levels, uint32_t svn, struct level *out)
{
    uint32_t above = UINT32_MAX;
    json_t *one;
    size_t i;

    json_array_foreach(levels, i, one)
    {
        uint32_t want = get_uint(d, json_object_get(one, "tcb"), "isvsvn", 0xffff);

        if (d->bad || want > above) /* levels stand from high to low */
            return VERIFIER_E_PARSE;
        above = want;
        if (svn >= want) {
            *out = get_level(d, one);
            return d->bad ? VERIFIER_E_PARSE : VERIFIER_OK;
        }
    }
    return VERIFIER_E_TCB_NOT_SUPPORTED;
}

struct platform_level {
    uint8_t sgx[16], tdx[16];
    uint32_t pcesvn;
};

static void get_components(struct document *d, json_t *tcb, const char *key, uint8_t out[16])
{
    json_t *list = get_list(d, tcb, key), *one;
    size_t i;

    if (json_array_size(list) != 16) /* a shorter list must not match by being short */
        d->bad = true;
    json_array_foreach(list, i, one)
    {
        if (i < 16)
            out[i] = (uint8_t)get_uint(d, one, "svn", 255);
    }
}

static struct platform_level get_platform_level(struct document *d, json_t *level, bool old, bool tdx)
{
    struct platform_level l = {0};
    json_t *tcb = json_object_get(level, "tcb");

    l.pcesvn = get_uint(d, tcb, "pcesvn", 0xffff);
    if (old) { /* TCB info version 2 names each component */
        for (unsigned i = 0; i < 16; i++) {
            char key[24];
            snprintf(key, sizeof key, "sgxtcbcomp%02usvn", i + 1);
            l.sgx[i] = (uint8_t)get_uint(d, tcb, key, 255);
        }
    } else {
        get_components(d, tcb, "sgxtcbcomponents", l.sgx);
    }
    if (tdx)
        get_components(d, tcb, "tdxtcbcomponents", l.tdx);
    return l;
}

/* Does `have` reach `want`? TDX: with a module version above 0, the first two components belong to another module line.
 */
static bool reaches(const struct platform_level *have, const struct platform_level *want, bool tdx)
{
    for (unsigned i = 0; i < 16; i++)
        if (have->sgx[i] < want->sgx[i])
            return false;
    for (unsigned i = have->tdx[1] > 0 ? 2 : 0; tdx && i < 16; i++)
        if (have->tdx[i] < want->tdx[i])
            return false;
    return have->pcesvn >= want->pcesvn;
}

/* Every component of `b` is at least that of `a`, and one is more. */
static bool is_above(const struct platform_level *b, const struct platform_level *a)
{
    bool more = b->pcesvn > a->pcesvn;

    if (b->pcesvn < a->pcesvn)
        return false;
    for (unsigned i = 0; i < 16; i++) {
        if (b->sgx[i] < a->sgx[i] || b->tdx[i] < a->tdx[i])
            return false;
        more = more || b->sgx[i] > a->sgx[i] || b->tdx[i] > a->tdx[i];
    }
    return more;
}

static enum verifier_err find_platform(struct document *d, const struct platform_level *have, bool tdx,
                                       struct level *out)
{
    bool old = json_integer_value(json_object_get(d->root, "version")) == 2;
    struct platform_level above;
    json_t *one;
    size_t i;

    json_array_foreach(get_list(d, d->root, "tcbLevels"), i, one)
    {
        struct platform_level want = get_platform_level(d, one, old, tdx);

        if (d->bad || (i > 0 && is_above(&want, &above))) /* levels stand from high to low */
            return VERIFIER_E_PARSE;
        above = want;
        if (reaches(have, &want, tdx)) {
            *out = get_level(d, one);
            return d->bad ? VERIFIER_E_PARSE : VERIFIER_OK;
        }
    }
    return d->bad ? VERIFIER_E_PARSE : VERIFIER_E_TCB_NOT_SUPPORTED;
}

/* --- TDX module -------------------------------------------------------------------------------------------- */

/* The signed identity for module version `version`: an entry of tdxModuleIdentities, for 0 `tdxModule`. */
static json_t *module_identity(struct document *d, uint8_t version)
{
    char id[16];
    json_t *one;
    size_t i;

    if (version == 0)
        return json_object_get(d->root, "tdxModule");
    snprintf(id, sizeof id, "TDX_%02X", version);
    json_array_foreach(json_object_get(d->root, "tdxModuleIdentities"), i, one)
    {
        if (strcasecmp(get_text(d, one, "id"), id) == 0)
            return one;
    }
    return NULL;
}

static enum verifier_err check_module(struct document *d, const struct verifier_td *td, const uint8_t *svn,
                                      struct level *out)
{
    json_t *identity = module_identity(d, svn[1]);
    uint8_t signer[48], attributes[8], mask[8];

    if (!identity)
        return VERIFIER_E_TDX_MODULE_MISMATCH;
    get_hex(d, identity, "mrsigner", signer, sizeof signer);
    get_hex(d, identity, "attributes", attributes, sizeof attributes);
    get_hex(d, identity, "attributesMask", mask, sizeof mask);
    if (d->bad)
        return VERIFIER_E_PARSE;
    for (unsigned i = 0; i < 8; i++) /* must be 0, and as signed */
        if (td->seamattributes.data[i] != 0 || (td->seamattributes.data[i] & mask[i]) != attributes[i])
            return VERIFIER_E_TDX_MODULE_MISMATCH;
    if (memcmp(td->mrsignerseam.data, signer, sizeof signer) != 0)
        return VERIFIER_E_TDX_MODULE_MISMATCH;
    *out = (struct level){.status = VERIFIER_TCB_NONE, .date = UINT64_MAX};
    return svn[1] == 0 ? VERIFIER_OK : find_svn(d, get_list(d, identity, "tcbLevels"), svn[0], out);
}

/* --- quoting enclave ------------------------------------------------------------------------------------------ */

static enum verifier_err check_qe(struct document *d, const struct verifier_enclave *qe, struct level *out)
{
    uint8_t misc[4], misc_mask[4], attributes[16], mask[16], signer[32];
    uint32_t product = get_uint(d, d->root, "isvprodid", 0xffff);

    get_hex(d, d->root, "miscselect", misc, sizeof misc);
    get_hex(d, d->root, "miscselectMask", misc_mask, sizeof misc_mask);
    get_hex(d, d->root, "attributes", attributes, sizeof attributes);
    get_hex(d, d->root, "attributesMask", mask, sizeof mask);
    get_hex(d, d->root, "mrsigner", signer, sizeof signer);
    if (d->bad)
        return VERIFIER_E_PARSE;
    for (unsigned i = 0; i < 4; i++) /* a number in the text, little-endian in the report */
        if ((qe->miscselect.data[3 - i] & misc_mask[i]) != misc[i])
            return VERIFIER_E_QE_IDENTITY_MISMATCH;
    for (unsigned i = 0; i < 16; i++)
        if ((qe->attributes.data[i] & mask[i]) != attributes[i])
            return VERIFIER_E_QE_IDENTITY_MISMATCH;
    if (memcmp(qe->mrsigner.data, signer, sizeof signer) != 0 || qe->isvprodid != product)
        return VERIFIER_E_QE_IDENTITY_MISMATCH;
    return find_svn(d, get_list(d, d->root, "tcbLevels"), qe->isvsvn, out);
}

/* --- which documents ------------------------------------------------------------------------------------------- */

static enum verifier_err check_info(struct document *d, bool tdx, const struct verifier_pck *pck, uint64_t now,
                                    struct verifier_tcb_result *out)
{
    uint32_t version = get_uint(d, d->root, "version", 1000);
    const char *id = json_string_value(json_object_get(d->root, "id"));
    uint8_t fmspc[6], pceid[2];
    enum verifier_err err;

    if (d->bad)
        return VERIFIER_E_PARSE;
    /* SGX version 2 has no id */
    if (tdx ? version != 3 || !id || strcmp(id, "TDX") != 0
            : (version != 2 || id) && (version != 3 || !id || strcmp(id, "SGX") != 0))
        return VERIFIER_E_COLLATERAL_MISMATCH;
    err = check_dates(d, now, out);
    if (err != VERIFIER_OK)
        return err;
    out->evaluation = get_uint(d, d->root, "tcbEvaluationDataNumber", UINT32_MAX);
    get_hex(d, d->root, "fmspc", fmspc, sizeof fmspc);
    get_hex(d, d->root, "pceId", pceid, sizeof pceid);
    if (d->bad || get_uint(d, d->root, "tcbType", 0) != 0 || d->bad)
        return VERIFIER_E_PARSE;
    if (memcmp(fmspc, pck->fmspc, sizeof fmspc) != 0)
        return VERIFIER_E_FMSPC_MISMATCH;
    return memcmp(pceid, pck->pceid, sizeof pceid) == 0 ? VERIFIER_OK : VERIFIER_E_PCEID_MISMATCH;
}

static enum verifier_err check_identity(struct document *d, bool tdx, uint64_t now, struct verifier_tcb_result *out)
{
    const char *id = get_text(d, d->root, "id");
    uint32_t version = get_uint(d, d->root, "version", 1000);

    if (d->bad)
        return VERIFIER_E_PARSE;
    if (version != 2 || strcmp(id, tdx ? "TD_QE" : "QE") != 0)
        return VERIFIER_E_COLLATERAL_MISMATCH;
    out->qe_evaluation = get_uint(d, d->root, "tcbEvaluationDataNumber", UINT32_MAX);
    return d->bad ? VERIFIER_E_PARSE : check_dates(d, now, out);
}

/* --- conclusion --------------------------------------------------------------------------------------------------- */

/* What an older quoting enclave or module makes of the platform's status. */
static enum verifier_tcb_status converge(enum verifier_tcb_status platform, enum verifier_tcb_status qe,
                                         enum verifier_tcb_status module)
{
    if (platform == VERIFIER_TCB_REVOKED || qe == VERIFIER_TCB_REVOKED || module == VERIFIER_TCB_REVOKED)
        return VERIFIER_TCB_REVOKED;
    if (qe != VERIFIER_TCB_OUT_OF_DATE && module != VERIFIER_TCB_OUT_OF_DATE)
        return platform;
    if (platform == VERIFIER_TCB_UP_TO_DATE || platform == VERIFIER_TCB_SW_HARDENING)
        return VERIFIER_TCB_OUT_OF_DATE;
    if (platform == VERIFIER_TCB_CONFIGURATION || platform == VERIFIER_TCB_CONFIGURATION_SW_HARDENING)
        return VERIFIER_TCB_OUT_OF_DATE_CONFIGURATION;
    return platform;
}

static bool needs_configuration(enum verifier_tcb_status s)
{
    return s == VERIFIER_TCB_CONFIGURATION || s == VERIFIER_TCB_CONFIGURATION_SW_HARDENING ||
           s == VERIFIER_TCB_OUT_OF_DATE_CONFIGURATION;
}

/* TD 1.5: launched on older firmware, the platform has been updated since: starting it again would help. */
static enum verifier_tcb_status relaunch(enum verifier_tcb_status launch, enum verifier_tcb_status current)
{
    bool was_old = launch == VERIFIER_TCB_OUT_OF_DATE || launch == VERIFIER_TCB_OUT_OF_DATE_CONFIGURATION;
    bool is_good = current >= VERIFIER_TCB_UP_TO_DATE && current <= VERIFIER_TCB_CONFIGURATION_SW_HARDENING;

    if (!was_old || !is_good)
        return launch;
    return needs_configuration(launch) || needs_configuration(current) ? VERIFIER_TCB_RELAUNCH_CONFIGURATION
                                                                       : VERIFIER_TCB_RELAUNCH;
}

static bool add_advisories(struct verifier_tcb_result *out, const struct level *l)
{
    json_t *one;
    size_t i;

    json_array_foreach(l->advisories, i, one)
    {
        const char *id = json_string_value(one);
        size_t at = 0;

        if (!id || strlen(id) >= sizeof out->advisory[0])
            return false;
        while (at < out->advisory_count && strcmp(out->advisory[at], id) != 0)
            at++;
        if (at < out->advisory_count)
            continue;
        if (at == VERIFIER_ADVISORIES_MAX)
            return false;
        strcpy(out->advisory[out->advisory_count++], id);
    }
    return true;
}

struct levels {
    struct level platform, qe, module;
};

/* Platform and module at one set of TDX versions; `svn` is NULL for SGX. */
static enum verifier_err evaluate_at(struct document *info, const struct verifier_quote *q,
                                     const struct verifier_pck *pck, const uint8_t *svn, struct levels *l)
{
    struct platform_level have = {.pcesvn = pck->pcesvn};
    enum verifier_err err;

    memcpy(have.sgx, pck->component, sizeof have.sgx);
    if (svn)
        memcpy(have.tdx, svn, sizeof have.tdx);
    l->module = (struct level){.status = VERIFIER_TCB_NONE, .date = UINT64_MAX};
    err = find_platform(info, &have, svn != NULL, &l->platform);
    if (err == VERIFIER_OK && svn)
        err = check_module(info, &q->td, svn, &l->module);
    return err;
}

static void report(struct verifier_tcb_result *out, const struct levels *l)
{
    out->platform = l->platform.status;
    out->qe = l->qe.status;
    out->module = l->module.status;
    out->platform_date = l->platform.date;
    out->date = l->platform.date < l->qe.date ? l->platform.date : l->qe.date;
    if (l->module.date < out->date)
        out->date = l->module.date;
    out->status = converge(out->platform, out->qe, out->module);
}

static enum verifier_err evaluate(struct verifier_tcb_result *out, struct document *info, struct document *identity,
                                  const struct verifier_quote *q, const struct verifier_pck *pck)
{
    const uint8_t *svn = q->tee_type == VERIFIER_QUOTE_TEE_TDX ? q->td.tee_tcb_svn.data : NULL;
    struct levels l, now;
    enum verifier_err err = check_qe(identity, &q->qe, &l.qe);

    if (err == VERIFIER_OK)
        err = evaluate_at(info, q, pck, svn, &l);
    if (err != VERIFIER_OK)
        return err;
    report(out, &l);
    if (!add_advisories(out, &l.platform) || !add_advisories(out, &l.qe) || !add_advisories(out, &l.module))
        return VERIFIER_E_PARSE;
    if (svn && q->td.tee_tcb_svn2.len > 0) {
        err = evaluate_at(info, q, pck, q->td.tee_tcb_svn2.data, &now);
        if (err == VERIFIER_OK)
            out->status = relaunch(out->status, converge(now.platform.status, l.qe.status, now.module.status));
    }
    return err;
}

enum verifier_err verifier_tcb_evaluate(struct verifier_tcb_result *out, const struct verifier_quote *quote,
                                        const struct verifier_pck *pck, struct span tcb_info, struct span identity,
                                        struct verifier_cache *cache, uint64_t now)
{
    bool tdx = quote->tee_type == VERIFIER_QUOTE_TEE_TDX;
    struct document info = {0}, qe = {0};
    enum verifier_err err = load(&info, tcb_info, cache);

    memset(out, 0, sizeof *out);
    out->expires = out->issued = UINT64_MAX;
    if (err == VERIFIER_OK)
        err = load(&qe, identity, cache);
    if (err == VERIFIER_OK)
        err = check_info(&info, tdx, pck, now, out);
    if (err == VERIFIER_OK)
        err = check_identity(&qe, tdx, now, out);
    if (err == VERIFIER_OK)
        err = evaluate(out, &info, &qe, quote, pck);
    if (err == VERIFIER_OK && cache) {
        keep(&info, tcb_info, cache);
        keep(&qe, identity, cache);
    }
    json_decref(info.root);
    json_decref(qe.root);
    return err;
}
