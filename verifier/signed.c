#include "verifier/signed.h"

#include "verifier/base/field.h"
#include "verifier/ed25519.h"

const char *const verifier_signed_names[VERIFIER_SIGNED_TYPES] = {"keyset",      "policy",  "tenants",   "fleet",
                                                                  "revocations", "lease",   "grant",     "artefact",
                                                                  "release",     "receipt", "checkpoint"};

static enum verifier_err parse(struct verifier_signed *out, struct span in, bool file)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_signed){0};
    if (in.len > VERIFIER_PART_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 4);
    field_read_v(&r);
    out->type = (enum verifier_signed_type)field_read_choice(&r, "type", verifier_signed_names, VERIFIER_SIGNED_TYPES);
    reader_key(&r, "body");
    if (!file)
        out->body = reader_bin(&r, 0, VERIFIER_PART_MAX);
    else if (!reader_nil(&r))
        reader_fail(&r, READER_TYPE);
    out->sig_count = field_read_list(&r, "sigs", 1, VERIFIER_SIGS_MAX);
    for (size_t i = 0; i < out->sig_count; i++) {
        reader_map(&r, 2);
        field_read_fixed(&r, "key", out->sigs[i].key, VERIFIER_KEY_LEN);
        field_read_fixed(&r, "sig", out->sigs[i].sig, VERIFIER_SIG_LEN);
        for (size_t j = 0; j < i && r.err == READER_OK; j++)
            if (memcmp(out->sigs[j].key, out->sigs[i].key, VERIFIER_KEY_LEN) == 0)
                reader_fail(&r, READER_DUPLICATE);
    }
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

enum verifier_err verifier_signed_parse(struct verifier_signed *out, struct span in)
{
    return parse(out, in, false);
}

enum verifier_err verifier_signed_parse_file(struct verifier_signed *out, struct span sig_file, struct span file)
{
    enum verifier_err err = parse(out, sig_file, true);
    out->body = file;
    return err;
}

void verifier_signed_encode(struct writer *w, const struct verifier_signed *in)
{
    writer_map(w, 4);
    field_write_v(w);
    field_write_choice(w, "type", verifier_signed_names[in->type]);
    field_write_bin_or_nil(w, "body", in->body);
    field_write_list(w, "sigs", in->sig_count);
    for (size_t i = 0; i < in->sig_count; i++) {
        writer_map(w, 2);
        field_write_fixed(w, "key", in->sigs[i].key, VERIFIER_KEY_LEN);
        field_write_fixed(w, "sig", in->sigs[i].sig, VERIFIER_SIG_LEN);
    }
}

/* What Ed25519 signs: label, type and body, each with its length. */
static void write_message(struct writer *w, enum verifier_signed_type type, struct span body)
{
    writer_lp_str(w, "airlock signed v1");
    writer_lp_str(w, verifier_signed_names[type]);
    writer_lp(w, body);
}

static bool is_listed(const uint8_t key[VERIFIER_KEY_LEN], const uint8_t (*keys)[VERIFIER_KEY_LEN], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(keys[i], key, VERIFIER_KEY_LEN) == 0)
            return true;
    return false;
}

enum verifier_err verifier_signed_check(const struct verifier_signed *obj, enum verifier_signed_type type,
                                        const uint8_t (*keys)[VERIFIER_KEY_LEN], size_t key_count, unsigned m)
{
    if (obj->type != type)
        return VERIFIER_E_SIGNED_TYPE;
    for (size_t i = 0; i < obj->sig_count; i++)
        if (!is_listed(obj->sigs[i].key, keys, key_count))
            return VERIFIER_E_SIGNED_KEY;
    struct writer message = writer_with_max(VERIFIER_PART_MAX + 256);
    write_message(&message, type, obj->body);
    enum verifier_err err = writer_ok(&message) ? VERIFIER_OK : VERIFIER_E_INTERNAL;
    for (size_t i = 0; i < obj->sig_count && err == VERIFIER_OK; i++)
        if (!verifier_ed25519_verify(obj->sigs[i].key, writer_span(&message), obj->sigs[i].sig))
            err = VERIFIER_E_SIGNED_SIGNATURE;
    writer_release(&message);
    if (err == VERIFIER_OK && (m < 1 || obj->sig_count < m))
        err = VERIFIER_E_SIGNED_COUNT;
    return err;
}

enum verifier_err verifier_signed_open(struct span *body, struct span in, enum verifier_signed_type type,
                                       const uint8_t (*keys)[VERIFIER_KEY_LEN], size_t key_count)
{
    struct verifier_signed obj;
    *body = span_of(NULL, 0);
    enum verifier_err err = verifier_signed_parse(&obj, in);
    if (err == VERIFIER_OK)
        err = verifier_signed_check(&obj, type, keys, key_count, 1);
    if (err == VERIFIER_OK)
        *body = obj.body;
    return err;
}

bool verifier_signed_sign(struct verifier_sig *out, enum verifier_signed_type type, struct span body,
                          const uint8_t seed[VERIFIER_KEY_LEN])
{
    struct writer message = writer_with_max(VERIFIER_PART_MAX + 256);
    write_message(&message, type, body);
    bool ok = writer_ok(&message) && verifier_ed25519_public(seed, out->key) &&
              verifier_ed25519_sign(seed, writer_span(&message), out->sig);
    writer_release(&message);
    return ok;
}

bool verifier_signed_make(struct writer *w, enum verifier_signed_type type, struct span body,
                          const uint8_t seed[VERIFIER_KEY_LEN])
{
    struct verifier_signed obj = {.type = type, .body = body.data ? body : span_str(""), .sig_count = 1};
    if (!verifier_signed_sign(&obj.sigs[0], type, obj.body, seed))
        return false;
    verifier_signed_encode(w, &obj);
    return writer_ok(w);
}

enum verifier_err verifier_policy_part_parse(struct verifier_policy_part *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_policy_part){0};
    if (in.len > VERIFIER_PART_MAX)
        return VERIFIER_E_SIZE;
    size_t count = reader_list(&r, 2, VERIFIER_KEYSETS_MAX + 1);
    for (size_t i = 0; i + 1 < count; i++)
        out->keyset[i] = reader_bin(&r, 1, 64u << 10);
    if (count > 0)
        out->policy = reader_bin(&r, 1, 64u << 10);
    out->keyset_count = count > 0 ? count - 1 : 0;
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void verifier_policy_part_encode(struct writer *w, const struct verifier_policy_part *in)
{
    writer_list(w, in->keyset_count + 1);
    for (size_t i = 0; i < in->keyset_count; i++)
        writer_bin(w, in->keyset[i]);
    writer_bin(w, in->policy);
}
