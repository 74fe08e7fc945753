/* Does what the client seals come out at the engine and back, padded to size classes, and nothing else? */
#include "verifier/sealed.h"

#include <stdlib.h>

#include "unit/run.h"

static const uint8_t statement[64] = {1}, policy[64] = {2};
static uint8_t engine_private[32] = {3}, engine_public[32];
static struct verifier_sealed_head head;

static void setup(void)
{
    head = (struct verifier_sealed_head){
        .engine = {9}, .epoch = 4, .endpoint = span_str("/v1/completions"), .model = span_str("tiny")};
    ck_assert(verifier_x25519_public(engine_private, engine_public));
}

/* Seal `json`, open it at the engine. Both contexts are the caller's. */
static void carry(struct span json, struct verifier_hpke *client, struct verifier_hpke *engine, uint8_t enc[32],
                  struct writer *plain, size_t *body_len)
{
    struct writer body = writer_with_max(1u << 20), info = writer_with_max(256);
    struct verifier_sealed_request req;
    ck_assert(verifier_sealed_request_seal(&head, engine_public, statement, policy, json, &body, client, enc));
    ck_assert_int_eq(verifier_sealed_request_parse(&req, writer_span(&body)), VERIFIER_OK);
    ck_assert_int_eq(verifier_sealed_request_check(&req, head.engine, 4), VERIFIER_OK);
    ck_assert_int_eq(verifier_sealed_request_check(&req, head.engine, 5), VERIFIER_E_SEAL_EPOCH);
    ck_assert_int_eq(verifier_sealed_request_check(&req, statement, 4), VERIFIER_E_SEAL_ENGINE);
    verifier_sealed_info(&info, statement, policy);
    ck_assert(verifier_hpke_setup_r(engine, engine_private, req.enc, writer_span(&info)));
    ck_assert_int_eq(verifier_sealed_request_open(&req, engine, plain), VERIFIER_OK);
    *body_len = body.len;
    writer_release(&info);
    writer_release(&body);
}

START_TEST(requests_come_in_size_classes)
{
    static const size_t lengths[] = {0, 1, 63, 64, 65, 1000, 16384, 16385, 40000};
    static const size_t classes[] = {64, 64, 64, 64, 128, 1024, 16384, 32768, 49152};
    struct verifier_hpke client, engine;
    uint8_t enc[32], json[40000];
    size_t overhead = 0, len;
    memset(json, '1', sizeof json);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct writer plain = writer_with_max(1u << 20);
        carry(span_of(json, lengths[i]), &client, &engine, enc, &plain, &len);
        if (i == 0)
            overhead = len - 64;
        ck_assert_uint_eq(len - overhead, classes[i]);
        ck_assert_uint_eq(plain.len, classes[i]);
        ck_assert(lengths[i] == 0 || memcmp(plain.data, json, lengths[i]) == 0);
        for (size_t j = lengths[i]; j < plain.len; j++)
            ck_assert_int_eq(plain.data[j], ' ');
        ck_assert_mem_eq(&client, &engine, sizeof client);
        writer_release(&plain);
    }
}
END_TEST

static void collect(void *ctx, struct span data)
{
    writer_bytes(ctx, data);
}

START_TEST(answers_arrive_whole_or_not_at_all)
{
    struct verifier_hpke client, engine;
    struct verifier_sealed_writer s;
    struct verifier_sealed_reader r;
    struct writer plain = writer_with_max(1024), wire = writer_with_max(1u << 16), got = writer_with_max(1u << 16);
    uint8_t enc[32], nonce[32] = {7}, big[VERIFIER_SEALED_DATA_MAX + 1] = {0};
    size_t len;
    carry(span_str("{}"), &client, &engine, enc, &plain, &len);
    ck_assert(verifier_sealed_writer_begin(&s, &engine, enc, nonce, &wire));
    ck_assert(!verifier_sealed_writer_chunk(&s, span_of(big, sizeof big), false, &wire));
    ck_assert(verifier_sealed_writer_chunk(&s, span_str("one "), false, &wire));
    ck_assert(verifier_sealed_writer_chunk(&s, span_of(big, sizeof big - 1), false, &wire));
    ck_assert(verifier_sealed_writer_chunk(&s, span_str("end"), true, &wire));
    verifier_sealed_writer_release(&s);
    for (size_t cut = 0; cut <= wire.len; cut += cut + 1 < wire.len && cut > 200 ? 97 : 1) {
        size_t end = wire.len - cut;
        writer_reset(&got);
        verifier_sealed_reader_init(&r, &client, enc, collect, &got);
        enum verifier_err err = verifier_sealed_reader_feed(&r, span_of(wire.data, end));
        if (err == VERIFIER_OK)
            err = verifier_sealed_reader_end(&r);
        ck_assert_int_eq(err == VERIFIER_OK, cut == 0);
        if (cut == 0) {
            ck_assert_uint_eq(got.len, 4 + sizeof big - 1 + 3);
            ck_assert_int_ne(verifier_sealed_reader_end(&r), VERIFIER_OK); /* it ends once */
        }
        verifier_sealed_reader_release(&r);
    }
    verifier_hpke_wipe(&client);
    ck_assert(span_is_zero(span_of(&client, sizeof client)));
    writer_release(&plain);
    writer_release(&wire);
    writer_release(&got);
}
END_TEST

START_TEST(a_refused_status_comes_first)
{
    struct verifier_sealed_status in = {.status = 404, .type = span_str("application/json")}, out;
    struct writer w = writer_with_max(256);
    verifier_sealed_status_encode(&w, &in);
    ck_assert_int_eq(verifier_sealed_status_parse(&out, writer_span(&w)), VERIFIER_OK);
    ck_assert_uint_eq(out.status, 404);
    ck_assert(span_is(out.type, "application/json"));
    writer_reset(&w);
    in.status = 200; /* a good answer has none */
    verifier_sealed_status_encode(&w, &in);
    ck_assert_int_eq(verifier_sealed_status_parse(&out, writer_span(&w)), VERIFIER_E_VALUE);
    writer_release(&w);
}
END_TEST

/* A chunk that is genuine and padded wrongly: only the engine could have made it, and it did not. */
START_TEST(padding_must_be_zeros_up_to_a_size_class)
{
    static const struct {
        size_t len, stated;
        uint8_t last;
    } flaws[] = {{64, 4, 1}, {63, 4, 0}, {32, 4, 0}, {64, 61, 0}};
    struct verifier_hpke client, engine;
    struct verifier_sealed_keys keys;
    struct writer plain = writer_with_max(1024), got = writer_with_max(1024);
    uint8_t enc[32], nonce[32] = {7};
    size_t len;
    carry(span_str("{}"), &client, &engine, enc, &plain, &len);
    ck_assert(verifier_sealed_keys_init(&keys, &engine, enc, nonce));
    for (size_t i = 0; i < sizeof flaws / sizeof *flaws; i++) {
        struct writer wire = writer_with_max(1024);
        struct verifier_sealed_reader r;
        uint8_t chunk[64] = {0, 0, 0, (uint8_t)flaws[i].stated, 'd', 'a', 't', 'a'};
        chunk[flaws[i].len - 1] = flaws[i].last;
        writer_bytes(&wire, span_of(nonce, sizeof nonce));
        writer_u8(&wire, 0); /* the final chunk has no length */
        ck_assert(verifier_aead_seal(keys.key, keys.nonce, span_str("final"), span_of(chunk, flaws[i].len), &wire));
        verifier_sealed_reader_init(&r, &client, enc, collect, &got);
        ck_assert_int_eq(verifier_sealed_reader_feed(&r, writer_span(&wire)), VERIFIER_OK);
        ck_assert_int_eq(verifier_sealed_reader_end(&r), VERIFIER_E_SEAL_PADDING);
        ck_assert_uint_eq(got.len, 0);
        verifier_sealed_reader_release(&r);
        writer_release(&wire);
    }
    writer_release(&plain);
    writer_release(&got);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, requests_come_in_size_classes);
    tcase_add_test(t, padding_must_be_zeros_up_to_a_size_class);
    tcase_add_test(t, answers_arrive_whole_or_not_at_all);
    tcase_add_test(t, a_refused_status_comes_first);
}

RUN("verifier_sealed", add_tests)
