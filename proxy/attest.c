#include "proxy/attest.h"

#include "policy/config.h"
#include "proxy/tls.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <time.h>

static bool fetch_envelope(struct client *c, const uint8_t *engine, struct span challenge, unsigned timeout_ms,
                           struct writer *envelope, char why[CLIENT_WHY_MAX])
{
    const struct client_header type = {"content-type", "application/msgpack"};
    char path[128] = "/.well-known/airlock/attest?engine=";
    const struct response *r;

    if (engine)
        policy_hex_print(span_of(engine, AIRLOCK_KEY_LEN), path + strlen(path));
    else
        *strchr(path, '?') = 0;
    if (!client_send(c, "POST", path, &type, 1, challenge, timeout_ms, why) || !(r = client_head(c, timeout_ms, why)) ||
        !client_body_all(c, timeout_ms, envelope, why))
        return false;
    if (r->status == 200)
        return true;
    snprintf(why, CLIENT_WHY_MAX, "the %s did not prove itself: the challenge was answered with status %d",
             engine ? "engine" : "proxy", r->status);
    return false;
}

struct attest_record attest_record_empty(void)
{
    return (struct attest_record){.challenge = writer_with_max(AIRLOCK_CHALLENGE_MAX),
                                  .envelope = writer_with_max(ATTEST_ENVELOPE_MAX),
                                  .spki = writer_with_max(TLS_SPKI_MAX)};
}

void attest_record_release(struct attest_record *r)
{
    writer_release(&r->challenge);
    writer_release(&r->envelope);
    writer_release(&r->spki);
}

bool attest_fetch(struct client *c, const uint8_t *engine, const char *model, unsigned timeout_ms,
                  struct attest_record *out, char why[CLIENT_WHY_MAX])
{
    uint8_t nonce[32], challenge[AIRLOCK_CHALLENGE_MAX];
    struct airlock_ask what = {.size = sizeof what,
                               .verifier = AIRLOCK_CLIENT,
                               .attester = engine ? AIRLOCK_ENGINE : AIRLOCK_PROXY,
                               .nonce = nonce,
                               .engines = !engine,
                               .model = engine ? NULL : model,
                               .engines_max = engine ? 0 : 8};
    size_t len;

    if (RAND_priv_bytes(nonce, sizeof nonce) != 1 || airlock_challenge(&what, challenge, sizeof challenge, &len) != 0) {
        snprintf(why, CLIENT_WHY_MAX, "cannot make a challenge");
        return false;
    }
    writer_bytes(&out->challenge, span_of(challenge, len));
    out->sealed = engine != NULL;
    if (!fetch_envelope(c, engine, writer_span(&out->challenge), timeout_ms, &out->envelope, why))
        return false;
    out->session = client_session(c);
    out->now = (uint64_t)time(NULL);
    if (out->sealed)
        return true;
    if (tls_peer_spki(client_ssl(c), &out->spki) &&
        tls_exporter(client_ssl(c), writer_span(&out->challenge), out->exporter))
        return true;
    snprintf(why, CLIENT_WHY_MAX, "this TLS session cannot be bound to an attestation");
    return false;
}

static struct airlock_span public_span(const struct writer *w)
{
    return (struct airlock_span){w->data, w->len};
}

bool attest_judge(const struct attest_record *r, const struct attest_ask *ask, struct attest_outcome *out)
{
    struct airlock_input in = {
        .size = sizeof in,
        .envelope = public_span(&r->envelope),
        .challenge = public_span(&r->challenge),
        .spki = public_span(&r->spki),
        .exporter = r->sealed ? NULL : r->exporter,
        .session = r->session,
        .verifier = AIRLOCK_CLIENT,
        .attester = r->sealed ? AIRLOCK_ENGINE : AIRLOCK_PROXY,
        .now = r->now,
        .previous = ask->previous,
        .cache = ask->cache,
        .collateral = {ask->collateral.data, ask->collateral.len},
    };

    *out = attest_outcome_empty();
    out->answered = true;
    out->claims = airlock_check(&in, &out->verdict.result);
    out->accepted = out->claims && airlock_judge(out->claims, ask->rules, ask->seen, r->now, &out->verdict) == 0;
    return out->accepted;
}

struct attest_outcome attest_outcome_empty(void)
{
    return (struct attest_outcome){.verdict = {.size = sizeof(struct airlock_verdict), .result.engine = -1}};
}

bool attest_connection(struct client *c, const struct attest_ask *ask, struct attest_outcome *out)
{
    struct attest_record r = attest_record_empty();
    char why[CLIENT_WHY_MAX] = "";

    *out = attest_outcome_empty();
    if (attest_fetch(c, ask->engine, ask->model, ask->timeout_ms, &r, why))
        attest_judge(&r, ask, out);
    snprintf(out->why, sizeof out->why, "%s", why);
    attest_record_release(&r);
    return out->accepted;
}

void attest_outcome_release(struct attest_outcome *out)
{
    airlock_claims_free(out->claims);
    out->claims = NULL;
}
