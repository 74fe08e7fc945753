/* Every GPU and switch report and every reference file in the vectors: right verdict, right reason, right fields? */
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "vectors/cases.h"
#include "vectors/pem.h"
#include "vectors/warm.h"
#include "verifier/anchors/test.h"
#include "verifier/device.h"
#include "verifier/fabric.h"
#include "verifier/gpu.h"

static void put(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

/* --- fields -------------------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *text)
{
    return text[0] ? json_string(text) : json_null();
}

static json_t *hex_or_null(struct span s)
{
    return s.len > 0 ? cases_hex(s.data, s.len) : json_null();
}

static json_t *field(const struct verifier_gpu *g, enum verifier_spdm_opaque type)
{
    return hex_or_null(verifier_spdm_field(&g->spdm, type));
}

static const char *arch_of(const struct verifier_gpu *g)
{
    return g->is_switch ? "LS10" : strcmp(g->chip, "GH100") == 0 ? "HOPPER" : "BLACKWELL";
}

static json_t *measurements_json(const struct verifier_spdm *s)
{
    json_t *o = json_object();

    for (int i = 1; i < 256; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i - 1);
        if (s->block[i].len > 0)
            put(o, key, cases_hex(s->block[i].data, s->block[i].len));
    }
    return o;
}

static void put_rim_ids(json_t *o, const struct verifier_gpu *g)
{
    char id[160], plain[32];
    size_t n = 0;

    if (g->is_switch)
        return;
    if (strcmp(g->chip, "GH100") == 0)
        snprintf(id, sizeof id, "NV_GPU_DRIVER_GH100_%s", g->driver);
    else
        snprintf(id, sizeof id, "NV_GPU_CC_DRIVER_%s_%s", g->chip_info[0] ? g->chip_info : "GB100", g->driver);
    put(o, "driver_rim_id", json_string(id));
    for (const char *p = g->vbios; *p; p++)
        if (*p != '.')
            plain[n++] = *p;
    plain[n] = '\0';
    snprintf(id, sizeof id, "NV_GPU_VBIOS_%s_%s_%s_%s", g->project, g->project_sku, g->chip_sku, plain);
    put(o, "vbios_rim_id", json_string(id));
}

static json_t *fields_json(const struct cases_case *c, const struct verifier_gpu *g)
{
    const struct verifier_spdm *s = &g->spdm;
    json_t *o = json_deep_copy(json_object_get(c->doc, "fields")), *types = json_array();

    for (size_t i = 0; i < s->field_count; i++)
        json_array_append_new(types, json_integer(s->field[i].type));
    put(o, "arch", json_string(arch_of(g)));
    put(o, "nonce", hex_or_null(s->nonce));
    put(o, "responder_nonce", hex_or_null(s->responder_nonce));
    put(o, "number_of_blocks", json_integer((json_int_t)s->block_count));
    put(o, "measurement_record_length", json_integer((json_int_t)s->record_len));
    put(o, "opaque_length", json_integer((json_int_t)s->opaque_len));
    put(o, "signature_length", json_integer((json_int_t)s->signature.len));
    put(o, "driver_version", text_or_null(g->driver));
    put(o, "vbios_version", text_or_null(g->vbios));
    put(o, "project", text_or_null(g->project));
    put(o, "project_sku", text_or_null(g->project_sku));
    put(o, "chip_sku", text_or_null(g->chip_sku));
    put(o, "chip_info", text_or_null(g->chip_info));
    put(o, "board_id", field(g, VERIFIER_OPAQUE_BOARD));
    put(o, "nvdec0_status", field(g, VERIFIER_OPAQUE_NVDEC0));
    put(o, "fwid", field(g, VERIFIER_OPAQUE_FWID));
    put(o, "protected_pcie_status", field(g, VERIFIER_OPAQUE_PROTECTED_PCIE));
    put(o, "opaque_data_version", field(g, VERIFIER_OPAQUE_VERSION));
    put(o, "feature_flag", field(g, VERIFIER_OPAQUE_FEATURE));
    put(o, "opaque_types", types);
    put(o, "leaf_cn", json_string(g->leaf));
    put(o, "hwmodel", json_string(g->model));
    put(o, "ueid", json_string(g->ueid));
    put(o, "device_serial", json_string(g->serial));
    put(o, "cert_fwid", cases_hex(g->cert_fwid, sizeof g->cert_fwid));
    put(o, "measurements", measurements_json(s));
    put_rim_ids(o, g);
    return o;
}

static json_t *rim_json(const struct verifier_rim *r)
{
    json_t *active = json_object();

    for (size_t e = 0; e < r->count; e++) {
        json_t *list = json_array();
        char key[8];
        snprintf(key, sizeof key, "%u", r->entry[e].index);
        for (size_t i = 0; i < r->entry[e].alternatives; i++)
            json_array_append_new(list, cases_hex(r->hash[r->entry[e].first + i], VERIFIER_RIM_HASH_LEN));
        put(active, key, list);
    }
    return json_pack("{s:s, s:s, s:s, s:o}", "version", r->version, "product", r->product, "tag_id", r->tag_id,
                     "active", active);
}

/* --- certificates, special words of `use` ------------------------------------------------------------------ */

/* The PEM certificates as DER; one that cannot be decoded comes as no bytes. */
static size_t chain_of(struct span pem, struct span out[VERIFIER_CERTS_MAX])
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----";
    const uint8_t *at = pem.data, *end = pem.data + pem.len;
    size_t n = 0;

    while (n < VERIFIER_CERTS_MAX && (at = memmem(at, (size_t)(end - at), begin, sizeof begin - 1)) != NULL) {
        BIO *bio = BIO_new_mem_buf(at, (int)(end - at));
        X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        unsigned char *der = NULL;
        int len = x ? i2d_X509(x, &der) : 0;

        out[n++] = span_of(der, (size_t)len);
        X509_free(x);
        BIO_free(bio);
        at += sizeof begin - 1;
    }
    return n;
}

/* The PEM blocks of `in` numbered from 0, copied in the given order. */
static void pick(struct span in, const int *order, int count, uint8_t *out, size_t *len)
{
    static const char end[] = "-----END CERTIFICATE-----";
    struct span block[8] = {{0}};
    const uint8_t *at = in.data;
    int n = 0;

    while (n < 8) {
        const uint8_t *stop = memmem(at, (size_t)(in.data + in.len - at), end, sizeof end - 1);
        if (!stop)
            break;
        block[n++] = span_of(at, (size_t)(stop + sizeof end - 1 - at));
        at = stop + sizeof end - 1;
    }
    *len = 0;
    for (int i = 0; i < count; i++) {
        memcpy(out + *len, block[order[i]].data, block[order[i]].len);
        *len += block[order[i]].len;
        out[(*len)++] = '\n';
    }
}

static bool use(struct cases_case *c, const char *role, const char *how, uint8_t **data, size_t *len)
{
    static const int first[] = {0, 1, 2, 3}, last[] = {1, 2, 3, 4}, reverse[] = {4, 3, 2, 1, 0};
    static const char space_before[] = "one space inserted before ";
    struct span in = cases_original(c, role);

    *data = malloc(in.len + 16);
    *len = 0;
    if (!*data)
        abort();
    if (strcmp(how, "first four certificates") == 0)
        pick(in, first, 4, *data, len);
    else if (strcmp(how, "last four certificates") == 0)
        pick(in, last, 4, *data, len);
    else if (strcmp(how, "the five certificates in reverse order") == 0)
        pick(in, reverse, 5, *data, len);
    else if (strncmp(how, space_before, sizeof space_before - 1) == 0) {
        const char *what = how + sizeof space_before - 1;
        const uint8_t *at = memmem(in.data, in.len, what, strlen(what));
        size_t before = at ? (size_t)(at - in.data) : 0;
        if (!at)
            cases_unreadable(c, "%s", how);
        memcpy(*data, in.data, before);
        (*data)[before] = ' ';
        memcpy(*data + before + 1, in.data + before, in.len - before);
        *len = in.len + 1;
    } else if (strcmp(how, "an empty file") != 0) {
        free(*data);
        return false;
    }
    return true;
}

/* --- checking ---------------------------------------------------------------------------------------------------- */

static bool uses_rim(const struct cases_case *c, const char *role)
{
    json_t *list = json_object_get(c->self, "use_rims"), *one;
    size_t i;

    json_array_foreach(list, i, one)
    {
        if (strcmp(json_string_value(one), role) == 0)
            return true;
    }
    return false;
}

static enum verifier_err check_rims(struct cases_case *c, const struct verifier_gpu *g, struct verifier_cache *cache,
                                    struct verifier_note *why)
{
    static struct verifier_rim driver, vbios;
    const struct verifier_rim *rims[2];
    size_t n = 0;
    enum verifier_err err = VERIFIER_OK;

    if (uses_rim(c, "driver_rim")) {
        err = verifier_rim_read(&driver, cases_file(c, "driver_rim"), cache, c->time, why);
        if (err == VERIFIER_OK)
            err = verifier_gpu_rim_fits(&driver, g->driver, why);
        rims[n++] = &driver;
    }
    if (err == VERIFIER_OK && uses_rim(c, "vbios_rim")) {
        err = verifier_rim_read(&vbios, cases_file(c, "vbios_rim"), cache, c->time, why);
        if (err == VERIFIER_OK)
            err = verifier_gpu_rim_fits(&vbios, g->vbios, why);
        rims[n++] = &vbios;
    }
    return err != VERIFIER_OK || n == 0 ? err : verifier_gpu_compare(g, rims, n, why);
}

static bool allowed(const struct cases_case *c, const char *key, const char *version)
{
    json_t *list = json_object_get(c->policy, key), *one;
    size_t i;

    json_array_foreach(list, i, one)
    {
        if (strcmp(json_string_value(one), version) == 0)
            return true;
    }
    return list == NULL;
}

/* A synthetic item's own roots stand in for the vendor's. */
static void inject_root(struct cases_case *c, const char *role, enum verifier_anchor_kind kind)
{
    struct verifier_anchor anchor = {.kind = kind, .simulated = true};
    struct span chain[VERIFIER_CERTS_MAX];
    uint8_t digest[32];
    size_t n = chain_of(cases_original(c, role), chain);

    if (n != 1) {
        cases_unreadable(c, "%s", role);
    } else {
        SHA256(chain[0].data, chain[0].len, digest);
        if (!verifier_anchors_inject(digest, &anchor))
            cases_unreadable(c, "anchor");
    }
    pem_release(chain, n);
}

static void inject_roots(struct cases_case *c)
{
    verifier_anchors_reset();
    if (!c->synthetic)
        return;
    inject_root(c, "device_root", VERIFIER_ANCHOR_NVIDIA_DEVICE);
    inject_root(c, "rim_root", VERIFIER_ANCHOR_NVIDIA_RIM);
}

/* What the device rules (policy/judge.c) say in production. */
static const char *judged(struct cases_case *c, const struct verifier_gpu *g)
{
    const char *arch = json_string_value(json_object_get(c->policy, "arch"));
    const char *kind = json_string_value(json_object_get(c->policy, "kind"));

    if ((arch && strcmp(arch, arch_of(g)) != 0) || (kind && strcmp(kind, g->is_switch ? "switch" : "gpu") != 0))
        return verifier_err_name(VERIFIER_E_ARCH_MISMATCH);
    if (!allowed(c, "driver_allow", g->driver))
        return verifier_err_name(VERIFIER_E_DRIVER_NOT_ALLOWED);
    return allowed(c, "vbios_allow", g->vbios) ? NULL : verifier_err_name(VERIFIER_E_VBIOS_NOT_ALLOWED);
}

/* The mode as the vectors write it (little-endian hex), a switch's own id as its serial number ends, and a GPU behind
 * switches that stands alone. */
static void check_fabric(struct cases_case *c, const struct verifier_gpu *g, const struct verifier_device_claims *d)
{
    const char *flag = json_string_value(json_object_get(json_object_get(c->doc, "fields"), "feature_flag"));
    char pdi[17];
    enum verifier_err want = d->mode == VERIFIER_GPU_PPCIE ? VERIFIER_E_FABRIC_MISMATCH : VERIFIER_OK;

    snprintf(pdi, sizeof pdi, "%016llX", (unsigned long long)d->pdi);
    if ((int)d->mode != (flag ? flag[1] - '0' + VERIFIER_GPU_SINGLE : VERIFIER_GPU_UNSTATED) ||
        (d->is_switch && d->pdi != 0 && !strstr(g->serial, pdi)) ||
        (d->mode == VERIFIER_GPU_PPCIE && d->switch_count != 4) || verifier_fabric_check(d, 1, NULL) != want)
        cases_unreadable(c, "mode %d, switch %s, %zu switches", (int)d->mode, pdi, d->switch_count);
}

/* The calls that stage 7 makes say the same. */
static void check_device_calls(struct cases_case *c, const struct verifier_gpu *g, struct span report,
                               const struct span *chain, size_t count, const uint8_t nonce[32])
{
    struct verifier_collateral given = {0};
    struct verifier_device_claims claims;

    if (verifier_device_verify(&claims, report, chain, count, nonce, &given, c->time, NULL) != VERIFIER_OK ||
        strcmp(claims.ueid, g->ueid) != 0 || claims.is_switch != g->is_switch || claims.simulated != c->synthetic)
        cases_unreadable(c, "verifier_device_verify() says something else");
    check_fabric(c, g, &claims);
    if (verifier_devices_compare(&claims, &report, 1, &given, c->time, NULL) != VERIFIER_E_RIM_MISSING)
        cases_unreadable(c, "verifier_devices_compare() needs no reference file");
    if (!uses_rim(c, "vbios_rim") || (!g->is_switch && !uses_rim(c, "driver_rim")))
        return;
    given.rims[given.rim_count++] = cases_file(c, "vbios_rim");
    if (!g->is_switch)
        given.rims[given.rim_count++] = cases_file(c, "driver_rim");
    if (verifier_devices_compare(&claims, &report, 1, &given, c->time, NULL) != VERIFIER_OK || claims.expires == 0)
        cases_unreadable(c, "verifier_devices_compare() says something else");
}

/* Twice with what earlier cases left behind: the same code, the same facts, the same words. `err` and `why` are those
 * of the report and its chain, then of the reference files. */
static void check_warm(struct cases_case *c, const struct verifier_gpu *g, struct span report, const struct span *chain,
                       size_t count, const uint8_t *nonce, enum verifier_err err, const struct verifier_note *why)
{
    static struct verifier_gpu again;

    for (int i = 0; i < 2; i++) {
        struct verifier_note note = {0};
        enum verifier_err other =
            verifier_gpu_verify(&again, report, chain, count, nonce, warm_cache(), c->time, &note);

        if (memcmp(&again, g, sizeof again) != 0)
            cases_unreadable(c, "a cache changes the facts, time %d", i);
        if (other == VERIFIER_OK && !judged(c, &again))
            other = check_rims(c, &again, warm_cache(), &note);
        if (other != err || memcmp(&note, why, sizeof note) != 0)
            cases_unreadable(c, "a cache changes what is said, time %d", i);
    }
}

static void check_rim_item(struct cases_case *c, struct cases_answer *a)
{
    static struct verifier_rim rim;
    struct verifier_note why = {0};
    enum verifier_err err = verifier_rim_read(&rim, cases_file(c, "rim"), NULL, c->time, &why);

    for (int i = 0; i < 2; i++) {
        static struct verifier_rim again;
        if (verifier_rim_read(&again, cases_file(c, "rim"), warm_cache(), c->time, NULL) != err ||
            memcmp(&again, &rim, sizeof rim) != 0)
            cases_unreadable(c, "a cache changes what is said, time %d", i);
    }

    a->error = err == VERIFIER_OK ? NULL : verifier_err_name(err);
    snprintf(a->detail, sizeof a->detail, "%.290s; %.290s", why.observed, why.required);
    if (err == VERIFIER_OK) {
        a->fields = rim_json(&rim);
        put(a->fields, "certificates", json_incref(json_object_get(json_object_get(c->doc, "fields"), "certificates")));
    }
}

static void check(struct cases_case *c, struct cases_answer *a)
{
    static const char *const keys[] = {"arch", "kind", "nonce", "driver_allow", "vbios_allow", NULL};
    static struct verifier_gpu g;
    struct span chain[VERIFIER_CERTS_MAX], report;
    struct verifier_note why = {0};
    const char *hex;
    uint8_t nonce[32];
    size_t count;
    enum verifier_err err;

    inject_roots(c);
    if (cases_has(c, "rim")) {
        check_rim_item(c, a);
        return;
    }
    cases_policy_known(c, keys);
    hex = json_string_value(json_object_get(c->policy, "nonce"));
    if (hex && cases_unhex(hex, nonce, sizeof nonce) != 32)
        cases_unreadable(c, "nonce");
    report = cases_file(c, "report");
    count = chain_of(cases_file(c, "cert_chain"), chain);
    err = verifier_gpu_verify(&g, report, chain, count, hex ? nonce : NULL, NULL, c->time, &why);
    if (err == VERIFIER_OK)
        a->error = judged(c, &g);
    if (err == VERIFIER_OK && !a->error)
        err = check_rims(c, &g, NULL, &why);
    check_warm(c, &g, report, chain, count, hex ? nonce : NULL, err, &why);
    if (err != VERIFIER_OK)
        a->error = verifier_err_name(err);
    snprintf(a->detail, sizeof a->detail, "%.290s; %.290s", why.observed, why.required);
    if (!a->error && hex)
        check_device_calls(c, &g, report, chain, count, nonce);
    if (!a->error)
        a->fields = fields_json(c, &g);
    pem_release(chain, count);
}

int main(void)
{
    static const struct cases_kind kinds[] = {{.folder = "nvgpu", .check = check, .use = use},
                                              {.folder = "nvswitch", .check = check, .use = use}};

    return cases_main(kinds, sizeof kinds / sizeof *kinds);
}
