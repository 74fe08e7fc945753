#include "policy/fleet.h"

#include "verifier/base/field.h"

static bool is_listed(const struct policy_fleet_ids *ids, struct span id)
{
    for (size_t i = 0; i < ids->count; i++)
        if (span_equal(ids->id[i], id))
            return true;
    return false;
}

bool policy_fleet_has(const struct policy_fleet_ids *ids, struct span id)
{
    return !span_is_zero(id) && is_listed(ids, id);
}

/* `len` 0: text of 1 to 64 bytes, else bin of that length. */
static void read_ids(struct reader *r, const char *key, size_t len, struct policy_fleet_ids *out)
{
    size_t count = field_read_list(r, key, 0, POLICY_FLEET_MAX);
    out->count = 0;
    for (size_t i = 0; i < count && r->err == READER_OK; i++) {
        out->id[i] = len > 0 ? reader_bin(r, len, len) : reader_text(r, 1, 64);
        if (r->err == READER_OK && is_listed(out, out->id[i]))
            reader_fail(r, READER_DUPLICATE);
        out->count = i + 1;
    }
}

enum verifier_err policy_fleet_parse(struct policy_fleet *out, struct span in)
{
    struct reader r = reader_over(in);
    out->version = 0;
    out->expires = 0;
    out->snp_chips.count = out->tdx_instances.count = out->gpus.count = 0;
    if (in.len > VERIFIER_PART_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 5);
    out->version = (uint32_t)field_read_uint(&r, "version", 1, UINT32_MAX);
    out->expires = field_read_uint(&r, "expires", 1, VERIFIER_TIME_MAX);
    read_ids(&r, "snp_chip_ids", 64, &out->snp_chips);
    read_ids(&r, "tdx_platform_instances", 16, &out->tdx_instances);
    read_ids(&r, "gpu_ueids", 0, &out->gpus);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

static void write_ids(struct writer *w, const char *key, bool text, const struct policy_fleet_ids *in)
{
    field_write_list(w, key, in->count);
    for (size_t i = 0; i < in->count; i++) {
        if (text)
            writer_text(w, in->id[i]);
        else
            writer_bin(w, in->id[i]);
    }
}

void policy_fleet_encode(struct writer *w, const struct policy_fleet *in)
{
    writer_map(w, 5);
    field_write_uint(w, "version", in->version);
    field_write_uint(w, "expires", in->expires);
    write_ids(w, "snp_chip_ids", false, &in->snp_chips);
    write_ids(w, "tdx_platform_instances", false, &in->tdx_instances);
    write_ids(w, "gpu_ueids", true, &in->gpus);
}
