/* The front door: routes, answers, streams, refusals, cancellation, attestation of a connection. */
#include <check.h>
#include <math.h>

#include "proxy_fixture.h"
#include "run.h"
#include "tunnel/sandbox.h"
#include "verifier/sealed.h"

#include <fcntl.h>
#include <sys/wait.h>

#define PING "GET /ping HTTP/1.1\r\nhost: x\r\n\r\n"
#define CHAT "/v1/chat/completions"
#define HI "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

START_TEST(answers_a_chat)
{
    char *body;
    fixture_start();
    ck_assert_int_eq(ask("POST", CHAT, HI "}", &body), 200);
    ck_assert_ptr_nonnull(strstr(body, "\"content\":\"Hello world\""));
    ck_assert_ptr_nonnull(strstr(body, "\"total_tokens\":5"));
    ck_assert_uint_gt(fake.timeout_ms, 0); /* the engine ends it before the door has to */
    free(body);
    fixture_stop();
}
END_TEST

START_TEST(streams_a_chat_and_keeps_the_connection)
{
    bool closed;
    char *answer, req[512];
    fixture_start();
    struct client *c = dial();
    snprintf(req, sizeof req, "POST " CHAT " HTTP/1.1\r\nhost: x\r\ncontent-length: %zu\r\n\r\n%s",
             strlen(HI ",\"stream\":true}"), HI ",\"stream\":true}");
    for (int i = 0; i < 2; i++) {
        answer = raw(c, req, strlen(req), 300, &closed);
        ck_assert(!closed);
        ck_assert_ptr_nonnull(strstr(answer, "text/event-stream"));
        ck_assert_ptr_nonnull(strstr(answer, "\"role\":\"assistant\""));
        ck_assert_ptr_nonnull(strstr(answer, "Hello"));
        ck_assert_ptr_nonnull(strstr(answer, "data: [DONE]\n\n\r\n0\r\n\r\n"));
        ck_assert_ptr_null(strstr(answer, "content-length"));
        free(answer);
    }
    client_close(c);
    fixture_stop();
}
END_TEST

#define RESPONSES "/v1/responses"

START_TEST(answers_responses)
{
    static const char ask_text[] = "{\"model\":\"tiny\",\"input\":\"hi\"";
    char *body, request[512];
    fixture_start();
    snprintf(request, sizeof request, "%s}", ask_text);
    ck_assert_int_eq(ask("POST", RESPONSES, request, &body), 200);
    ck_assert_ptr_nonnull(strstr(body, "\"object\":\"response\""));
    ck_assert_ptr_nonnull(strstr(body, "\"text\":\"Hello world\""));
    ck_assert_ptr_nonnull(strstr(body, "\"status\":\"completed\""));
    ck_assert_ptr_nonnull(strstr(body, "\"total_tokens\":5"));
    free(body);
    snprintf(request, sizeof request, "%s,\"stream\":true}", ask_text);
    ck_assert_int_eq(ask("POST", RESPONSES, request, &body), 200);
    static const char *const events[] = {"response.created",           "response.in_progress",
                                         "response.output_item.added", "response.content_part.added",
                                         "response.output_text.delta", "response.output_text.done",
                                         "response.content_part.done", "response.output_item.done",
                                         "response.completed"};
    const char *at = body;
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        char line[64];
        snprintf(line, sizeof line, "event: %s\n", events[i]);
        at = strstr(at, line);
        ck_assert_msg(at != NULL, "%s in %s", line, body);
    }
    ck_assert_ptr_null(strstr(body, "[DONE]"));
    free(body);
    ck_assert_int_eq(
        ask("POST", RESPONSES, "{\"model\":\"tiny\",\"input\":\"x\",\"previous_response_id\":\"r\"}", &body), 400);
    ck_assert_ptr_nonnull(strstr(body, "\"param\":\"previous_response_id\""));
    free(body);
    ck_assert_int_eq(ask("POST", RESPONSES, "{\"model\":\"tiny\",\"input\":\"x\",\"max_output_tokens\":0}", &body),
                     400);
    ck_assert_ptr_nonnull(strstr(body, "\"param\":\"max_output_tokens\""));
    free(body);
    ck_assert_int_eq(
        ask("POST", RESPONSES,
            "{\"model\":\"tiny\",\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]}", &body),
        400);
    free(body);
    ck_assert_int_eq(
        ask("POST", RESPONSES,
            "{\"model\":\"tiny\",\"instructions\":\"be\",\"input\":[{\"role\":\"user\",\"content\":[{\"type\":"
            "\"input_text\",\"text\":\"x\"}]},{\"type\":\"reasoning\"},{\"type\":\"function_call\",\"call_id\":\"c\","
            "\"name\":\"f\",\"arguments\":\"{}\"},{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":"
            "\"1\"}],\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":{\"type\":\"object\"}},"
            "{\"type\":\"web_search\"}],\"store\":false,\"include\":[]}",
            &body),
        200);
    free(body);
    fixture_stop();
}
END_TEST

START_TEST(refuses_by_name)
{
    static const struct {
        const char *method, *path, *body;
        int status;
        const char *says;
    } cases[] = {
        {"POST", CHAT, "{", 400, "invalid_json"},
        {"POST", CHAT, "{\"model\":\"tiny\"}", 400, "messages"},
        {"POST", CHAT, "{\"model\":\"other\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", 404,
         "model_not_found"},
        {"POST", CHAT, HI ",\"temperature\":9}", 400, "temperature"},
        {"GET", CHAT, NULL, 405, "POST"},
        {"POST", "/health", "", 405, "GET"},
        {"GET", "/nowhere", NULL, 404, "no such route"},
        {"GET", "/v1/models/other", NULL, 404, "model_not_found"},
        {"GET", "/v1/models/tiny", NULL, 200, "\"object\":\"model\""},
        {"GET", "/v1/models?x=1", NULL, 200, "\"object\":\"list\""},
        {"GET", "/health", NULL, 200, "ok"},
        {"GET", "/ping", NULL, 200, "alive"},
        {"GET", "/version", NULL, 200, "version"},
        {"GET", "/metrics", NULL, 200, "airlock_http_requests_total"},
        {"GET", "/.well-known/airlock/policy", NULL, 200, "text"},
    };
    char *body;
    fixture_start();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_msg(ask(cases[i].method, cases[i].path, cases[i].body, &body) == cases[i].status, "%s %s: %s",
                      cases[i].method, cases[i].path, body);
        ck_assert_msg(strstr(body, cases[i].says) != NULL, "%s %s: %s", cases[i].method, cases[i].path, body);
        free(body);
    }
    fixture_stop();
}
END_TEST

/* The policy's bounds hold on what is given; what is left out is for the engine to fill in. */
START_TEST(what_is_left_out_stays_left_out)
{
    char *body;
    fixture_start();
    fake.policy.requests.temperature_max = 0.5;
    fake.policy.requests.top_p_min = 0.9;
    fake.policy.requests.max_output = 9;
    front_refresh(fixture.front);
    ck_assert_int_eq(ask("POST", CHAT, HI "}", NULL), 200);
    ck_assert(isnan(fake.temperature) && !fake.has_max_tokens && fake.max_tokens == 9);
    ck_assert_int_eq(ask("POST", CHAT, HI ",\"temperature\":0.5,\"max_tokens\":3}", NULL), 200);
    ck_assert(fake.temperature == 0.5 && fake.has_max_tokens && fake.max_tokens == 3);
    ck_assert_int_eq(ask("POST", CHAT, HI ",\"temperature\":0.6}", &body), 400);
    ck_assert_ptr_nonnull(strstr(body, "\"param\":\"temperature\""));
    free(body);
    ck_assert_int_eq(ask("POST", CHAT, HI ",\"top_p\":0.8}", &body), 400);
    ck_assert_ptr_nonnull(strstr(body, "\"param\":\"top_p\""));
    free(body);
    fixture_stop();
}
END_TEST

START_TEST(engine_errors_reach_the_client)
{
    char *body;
    fixture_start();
    atomic_store(&fake.part, FAKE_ERROR);
    ck_assert_int_eq(ask("POST", CHAT, HI "}", &body), 400);
    ck_assert_ptr_nonnull(strstr(body, "context_length_exceeded"));
    free(body);
    ck_assert_int_eq(ask("POST", CHAT, HI ",\"stream\":true}", &body), 400);
    free(body);
    ck_assert_int_eq(ask("POST", RESPONSES, "{\"model\":\"tiny\",\"input\":\"x\"}", &body), 400);
    ck_assert_ptr_nonnull(strstr(body, "\"param\":\"input\"")); /* named as the caller named it */
    free(body);
    atomic_store(&fake.part, FAKE_FORMAT);
    ck_assert_int_eq(ask("POST", CHAT, HI ",\"guided_regex\":\"(a\"}", &body), 400);
    ck_assert_ptr_nonnull(strstr(body, "\"param\":\"guided_regex\""));
    free(body);
    atomic_store(&fake.part, FAKE_LOST);
    ck_assert_int_eq(ask("POST", CHAT, HI "}", &body), 503);
    free(body);
    ck_assert_int_eq(ask("POST", CHAT, HI ",\"stream\":true}", &body), 200);
    ck_assert_ptr_nonnull(strstr(body, "data: {\"error\""));
    ck_assert_ptr_nonnull(strstr(body, "engine_unavailable"));
    free(body);
    fixture_stop();
}
END_TEST

static bool is_cancelled(void)
{
    return atomic_load(&fake.cancelled) == 1;
}

/* A client that leaves without a word while its answer is being made. */
START_TEST(cancels_when_the_client_leaves)
{
    static const enum fake_part parts[] = {FAKE_SILENT, FAKE_HANG, FAKE_SILENT, FAKE_HANG};
    char why[CLIENT_WHY_MAX];
    fixture_start();
    for (size_t i = 0; i < 4; i++) {
        struct client *c = dial();
        struct client_header h = {"content-type", "application/json"};
        atomic_store(&fake.cancelled, 0);
        atomic_store(&fake.part, parts[i]);
        ck_assert(client_send(c, "POST", CHAT, &h, 1, span_str(i < 2 ? HI ",\"stream\":true}" : HI "}"), 1000, why));
        usleep(100000);
        ck_assert_uint_eq(atomic_load(&fake.submitted), i + 1);
        ck_assert_uint_eq(atomic_load(&fake.cancelled), 0);
        client_close(c);
        ck_assert(eventually(is_cancelled));
    }
    fixture_stop();
}
END_TEST

START_TEST(attested_connection_uses_only_its_engines)
{
    char why[CLIENT_WHY_MAX] = "";
    struct writer w = writer_with_max(4096);
    fixture_start();
    struct client *c = dial();
    ck_assert(client_send(c, "POST", "/.well-known/airlock/attest", NULL, 0, span_str("bad"), 1000, why));
    ck_assert_int_eq(client_head(c, 1000, why)->status, 400);
    ck_assert(client_body_all(c, 1000, &w, why));
    writer_reset(&w);
    ck_assert(client_send(c, "POST", "/.well-known/airlock/attest", NULL, 0, span_str("challenge"), 1000, why));
    ck_assert_int_eq(client_head(c, 1000, why)->status, 200);
    ck_assert(client_body_all(c, 1000, &w, why));
    ck_assert(span_is(writer_span(&w), "envelope"));
    writer_reset(&w);
    ck_assert(client_send(c, "POST", CHAT, NULL, 0, span_str(HI "}"), 1000, why));
    ck_assert_int_eq(client_head(c, 3000, why)->status, 200);
    ck_assert_uint_eq(fake.allowed_count, 1);
    ck_assert_uint_eq(fake.allowed[0][0], 7);
    client_close(c);
    /* another connection was shown nothing: any engine will do */
    ck_assert_int_eq(ask("POST", CHAT, HI "}", NULL), 200);
    ck_assert_uint_eq(fake.allowed_count, 0);
    writer_release(&w);
    fixture_stop();
}
END_TEST

START_TEST(challenges_have_a_budget)
{
    int limited = 0;
    fixture_start();
    for (int i = 0; i < 40; i++)
        limited += ask("POST", "/.well-known/airlock/attest", "challenge", NULL) == 429;
    ck_assert_int_ge(limited, 8);
    ck_assert_uint_le(atomic_load(&fake.attested), 32);
    fixture_stop();
}
END_TEST

START_TEST(says_when_it_is_not_ready)
{
    char *body;
    fixture_start();
    fake.not_ready = true;
    ck_assert_int_eq(ask("GET", "/health", NULL, &body), 503);
    free(body);
    ck_assert_int_eq(ask("POST", CHAT, HI "}", &body), 503);
    ck_assert_ptr_nonnull(strstr(body, "loading"));
    free(body);
    fixture_stop();
}
END_TEST

/* One tenant, whose answers may have so many tokens; 0: any number. */
static void set_tenant(uint32_t max_output)
{
    struct policy_tenants t = {.version = 1, .issued = 1, .expires = 2000000000, .count = 1};
    t.tenant = calloc(1, sizeof *t.tenant);
    strcpy(t.tenant->name, "acme");
    t.tenant->key_count = 1;
    t.tenant->endpoints = POLICY_ENDPOINTS_ALL;
    t.tenant->features = POLICY_FEATURES_ALL;
    t.tenant->max_output = max_output;
    policy_api_key_hash(t.tenant->key_hash[0], t.tenant->salt, span_str("sk-right"));
    front_set_tenants(fixture.front, &t);
}

/* One tenant, who may use so many tokens a minute; 0: any number. */
static void fixture_start_with_tenant(uint32_t tokens_per_minute)
{
    fixture_start();
    fake.policy.tenants.key_count = 1;
    fake.policy.tenants.tokens_per_minute = tokens_per_minute;
    front_refresh(fixture.front);
    set_tenant(0);
}

START_TEST(asks_for_a_key)
{
    char why[CLIENT_WHY_MAX] = "";
    static const struct {
        const char *value;
        int status;
    } cases[] = {{"Bearer sk-right", 200}, {"bearer  sk-right", 200}, {"Bearer sk-wrong", 401}, {"sk-right", 401}};
    fixture_start_with_tenant(0);
    ck_assert_int_eq(ask("GET", "/v1/models", NULL, NULL), 401);
    ck_assert_int_eq(ask("GET", "/health", NULL, NULL), 200);
    ck_assert_int_eq(ask("GET", "/metrics", NULL, NULL), 401);
    for (size_t i = 0; i < 4; i++) {
        struct client *c = dial();
        struct client_header h = {"authorization", cases[i].value};
        ck_assert(client_send(c, "POST", CHAT, &h, 1, span_str(HI "}"), 1000, why));
        ck_assert_int_eq(client_head(c, 3000, why)->status, cases[i].status);
        client_close(c);
    }
    fixture_stop();
}
END_TEST

static bool is_ended(void)
{
    return atomic_load(&fake.ended) == 1;
}

/* Three tokens of prompt and two of an answer that nobody waited for are over a quota of four. */
START_TEST(who_leaves_early_has_used_what_came)
{
    static const struct client_header h[] = {{"content-type", "application/json"},
                                             {"authorization", "Bearer sk-right"}};
    char why[CLIENT_WHY_MAX] = "";
    fixture_start_with_tenant(4);
    for (int i = 0; i < 2; i++) {
        struct client *c = dial();
        struct span piece;
        atomic_store(&fake.part, i == 0 ? FAKE_HANG : FAKE_HELLO);
        ck_assert(client_send(c, "POST", CHAT, h, 2, span_str(HI ",\"stream\":true}"), 1000, why));
        ck_assert_int_eq(client_head(c, 3000, why)->status, i == 0 ? 200 : 429);
        for (size_t got = 0; i == 0 && got < 200; got += piece.len) /* role, then the text */
            ck_assert(client_body(c, 3000, &piece, why));
        client_close(c);
        ck_assert(eventually(is_ended));
        usleep(50000); /* the loop's own end of the job */
    }
    fixture_stop();
}
END_TEST

static void sealed_body(struct writer *w, uint32_t max_tokens)
{
    struct verifier_sealed_head head = {
        .epoch = 1, .endpoint = span_str(CHAT), .model = span_str("tiny"), .max_tokens = max_tokens};
    struct writer bytes = writer_with_max(VERIFIER_SEALED_HEAD_MAX);
    static const uint8_t opaque[VERIFIER_KEY_LEN + 64];

    verifier_sealed_head_encode(&bytes, &head);
    writer_lp(w, writer_span(&bytes));
    writer_bytes(w, span_of(opaque, sizeof opaque));
    ck_assert(writer_ok(w));
    writer_release(&bytes);
}

/* Nobody outside the engine sees how much it generates: without a limit in the head that may be the whole context. */
START_TEST(a_sealed_request_without_a_limit_is_charged_the_context)
{
    static const struct client_header h[] = {{"content-type", "application/airlock-sealed"},
                                             {"authorization", "Bearer sk-right"}};
    struct writer body = writer_with_max(4096);
    char why[CLIENT_WHY_MAX] = "";
    fixture_start_with_tenant(1000);
    sealed_body(&body, 0);
    atomic_store(&fake.part, FAKE_HELLO);
    for (int i = 0; i < 2; i++) {
        struct client *c = dial();
        ck_assert(client_send(c, "POST", CHAT, h, 2, writer_span(&body), 1000, why));
        ck_assert_int_eq(client_head(c, 3000, why)->status, i == 0 ? 200 : 429);
        client_close(c);
        ck_assert(eventually(is_ended));
        usleep(50000); /* the loop's own end of the job */
    }
    writer_release(&body);
    fixture_stop();
}
END_TEST

/* The engine that opens it knows no tenant, so a tenant's own bound holds only on what the head says. */
START_TEST(a_sealed_request_without_a_limit_is_not_beyond_the_tenants)
{
    static const struct client_header h[] = {{"content-type", "application/airlock-sealed"},
                                             {"authorization", "Bearer sk-right"}};
    static const struct {
        uint32_t tenant, asked;
        int status;
    } cases[] = {{100, 0, 400}, {100, 101, 400}, {100, 100, 200}, {0, 0, 200}};
    char why[CLIENT_WHY_MAX] = "";
    fixture_start_with_tenant(0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct writer body = writer_with_max(4096);
        struct client *c = dial();
        set_tenant(cases[i].tenant);
        sealed_body(&body, cases[i].asked);
        ck_assert(client_send(c, "POST", CHAT, h, 2, writer_span(&body), 1000, why));
        ck_assert_int_eq(client_head(c, 3000, why)->status, cases[i].status);
        client_close(c);
        writer_release(&body);
    }
    fixture_stop();
}
END_TEST

/* No key: refused while the body is still far away. */
START_TEST(refuses_before_the_body)
{
    static const char head[] = "POST " CHAT " HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{";
    bool closed;
    char *answer;
    fixture_start_with_tenant(0);
    struct client *c = dial();
    answer = raw(c, head, sizeof head - 1, 1000, &closed);
    ck_assert_ptr_nonnull(strstr(answer, "HTTP/1.1 401"));
    ck_assert_ptr_nonnull(strstr(answer, "invalid_api_key"));
    ck_assert(closed);
    free(answer);
    client_close(c);
    fixture_stop();
}
END_TEST

/* The descriptors stay: the test framework talks through one of them. */
static void lock_in(void)
{
    int keep[256];
    struct sandbox_config config = {.profile = SANDBOX_PROXY, .keep = keep};
    struct sandbox_problem why = {0};
    for (int fd = 3; fd < 256; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            keep[config.keep_count++] = fd;
    if (sandbox_enter(&config, &why) != 0 || sandbox_seal(&config, &why) != 0) {
        fprintf(stderr, "%s\n", why.text);
        _exit(2);
    }
}

static int serve_locked_in(void)
{
    char *body = NULL;
    int good = 0;
    fixture.before_listening = lock_in;
    fixture_start();
    for (int i = 0; i < 3; i++) {
        good += ask("POST", CHAT, i ? HI ",\"stream\":true}" : HI "}", &body) == 200 && strstr(body, "Hello");
        free(body);
    }
    good += ask("GET", "/metrics", NULL, NULL) == 200;
    front_drain(fixture.front);
    front_stop(fixture.front);
    return good == 4 ? 0 : 1;
}

/* Everything above works behind the walls that airlock-proxy builds around itself. */
START_TEST(serves_from_inside_its_sandbox)
{
    pid_t pid = fork();
    int status;
    if (pid == 0)
        _exit(serve_locked_in());
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
}
END_TEST

START_TEST(drains)
{
    fixture_start();
    struct client *idle = dial();
    bool closed;
    char *answer = raw(idle, PING, strlen(PING), 100, &closed);
    ck_assert(!closed);
    free(answer);
    front_drain(fixture.front);
    answer = raw(idle, "", 0, 1000, &closed);
    ck_assert(closed);
    free(answer);
    client_close(idle);
    /* newcomers are told, whatever they want */
    ck_assert_int_eq(ask("GET", "/health", NULL, &answer), 503);
    ck_assert_ptr_nonnull(strstr(answer, "draining"));
    free(answer);
    ck_assert_int_eq(ask("POST", CHAT, HI "}", NULL), 503);
    ck_assert_int_eq(ask("POST", "/.well-known/airlock/attest", "challenge", NULL), 503);
    fixture_stop();
}
END_TEST

/* tunnel/ and policy/ cannot see each other: here their two orders are held side by side. */
START_TEST(features_and_endpoints_have_the_policys_bits)
{
    static struct tunnel_request q;
    static const struct {
        enum tunnel_task task;
        enum policy_endpoint endpoint;
    } tasks[] = {{TUNNEL_CHAT, POLICY_CHAT},
                 {TUNNEL_COMPLETION, POLICY_COMPLETIONS},
                 {TUNNEL_EMBED, POLICY_EMBEDDINGS},
                 {TUNNEL_TOKENIZE, POLICY_TOKENIZE},
                 {TUNNEL_DETOKENIZE, POLICY_DETOKENIZE}};
    static const struct {
        enum tunnel_format format;
        uint32_t bit;
    } formats[] = {{TUNNEL_FORMAT_TEXT, 0},
                   {TUNNEL_FORMAT_JSON, POLICY_JSON},
                   {TUNNEL_FORMAT_SCHEMA, POLICY_SCHEMA},
                   {TUNNEL_FORMAT_REGEX, POLICY_REGEX},
                   {TUNNEL_FORMAT_GRAMMAR, POLICY_GRAMMAR},
                   {TUNNEL_FORMAT_CHOICE, POLICY_GUIDED_CHOICE}};
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        ck_assert_uint_eq(1u << tasks[i].task, tasks[i].endpoint);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        tunnel_request_defaults(&q);
        q.format = formats[i].format;
        ck_assert_uint_eq(tunnel_request_features(&q), formats[i].bit);
    }
#define USES(set, bit)                                                                                                 \
    tunnel_request_defaults(&q), set;                                                                                  \
    ck_assert_uint_eq(tunnel_request_features(&q), bit)
    USES(q.stream = true, POLICY_STREAM);
    USES(q.tools = span_str("[]"), POLICY_TOOLS);
    USES(q.logprobs = 0, POLICY_LOGPROBS);
    USES(q.prompt_logprobs = 0, POLICY_PROMPT_LOGPROBS);
    USES(q.echo = true, POLICY_ECHO);
    USES(q.has_seed = true, POLICY_SEED);
    USES(q.bias_count = 1, POLICY_LOGIT_BIAS);
    USES(q.allowed_ids.len = 4, POLICY_LOGIT_BIAS);
    USES(q.bad_word_count = 1, POLICY_LOGIT_BIAS);
    USES(q.template_kwargs = span_str("{}"), POLICY_TEMPLATE_ARGS);
    USES((q.prompt_count = 2, q.prompt[1].is_ids = true), POLICY_TOKEN_PROMPTS);
#undef USES
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, features_and_endpoints_have_the_policys_bits);
    tcase_add_test(tests, answers_a_chat);
    tcase_add_test(tests, streams_a_chat_and_keeps_the_connection);
    tcase_add_test(tests, answers_responses);
    tcase_add_test(tests, refuses_by_name);
    tcase_add_test(tests, what_is_left_out_stays_left_out);
    tcase_add_test(tests, engine_errors_reach_the_client);
    tcase_add_test(tests, cancels_when_the_client_leaves);
    tcase_add_test(tests, attested_connection_uses_only_its_engines);
    tcase_add_test(tests, challenges_have_a_budget);
    tcase_add_test(tests, says_when_it_is_not_ready);
    tcase_add_test(tests, asks_for_a_key);
    tcase_add_test(tests, who_leaves_early_has_used_what_came);
    tcase_add_test(tests, a_sealed_request_without_a_limit_is_charged_the_context);
    tcase_add_test(tests, a_sealed_request_without_a_limit_is_not_beyond_the_tenants);
    tcase_add_test(tests, refuses_before_the_body);
    tcase_add_test(tests, drains);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* sanitizers do what the filter refuses */
    tcase_add_test(tests, serves_from_inside_its_sandbox);
#endif
}
RUN("proxy_front", add_tests)
