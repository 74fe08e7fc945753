#include "verifier/state.h"

#include "verifier/base/field.h"

static void read_ref(struct reader *r, struct verifier_policy_ref *out)
{
    field_read_fixed(r, "digest", out->digest, sizeof out->digest);
    out->version = (uint32_t)field_read_uint(r, "version", 1, UINT32_MAX);
}

bool verifier_policy_ref_read_or_nil(struct reader *r, const char *key, struct verifier_policy_ref *out)
{
    if (!field_read_map_or_nil(r, key, 2))
        return false;
    read_ref(r, out);
    return true;
}

void verifier_policy_ref_read(struct reader *r, const char *key, struct verifier_policy_ref *out)
{
    field_read_map(r, key, 2);
    read_ref(r, out);
}

void verifier_policy_ref_write(struct writer *w, const char *key, const struct verifier_policy_ref *in)
{
    field_write_map(w, key, 2);
    field_write_fixed(w, "digest", in->digest, sizeof in->digest);
    field_write_uint(w, "version", in->version);
}

static void read_devices(struct reader *r, struct verifier_state *out)
{
    out->has_devices = field_read_map_or_nil(r, "devices", 5);
    if (!out->has_devices)
        return;
    out->devices.count = (unsigned)field_read_uint(r, "count", 1, VERIFIER_DEVICES_MAX);
    field_read_fixed(r, "digest", out->devices.digest, sizeof out->devices.digest);
    out->devices.tree_size = (uint32_t)field_read_uint(r, "tree_size", 1, VERIFIER_TREE_MAX);
    field_read_fixed(r, "tree_root", out->devices.tree_root, sizeof out->devices.tree_root);
    out->devices.at = field_read_uint(r, "at", 0, VERIFIER_TIME_MAX);
}

enum verifier_err verifier_state_parse(struct verifier_state *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_state){0};
    if (in.len > VERIFIER_STATE_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 9);
    field_read_v(&r);
    out->stage = (unsigned)field_read_uint(&r, "stage", 0, VERIFIER_STAGE_ALL);
    out->cc = (enum verifier_cc)field_read_choice(&r, "cc", verifier_cc_names, VERIFIER_CCS);
    out->has_policy = verifier_policy_ref_read_or_nil(&r, "policy", &out->policy);
    out->has_model = field_read_map_or_nil(&r, "model", 2);
    if (out->has_model) {
        field_read_fixed(&r, "root", out->model.root, sizeof out->model.root);
        out->model.load_options = field_read_text(&r, "load_options", 0, 1024);
    }
    out->has_seal = field_read_map_or_nil(&r, "seal", 2);
    if (out->has_seal) {
        field_read_fixed(&r, "public", out->seal.public, sizeof out->seal.public);
        out->seal.epoch = (uint32_t)field_read_uint(&r, "epoch", 1, UINT32_MAX);
    }
    out->has_serves = field_read_map_or_nil(&r, "serves", 2);
    if (out->has_serves) {
        out->serves.count = (uint32_t)field_read_uint(&r, "count", 1, VERIFIER_TREE_MAX);
        field_read_fixed(&r, "root", out->serves.root, sizeof out->serves.root);
    }
    read_devices(&r, out);
    out->at = field_read_uint(&r, "at", 0, VERIFIER_TIME_MAX);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

static void write_devices(struct writer *w, const struct verifier_state *in)
{
    if (!in->has_devices) {
        field_write_nil(w, "devices");
        return;
    }
    field_write_map(w, "devices", 5);
    field_write_uint(w, "count", in->devices.count);
    field_write_fixed(w, "digest", in->devices.digest, sizeof in->devices.digest);
    field_write_uint(w, "tree_size", in->devices.tree_size);
    field_write_fixed(w, "tree_root", in->devices.tree_root, sizeof in->devices.tree_root);
    field_write_uint(w, "at", in->devices.at);
}

static void write_engine_parts(struct writer *w, const struct verifier_state *in)
{
    if (in->has_model) {
        field_write_map(w, "model", 2);
        field_write_fixed(w, "root", in->model.root, sizeof in->model.root);
        field_write_text(w, "load_options", in->model.load_options);
    } else {
        field_write_nil(w, "model");
    }
    if (in->has_seal) {
        field_write_map(w, "seal", 2);
        field_write_fixed(w, "public", in->seal.public, sizeof in->seal.public);
        field_write_uint(w, "epoch", in->seal.epoch);
    } else {
        field_write_nil(w, "seal");
    }
}

void verifier_state_encode(struct writer *w, const struct verifier_state *in)
{
    writer_map(w, 9);
    field_write_v(w);
    field_write_uint(w, "stage", in->stage);
    field_write_choice(w, "cc", verifier_cc_names[in->cc]);
    if (in->has_policy)
        verifier_policy_ref_write(w, "policy", &in->policy);
    else
        field_write_nil(w, "policy");
    write_engine_parts(w, in);
    if (in->has_serves) {
        field_write_map(w, "serves", 2);
        field_write_uint(w, "count", in->serves.count);
        field_write_fixed(w, "root", in->serves.root, sizeof in->serves.root);
    } else {
        field_write_nil(w, "serves");
    }
    write_devices(w, in);
    field_write_uint(w, "at", in->at);
}
