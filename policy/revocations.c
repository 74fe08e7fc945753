#include "policy/revocations.h"

#include "verifier/base/field.h"

const char *const policy_revocation_names[POLICY_REVOKED_KINDS] = {"snp_chip",    "tdx_instance", "gpu",
                                                                   "measurement", "identity",     "policy"};
static const struct {
    size_t min, max;
} sizes[POLICY_REVOKED_KINDS] = {{64, 64}, {16, 16}, {1, 64}, {48, 48}, {32, 32}, {64, 64}};

enum verifier_err policy_revocations_parse(struct policy_revocations *out, struct span in)
{
    struct reader r = reader_over(in);
    out->epoch = 0;
    out->count = 0;
    if (in.len > VERIFIER_PART_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 3);
    field_read_v(&r);
    out->epoch = (uint32_t)field_read_uint(&r, "epoch", 1, UINT32_MAX);
    size_t count = field_read_list(&r, "entries", 0, POLICY_REVOCATIONS_MAX);
    for (size_t i = 0; i < count && r.err == READER_OK; i++) {
        struct policy_revocation *e = &out->entry[i];
        reader_map(&r, 2);
        e->kind =
            (enum policy_revocation_kind)field_read_choice(&r, "kind", policy_revocation_names, POLICY_REVOKED_KINDS);
        e->value = field_read_bin(&r, "value", sizes[e->kind].min, sizes[e->kind].max);
        if (r.err == READER_OK && policy_revocations_has(out, e->kind, e->value))
            reader_fail(&r, READER_DUPLICATE);
        out->count = i + 1;
    }
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void policy_revocations_encode(struct writer *w, const struct policy_revocations *in)
{
    writer_map(w, 3);
    field_write_v(w);
    field_write_uint(w, "epoch", in->epoch);
    field_write_list(w, "entries", in->count);
    for (size_t i = 0; i < in->count; i++) {
        writer_map(w, 2);
        field_write_choice(w, "kind", policy_revocation_names[in->entry[i].kind]);
        field_write_bin(w, "value", in->entry[i].value);
    }
}

bool policy_revocations_has(const struct policy_revocations *list, enum policy_revocation_kind kind, struct span value)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->entry[i].kind == kind && span_equal(list->entry[i].value, value))
            return true;
    return false;
}

const char *policy_revocations_of_node(const struct policy_revocations *list, const struct verifier_node *node)
{
    const struct verifier_hw *hw = &node->hw;
    if (policy_revocations_has(list, POLICY_REVOKED_IDENTITY, span_of(node->statement.identity, VERIFIER_KEY_LEN)))
        return "the node's identity";
    if (hw->has_chip_id &&
        policy_revocations_has(list, POLICY_REVOKED_SNP_CHIP, span_of(hw->chip_id, sizeof hw->chip_id)))
        return "the processor";
    if (hw->has_platform_instance &&
        policy_revocations_has(list, POLICY_REVOKED_TDX_INSTANCE, span_of(hw->platform_instance, 16)))
        return "the platform";
    for (size_t i = 0; i < node->device_count; i++)
        if (policy_revocations_has(list, POLICY_REVOKED_GPU, span_str(node->devices[i].ueid)))
            return "an accelerator";
    if (policy_revocations_has(list, POLICY_REVOKED_MEASUREMENT, span_of(hw->measurement, sizeof hw->measurement)))
        return "the software";
    return NULL;
}
