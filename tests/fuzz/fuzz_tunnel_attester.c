/* Target functions: attester_record_parse attester_core_call attester_batch_add attester_batch_fire
 * First byte: the call; the rest: its body. */
#include <stdlib.h>

#include "tunnel/attest/attester_core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *fake_open(const struct attester_producer_config *config, char why[256])
{
    (void)config, (void)why;
    return malloc(1);
}

static enum verifier_tee fake_tee(void *ctx)
{
    (void)ctx;
    return VERIFIER_TEE_SNP;
}

static int fake_quote(void *ctx, const uint8_t report_data[64], struct writer *quote, struct writer *chain,
                      struct writer *collateral)
{
    (void)ctx, (void)collateral;
    writer_bytes(quote, span_of(report_data, 64));
    verifier_certs_encode(chain, &(struct verifier_certs){.count = 1, .cert = {span_of(report_data, 64)}});
    return 0;
}

static const struct attester_producer fake = {.open = fake_open, .tee = fake_tee, .quote = fake_quote, .close = free};

static struct attester_core *core_of(enum verifier_role role)
{
    struct attester_config config = {.role = role,
                                     .program = "p",
                                     .version = "1",
                                     .config_text = span_str("c"),
                                     .kernels = role == VERIFIER_ENGINE ? "cpu" : NULL,
                                     .producer = &fake,
                                     .replay_max = 64};
    struct attester_core *c = calloc(1, sizeof *c);
    char why[256];

    if (!c || !attester_core_init(c, &config, why))
        abort();
    return c;
}

/* Whoever is answered with an envelope asked for a pair of this node's. */
static void check_reply(void *ctx, void *caller, uint32_t id, uint8_t call, enum attester_err err, struct span body)
{
    struct verifier_envelope *env = calloc(1, sizeof *env);

    (void)caller, (void)id, (void)call;
    if (!env || err != ATTESTER_OK || verifier_envelope_parse(env, body) != VERIFIER_OK)
        abort();
    free(env);
    ++*(int *)ctx;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct attester_core *core[2];
    struct writer answer = writer_with_max(ATTESTER_PIECE_MAX);
    struct attester_batch batch;
    struct attester_record r;
    int answered = 0, added = 0;

    if (!core[0]) {
        core[0] = core_of(VERIFIER_ENGINE);
        core[1] = core_of(VERIFIER_PROXY);
    }
    (void)!attester_record_parse(&r, span_of(data, size));
    if (size == 0 || !attester_batch_init(&batch))
        return 0;
    for (int i = 0; i < 2; i++) {
        struct span body = span_of(data + 1, size - 1);

        (void)attester_core_call(core[i], data[0], body, &answer);
        writer_reset(&answer);
        added = attester_batch_add(&batch, core[i], &added, 1, data[0] & 1 ? ATTESTER_LEAF : ATTESTER_SEALED, body) ==
                ATTESTER_OK;
        answered = 0;
        attester_batch_fire(&batch, core[i], check_reply, &answered);
        if (answered != added)
            abort();
    }
    attester_batch_release(&batch);
    writer_release(&answer);
    return 0;
}
