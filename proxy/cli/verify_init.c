#include "proxy/cli/verify_init.h"

#include "policy/config.h"

#include <string.h>

#define OBSERVED "# observed, not verified"

/* The node itself (0), then each engine it showed. */
static size_t node_count(const struct verify_init *in)
{
    return in->claims ? 1 + in->claims->engine_count : 0;
}

static const struct verifier_node *node_at(const struct verify_init *in, size_t i)
{
    return i == 0 ? &in->claims->node : &in->claims->engine[i - 1].node;
}

static void write_hex(struct writer *w, const void *data, size_t len)
{
    char text[2 * 64 + 1];

    policy_hex_print(span_of(data, len), text);
    writer_str(w, text);
}

/* --- head ---------------------------------------------------------------------------------------------------- */

static void write_head(const struct verify_init *in, struct writer *w)
{
    writer_str(w, "# A client's acceptance file: which software, whose policy and which machines it sends prompts to.\n"
                  "# The owner's policy is a claim to it, never its judge.\n");
    if (in->release)
        writer_printf(w, "# Software: release %.*s, signed by the publisher that you named.\n",
                      (int)in->release->version.len, (const char *)in->release->version.data);
    if (in->claims)
        writer_printf(
            w,
            "# Lines that say \"observed, not verified\" repeat what %s showed. Its hardware signed them: so\n"
            "# it is what runs there, not what should. Compare each with what the owner, the publisher or the\n"
            "# operator tells you by another way, then take the mark away.\n",
            in->source);
    writer_str(w, "# What says FILL IN is missing: the file is not accepted before it is there.\n");
    writer_printf(w, "\nsimulated = %s;", in->simulated ? "true" : "false");
    if (in->claims && in->claims->node.hw.simulated)
        writer_str(w, "   # observed: simulated evidence, which proves nothing about hardware");
    writer_str(w, "\n");
}

/* --- owner, policy, models ------------------------------------------------------------------------------------- */

/* A value of every node, each different one once. */
static void write_digests(const struct verify_init *in, struct writer *w, const char *key,
                          const uint8_t *(*of)(const struct verifier_node *))
{
    const uint8_t *seen[1 + VERIFIER_ENGINES_MAX];
    size_t count = 0;

    for (size_t i = 0; i < node_count(in); i++) {
        const uint8_t *value = of(node_at(in, i));
        bool known = !value;
        for (size_t k = 0; !known && k < count; k++)
            known = memcmp(seen[k], value, VERIFIER_DIGEST_LEN) == 0;
        if (!known)
            seen[count++] = value;
    }
    writer_printf(w, "%s = [", key);
    for (size_t k = 0; k < count; k++) {
        writer_str(w, k ? "\n  , \"" : "\n  \""); /* not behind the comment */
        write_hex(w, seen[k], VERIFIER_DIGEST_LEN);
        writer_str(w, "\"   " OBSERVED);
    }
    writer_str(w, count ? "\n];\n" : " \"FILL IN\" ];\n");
}

static const uint8_t *owner_of(const struct verifier_node *n)
{
    return n->statement.owner;
}

static const uint8_t *model_of(const struct verifier_node *n)
{
    return n->state.has_model ? n->state.model.root : NULL;
}

static void write_owner(const struct verify_init *in, struct writer *w)
{
    writer_str(w, "\n# Digest of the owner's first key set: airlock policy show KEYSET\n");
    write_digests(in, w, "owners", owner_of);
    if (in->claims && in->claims->node.state.has_policy)
        writer_printf(w, "policy_min = %u;   " OBSERVED "\n", in->claims->node.state.policy.version);
    else
        writer_str(w, "policy_min = 1;\n");
    writer_str(w, "# Artefact roots of models; without the line any model of that owner\n");
    if (in->claims && in->claims->engine_count > 0)
        write_digests(in, w, "models", model_of);
    else
        writer_str(w, "# models = [ \"FILL IN\" ];\n");
}

/* --- programs -------------------------------------------------------------------------------------------------- */

static bool is_released(const struct verify_init *in, const struct verifier_node *n)
{
    for (size_t i = 0; in->release && i < in->release->image_count; i++) {
        const struct policy_release_image *image = &in->release->image[i];
        if (image->role == n->statement.role && image->tee == n->hw.tee &&
            memcmp(image->measurement, n->hw.measurement, sizeof image->measurement) == 0)
            return true;
    }
    return false;
}

/* The registers that a guest's own boot decides, as far as the TPM quoted them. */
static void write_pcrs(struct writer *w, const struct verifier_vtpm *vtpm)
{
    static const unsigned boot[] = {4, 7, 8, 9, 11};

    for (size_t i = 0; i < sizeof boot / sizeof *boot; i++) {
        if (!(vtpm->present >> boot[i] & 1))
            continue;
        writer_printf(w, " pcr%u = \"", boot[i]);
        write_hex(w, vtpm->pcr[boot[i]], sizeof vtpm->pcr[boot[i]]);
        writer_str(w, "\";");
    }
}

/* What a TD booted; a register that it does not name must be zero. */
static void write_registers(struct writer *w, const struct verifier_tdx *tdx)
{
    for (size_t i = 0; i < sizeof tdx->rtmr / sizeof *tdx->rtmr; i++) {
        if (span_is_zero(span_of(tdx->rtmr[i], sizeof tdx->rtmr[i])))
            continue;
        writer_printf(w, " rtmr%zu = \"", i);
        write_hex(w, tdx->rtmr[i], sizeof tdx->rtmr[i]);
        writer_str(w, "\";");
    }
}

/* `hw` NULL: the image is a release's, which names no registers. */
static void write_image(struct writer *w, enum verifier_tee tee, const uint8_t measurement[48],
                        const struct verifier_hw *hw, bool first, const char *remark)
{
    writer_printf(w, "\n      %s{ tee = \"%s\";", first ? "" : ", ", verifier_tee_names[tee]);
    if (tee != VERIFIER_TEE_GCP) {
        writer_str(w, " measurement = \"");
        write_hex(w, measurement, 48);
        writer_str(w, "\";");
    }
    if (hw && tee == VERIFIER_TEE_TDX)
        write_registers(w, &hw->tdx);
    if (hw && (tee == VERIFIER_TEE_AZURE || tee == VERIFIER_TEE_GCP))
        write_pcrs(w, &hw->vtpm);
    writer_printf(w, " }%s", remark);
}

static bool is_shown_before(const struct verify_init *in, size_t at)
{
    const struct verifier_node *n = node_at(in, at);

    for (size_t i = 0; i < at; i++) {
        const struct verifier_node *other = node_at(in, i);
        if (other->statement.role == n->statement.role && other->hw.tee == n->hw.tee &&
            memcmp(other->hw.measurement, n->hw.measurement, sizeof n->hw.measurement) == 0 &&
            memcmp(other->hw.tdx.rtmr, n->hw.tdx.rtmr, sizeof n->hw.tdx.rtmr) == 0)
            return true;
    }
    return false;
}

static void write_role(const struct verify_init *in, struct writer *w, enum verifier_role role)
{
    size_t count = 0;

    writer_printf(w, "  %s = {\n    images = (", verifier_role_names[role]);
    for (size_t i = 0; in->release && i < in->release->image_count; i++)
        if (in->release->image[i].role == role)
            write_image(w, in->release->image[i].tee, in->release->image[i].measurement, NULL, count++ == 0, "");
    for (size_t i = 0; i < node_count(in); i++) {
        const struct verifier_node *n = node_at(in, i);
        if (n->statement.role != role || is_shown_before(in, i) || is_released(in, n))
            continue;
        if (in->release) { /* a publisher was named: what it did not sign is not taken over */
            writer_str(w, "\n      # observed and NOT in the release, so not accepted: ");
            write_hex(w, n->hw.measurement, sizeof n->hw.measurement);
        } else {
            write_image(w, n->hw.tee, n->hw.measurement, &n->hw, count++ == 0, "   " OBSERVED);
        }
    }
    if (count == 0)
        writer_str(w, "\n      { tee = \"snp\"; measurement = \"FILL IN\"; }");
    writer_str(w, "\n    );\n    # Walls that must stand around it; without the line all of them.\n"
                  "    # sandbox = [ \"namespaces\", \"seccomp\", \"landlock\", \"no_dumps\", \"no_swap\", "
                  "\"no_new_privs\", \"unprivileged_uid\" ];\n");
    for (size_t i = 0; i < node_count(in); i++)
        if (node_at(in, i)->statement.role == role && node_at(in, i)->state.stage != VERIFIER_STAGE_ALL) {
            writer_printf(w, "    # observed: only the walls of bits %u of %d\n", node_at(in, i)->state.stage,
                          VERIFIER_STAGE_ALL);
            break;
        }
    writer_str(w, "  };\n");
}

/* --- machines ------------------------------------------------------------------------------------------------- */

static bool is_acceptable(const char *product)
{
    return strcmp(product, "Genoa") == 0 || strcmp(product, "Turin") == 0 || strcmp(product, "tdx") == 0;
}

static bool has_product_before(const struct verify_init *in, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(node_at(in, i)->hw.product, node_at(in, at)->hw.product) == 0)
            return true;
    return false;
}

static void write_platform(struct writer *w, const struct verifier_hw *hw, bool first)
{
    const struct verifier_tcb *t = &hw->snp.reported;

    writer_printf(w, "\n    %s{ line = \"%s\";", first ? "" : ", ", hw->product);
    if (hw->beneath == VERIFIER_TEE_SNP)
        writer_printf(w, " bootloader = %u; tee = %u; snp = %u; microcode = %u;", t->bootloader, t->tee, t->snp,
                      t->microcode);
    writer_str(w, " }   " OBSERVED);
}

static void write_platforms(const struct verify_init *in, struct writer *w)
{
    size_t count = 0;

    writer_str(
        w, "# Processor lines and the least firmware versions (0 = any). Milan is refused unless it is named here:\n"
           "  # attacks that extract its keys are public.\n  platforms = (");
    for (size_t i = 0; i < node_count(in); i++) {
        const struct verifier_hw *hw = &node_at(in, i)->hw;
        if (has_product_before(in, i))
            continue;
        if (is_acceptable(hw->product))
            write_platform(w, hw, count++ == 0);
        else
            writer_printf(w, "\n    # observed and NOT accepted unless you name it: line = \"%s\"", hw->product);
    }
    writer_str(w, count ? "\n  );\n" : "\n    { line = \"FILL IN\"; }\n  );\n");
}

/* The ids of one kind, each once. */
static void write_machines(const struct verify_init *in, struct writer *w, const char *key, bool tdx)
{
    struct span seen[1 + VERIFIER_ENGINES_MAX];
    size_t count = 0;

    for (size_t i = 0; i < node_count(in); i++) {
        const struct verifier_hw *hw = &node_at(in, i)->hw;
        bool has = tdx ? hw->beneath == VERIFIER_TEE_TDX && hw->has_platform_instance : hw->has_chip_id;
        struct span id = tdx ? span_of(hw->platform_instance, 16) : span_of(hw->chip_id, 64);
        for (size_t k = 0; has && k < count; k++)
            has = !span_equal(seen[k], id);
        if (has && !span_is_zero(id))
            seen[count++] = id;
    }
    if (count == 0)
        return;
    writer_printf(w, "  %s = [", key);
    for (size_t k = 0; k < count; k++) {
        writer_str(w, k ? "\n    , \"" : "\n    \"");
        write_hex(w, seen[k].data, seen[k].len);
        writer_str(w, "\"   " OBSERVED);
    }
    writer_str(w, "\n  ];\n");
}

static void write_hardware(const struct verify_init *in, struct writer *w)
{
    writer_str(w, "\nhardware = {\n  ");
    write_platforms(in, w);
    writer_str(w, "  # Machines. Any genuine machine in the world makes genuine evidence: list yours, or name the key\n"
                  "  # of the owner's fleet file (fleet), or trust the one that the policy names.\n");
    if (in->claims) {
        write_machines(in, w, "snp_chips", false);
        write_machines(in, w, "tdx_instances", true);
    } else {
        writer_str(w, "  snp_chips = [ \"FILL IN\" ];\n");
    }
    writer_str(w, "  # fleet = [ \"FILL IN\" ];\n  # fleet_by_policy = true;\n};\n");
}

/* --- accelerators ---------------------------------------------------------------------------------------------- */

static void write_gpus(const struct verify_init *in, struct writer *w)
{
    const struct verifier_device_claims *gpu = NULL;
    size_t least = VERIFIER_DEVICES_MAX, most = 0;

    for (size_t i = 0; in->claims && i < in->claims->engine_count; i++) {
        const struct verifier_node *n = &in->claims->engine[i].node;
        size_t gpus = 0;
        for (size_t k = 0; k < n->device_count; k++) {
            if (n->devices[k].is_switch)
                continue;
            gpu = &n->devices[k];
            gpus++;
        }
        least = gpus < least ? gpus : least;
        most = gpus > most ? gpus : most;
    }
    writer_str(
        w, "\n# Accelerators of an engine, their driver and VBIOS versions, and whether the vendor must have called\n"
           "# every certificate good (ocsp, rim_ocsp = \"required\"; \"optional\").\n");
    if (gpu)
        writer_printf(w,
                      "gpus = { min = %zu; max = %zu;   " OBSERVED "\n"
                      "  drivers = [ \"%s\" ]; vbios = [ \"%s\" ];   " OBSERVED ", of one device\n};\n",
                      least, most, gpu->driver, gpu->vbios);
    else
        writer_str(w, "gpus = { min = 0; max = 0; };\n");
}

void verify_init_write(const struct verify_init *in, struct writer *out)
{
    write_head(in, out);
    write_owner(in, out);
    writer_str(
        out,
        "\n# Software, by what the hardware measures. tee = \"tdx\": rtmr0 to rtmr3 (what the TD booted) are pinned\n"
        "# beside it; one that is not named must be zero, or unknown = \"report\". tee = \"azure\": the measurement is "
        "the paravisor's, so at least one register of the guest's TPM must be.\n"
        "programs = {\n");
    write_role(in, out, VERIFIER_PROXY);
    write_role(in, out, VERIFIER_ENGINE);
    writer_str(out, "};\n");
    write_hardware(in, out);
    write_gpus(in, out);
    writer_str(out, "\n# Greatest ages of what a node shows.\n"
                    "ages = { evidence = \"24h\"; devices = \"24h\"; collateral = \"366d\"; };\n");
}
