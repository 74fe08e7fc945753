/* Every TDX and SGX quote in the vectors: the right verdict, reason, TCB status, advisories, fields; event logs too. */
#include <openssl/sha.h>
#include <stdio.h>
#include <time.h>

#include "vectors/cases.h"
#include "vectors/pem.h"
#include "vectors/warm.h"
#include "verifier/anchors/test.h"
#include "verifier/eventlog.h"

static void put(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

static json_t *hex(struct span s)
{
    return cases_hex(s.data, s.len);
}

static json_t *time_text(uint64_t t)
{
    char text[32];
    time_t seconds = (time_t)t;
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return json_string(text);
}

/* --- what was found, in the vectors' words ------------------------------------------------------------ */

static json_t *expect_json(const struct verifier_tcb_result *t)
{
    json_t *o = json_object(), *list = json_array();

    for (size_t i = 0; i < t->advisory_count; i++)
        json_array_append_new(list, json_string(t->advisory[i]));
    put(o, "tcb_status", json_string(verifier_tcb_status_name(t->status)));
    put(o, "advisories", list);
    put(o, "platform_tcb_status", json_string(verifier_tcb_status_name(t->platform)));
    put(o, "qe_tcb_status", json_string(verifier_tcb_status_name(t->qe)));
    put(o, "tdx_module_tcb_status",
        t->module == VERIFIER_TCB_NONE ? json_null() : json_string(verifier_tcb_status_name(t->module)));
    put(o, "platform_tcb_date", time_text(t->platform_date));
    put(o, "min_tcb_date", time_text(t->date));
    put(o, "tcb_eval_number", json_integer(t->evaluation));
    put(o, "qe_eval_number", json_integer(t->qe_evaluation));
    return o;
}

static json_t *pck_json(const struct cases_case *c, const struct verifier_intel *in)
{
    const struct verifier_pck *p = &in->pck;
    json_t *o = json_deep_copy(json_object_get(json_object_get(c->doc, "fields"), "pck")), *list = json_array();
    char type[4];

    for (size_t i = 0; i < 16; i++)
        json_array_append_new(list, json_integer(p->component[i]));
    snprintf(type, sizeof type, "%02x", p->sgx_type);
    put(o, "fmspc", cases_hex(p->fmspc, 6));
    put(o, "pceid", cases_hex(p->pceid, 2));
    put(o, "pcesvn", json_integer(p->pcesvn));
    put(o, "tcb_comp_svn", list);
    put(o, "cpusvn", cases_hex(p->cpusvn, 16));
    put(o, "ppid", cases_hex(p->ppid, 16));
    put(o, "sgx_type", json_string(type));
    if (p->has_instance)
        put(o, "platform_instance_id", cases_hex(p->instance, 16));
    if (p->has_configuration)
        put(o, "configuration",
            json_pack("{s:s, s:s, s:s}", "1", p->dynamic_platform ? "ff" : "00", "2", p->cached_keys ? "ff" : "00", "3",
                      p->smt ? "ff" : "00"));
    put(o, "ca", json_string(strstr(in->ca, "Platform") ? "platform" : "processor"));
    return o;
}

static json_t *qe_json(const struct verifier_enclave *e)
{
    return json_pack("{s:o, s:i, s:i, s:o, s:o}", "mrsigner", hex(e->mrsigner), "isvprodid", e->isvprodid, "isvsvn",
                     e->isvsvn, "attributes", hex(e->attributes), "miscselect", hex(e->miscselect));
}

static void put_td(json_t *o, const struct verifier_td *t)
{
    put(o, "tee_tcb_svn", hex(t->tee_tcb_svn));
    put(o, "mrseam", hex(t->mrseam));
    put(o, "mrsignerseam", hex(t->mrsignerseam));
    put(o, "seamattributes", hex(t->seamattributes));
    put(o, "tdattributes", hex(t->tdattributes));
    put(o, "xfam", hex(t->xfam));
    put(o, "mrtd", hex(t->mrtd));
    put(o, "mrconfigid", hex(t->mrconfigid));
    put(o, "mrowner", hex(t->mrowner));
    put(o, "mrownerconfig", hex(t->mrownerconfig));
    put(o, "rtmr0", hex(t->rtmr[0]));
    put(o, "rtmr1", hex(t->rtmr[1]));
    put(o, "rtmr2", hex(t->rtmr[2]));
    put(o, "rtmr3", hex(t->rtmr[3]));
    put(o, "reportdata", hex(t->report_data));
    put(o, "debug", json_boolean(t->tdattributes.data[0] & 1));
    if (t->tee_tcb_svn2.len > 0) {
        put(o, "tee_tcb_svn2", hex(t->tee_tcb_svn2));
        put(o, "mrservicetd", hex(t->mrservicetd));
    }
}

static void put_sgx(json_t *o, const struct verifier_enclave *e)
{
    put(o, "cpusvn", hex(e->cpusvn));
    put(o, "miscselect", hex(e->miscselect));
    put(o, "attributes", hex(e->attributes));
    put(o, "mrenclave", hex(e->mrenclave));
    put(o, "mrsigner", hex(e->mrsigner));
    put(o, "isvprodid", json_integer(e->isvprodid));
    put(o, "isvsvn", json_integer(e->isvsvn));
    put(o, "report_data", hex(e->report_data));
    put(o, "debug", json_boolean(e->attributes.data[0] & VERIFIER_SGX_DEBUG));
}

/* The event log of the item, replayed. */
static void put_event_log(struct cases_case *c, json_t *o, const struct verifier_td *td)
{
    struct verifier_event_log log;
    struct span nonce = cases_file(c, "nonce");
    json_t *replay;

    put(o, "nonce_file_equals_reportdata", json_boolean(span_equal(nonce, td->report_data)));
    if (!cases_has(c, "ccel_data"))
        return;
    if (verifier_event_log_replay(&log, cases_file(c, "ccel_data"), VERIFIER_LOG_RTMR) != VERIFIER_OK)
        cases_unreadable(c, "event log");
    replay = json_object();
    for (int i = 0; i < VERIFIER_RTMRS; i++) {
        char key[8];
        snprintf(key, sizeof key, "rtmr%d", i);
        put(replay, key,
            json_pack("{s:o, s:I, s:b}", "replayed", cases_hex(log.reg[i], 48), "events", (json_int_t)log.events[i],
                      "matches_quote", span_equal(span_of(log.reg[i], 48), td->rtmr[i])));
    }
    put(o, "event_log_replay", replay);
}

static json_t *fields_json(struct cases_case *c, const struct verifier_intel *in)
{
    const struct verifier_quote *q = &in->quote;
    json_t *o = json_object();
    char tee[8];

    snprintf(tee, sizeof tee, "0x%x", q->tee_type);
    put(o, "version", json_integer(q->version));
    put(o, "att_key_type", json_integer(2)); /* nothing else is read */
    put(o, "tee_type", json_string(tee));
    put(o, "qe_svn_header", json_integer(q->qe_svn));
    put(o, "pce_svn_header", json_integer(q->pce_svn));
    put(o, "user_data", hex(q->user_data));
    put(o, "body_type", json_integer(q->body_type));
    put(o, "body_size", json_integer((json_int_t)q->body.len));
    put(o, "signature_data_size", json_integer((json_int_t)q->signature_len));
    put(o, "trailing_bytes", json_integer((json_int_t)q->padding));
    put(o, "qe_auth_data", hex(q->auth));
    put(o, "cert_data_type", json_integer(q->cert_type));
    put(o, "attestation_key", hex(q->key));
    if (q->tee_type == VERIFIER_QUOTE_TEE_TDX) {
        put_td(o, &q->td);
        put_event_log(c, o, &q->td);
    } else {
        put_sgx(o, &q->sgx);
    }
    put(o, "pck", pck_json(c, in));
    put(o, "qe_report", qe_json(&q->qe));
    return o;
}

/* --- policy, collateral ----------------------------------------------------------------------------------- */

/* The vectors' pinned fields; the judge compares them in production (policy/judge.c). */
static const char *pinned(struct cases_case *c, const struct verifier_quote *q)
{
    const struct {
        const char *key, *code;
        struct span value;
    } pins[] = {{"mrtd", "mrtd_mismatch", q->td.mrtd},
                {"reportdata", "reportdata_mismatch", q->td.report_data},
                {"mrenclave", "mrenclave_mismatch", q->sgx.mrenclave},
                {"report_data", "report_data_mismatch", q->sgx.report_data}};

    for (size_t i = 0; i < sizeof pins / sizeof *pins; i++) {
        const char *text = json_string_value(json_object_get(c->policy, pins[i].key));
        uint8_t want[64];
        int len = text ? cases_unhex(text, want, sizeof want) : 0;

        if (len < 0)
            cases_unreadable(c, "policy %s", pins[i].key);
        else if (text && !span_equal(span_of(want, (size_t)len), pins[i].value))
            return pins[i].code;
    }
    return NULL;
}

static struct verifier_hw_rules rules_of(struct cases_case *c, uint8_t fmspcs[8][6])
{
    static const char *const keys[] = {"allow_debug",
                                       "allowed_tcb_status",
                                       "min_tcb_evaluation_data_number",
                                       "mrtd",
                                       "reportdata",
                                       "fmspc_allow",
                                       "require_sept_ve_disable",
                                       "mrenclave",
                                       "report_data",
                                       NULL};
    struct verifier_hw_rules r = verifier_hw_rules_default();
    json_t *statuses = json_object_get(c->policy, "allowed_tcb_status"), *one;
    json_t *fmspc = json_object_get(c->policy, "fmspc_allow");
    size_t i;

    cases_policy_known(c, keys);
    r.allow_debug = cases_policy_bool(c, "allow_debug", false);
    r.allow_sept_ve = !cases_policy_bool(c, "require_sept_ve_disable", false);
    r.min_tcb_evaluation = (uint32_t)json_integer_value(json_object_get(c->policy, "min_tcb_evaluation_data_number"));
    if (statuses)
        r.tcb_statuses = 0;
    json_array_foreach(statuses, i, one)
    {
        enum verifier_tcb_status s = verifier_tcb_status_of(json_string_value(one));
        if (s == VERIFIER_TCB_NONE)
            cases_unreadable(c, "status %s", json_string_value(one));
        r.tcb_statuses |= 1u << s;
    }
    json_array_foreach(fmspc, i, one)
    {
        if (i < 8 && cases_unhex(json_string_value(one), fmspcs[i], 6) == 6)
            r.fmspc_count = i + 1;
        else
            cases_unreadable(c, "fmspc_allow");
        r.fmspcs = (const uint8_t(*)[6])fmspcs;
    }
    return r;
}

static void inject_root(struct cases_case *c)
{
    struct verifier_anchor anchor = {.kind = VERIFIER_ANCHOR_INTEL, .simulated = true};
    struct span chain[VERIFIER_CERTS_MAX];
    uint8_t digest[32];
    size_t n;

    verifier_anchors_reset();
    if (!c->synthetic)
        return;
    n = pem_chain(cases_original(c, "root"), chain);
    if (n != 1)
        cases_unreadable(c, "root");
    else
        SHA256(chain[0].data, chain[0].len, digest);
    if (n == 1 && !verifier_anchors_inject(digest, &anchor))
        cases_unreadable(c, "anchor");
    pem_release(chain, n);
}

/* Twice with what earlier cases left behind: the same code, the same evaluation, the same words. */
static void check_warm(struct cases_case *c, struct verifier_collateral given, struct span quote,
                       const struct verifier_hw_rules *rules, enum verifier_err err, const struct verifier_intel *in,
                       const struct verifier_note *why)
{
    static struct verifier_intel again;

    given.cache = warm_cache();
    for (int i = 0; i < 2; i++) {
        struct verifier_note note = {0};

        if (verifier_intel_check(&again, quote, &given, c->time, rules, &note) != err ||
            memcmp(&again.tcb, &in->tcb, sizeof again.tcb) != 0 ||
            memcmp(&again.pck, &in->pck, sizeof again.pck) != 0 || again.expires != in->expires ||
            again.issued != in->issued || again.simulated != in->simulated || memcmp(&note, why, sizeof note) != 0)
            cases_unreadable(c, "a cache changes what is said, time %d", i);
    }
}

static void check(struct cases_case *c, struct cases_answer *a)
{
    static struct verifier_intel in;
    uint8_t fmspcs[8][6];
    struct verifier_hw_rules rules = rules_of(c, fmspcs);
    struct verifier_collateral given = {.tcb_info = cases_file(c, "tcb_info"),
                                        .qe_identity = cases_file(c, "qe_identity")};
    struct span quote = cases_file(c, "quote");
    struct verifier_note why = {0};
    struct verifier_hw hw;
    enum verifier_err err;

    given.crls[0] = cases_file(c, "root_ca_crl");
    given.crls[1] = cases_file(c, "pck_crl");
    given.crl_count = 2;
    given.tcb_chain_count = pem_chain(cases_file(c, "tcb_info_chain"), given.tcb_chain);
    given.qe_chain_count = pem_chain(cases_file(c, "qe_identity_chain"), given.qe_chain);
    inject_root(c);
    err = verifier_intel_check(&in, quote, &given, c->time, &rules, &why);
    check_warm(c, given, quote, &rules, err, &in, &why);
    a->error = err == VERIFIER_OK ? pinned(c, &in.quote) : verifier_err_name(err);
    snprintf(a->detail, sizeof a->detail, "%.290s; %.290s", why.observed, why.required);
    a->expect = expect_json(&in.tcb);
    if (err == VERIFIER_OK)
        a->fields = fields_json(c, &in);
    /* the public call says the same, and gives facts only with a yes */
    if (strncmp(c->kind, "tdx", 3) == 0) {
        if (verifier_hw_verify(&hw, VERIFIER_TEE_TDX, quote, NULL, 0, &given, c->time, &rules, NULL) != err ||
            (err == VERIFIER_OK && hw.simulated != c->synthetic))
            cases_unreadable(c, "verifier_hw_verify() says something else");
    }
    pem_release(given.tcb_chain, given.tcb_chain_count);
    pem_release(given.qe_chain, given.qe_chain_count);
}

int main(void)
{
    static const struct cases_kind kinds[] = {{.folder = "tdx", .check = check},
                                              {.folder = "tdx-synthetic", .check = check},
                                              {.folder = "sgx", .check = check}};

    return cases_main(kinds, sizeof kinds / sizeof *kinds);
}
