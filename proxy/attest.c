#include "proxy/attest.h"

#include "proxy/tls.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <time.h>

static bool fetch_envelope(struct client *c, struct span challenge, unsigned timeout_ms, struct writer *envelope,
                           char why[CLIENT_WHY_MAX])
{
    const struct client_header type = {"content-type", "application/msgpack"};
    const struct response *r;

    if (!client_send(c, "POST", "/.well-known/airlock/attest", &type, 1, challenge, timeout_ms, why) ||
        !(r = client_head(c, timeout_ms, why)) || !client_body_all(c, timeout_ms, envelope, why))
        return false;
    if (r->status == 200)
        return true;
    snprintf(why, CLIENT_WHY_MAX, "the proxy did not prove itself: it answered the challenge with status %d",
             r->status);
    return false;
}

static void judge(const struct attest_ask *ask, struct client *c, struct span challenge, struct span envelope,
                  struct attest_outcome *out)
{
    struct writer spki = writer_with_max(TLS_SPKI_MAX);
    uint8_t exporter[TLS_EXPORTER_LEN];
    uint64_t now = (uint64_t)time(NULL);
    struct airlock_input in = {
        .envelope = {envelope.data, envelope.len},
        .challenge = {challenge.data, challenge.len},
        .exporter = exporter,
        .session = client_session(c),
        .verifier = AIRLOCK_CLIENT,
        .attester = AIRLOCK_PROXY,
        .now = now,
        .previous = ask->previous,
    };

    if (tls_peer_spki(client_ssl(c), &spki) && tls_exporter(client_ssl(c), challenge, exporter)) {
        in.spki = (struct airlock_span){spki.data, spki.len};
        out->answered = true;
        out->claims = airlock_check(&in, &out->verdict.result);
        out->accepted = out->claims && airlock_judge(out->claims, ask->rules, ask->seen, now, &out->verdict) == 0;
    } else {
        snprintf(out->why, sizeof out->why, "this TLS session cannot be bound to an attestation");
    }
    writer_release(&spki);
}

bool attest_connection(struct client *c, const struct attest_ask *ask, struct attest_outcome *out)
{
    struct writer envelope = writer_with_max(ATTEST_ENVELOPE_MAX);
    uint8_t nonce[32], challenge[AIRLOCK_CHALLENGE_MAX];
    struct airlock_ask what = {.verifier = AIRLOCK_CLIENT,
                               .attester = AIRLOCK_PROXY,
                               .nonce = nonce,
                               .engines = true,
                               .model = ask->model,
                               .engines_max = 8};
    size_t len;

    memset(out, 0, sizeof *out);
    out->verdict.result.engine = -1;
    if (RAND_priv_bytes(nonce, sizeof nonce) != 1 || airlock_challenge(&what, challenge, sizeof challenge, &len) != 0)
        snprintf(out->why, sizeof out->why, "cannot make a challenge");
    else if (fetch_envelope(c, span_of(challenge, len), ask->timeout_ms, &envelope, out->why))
        judge(ask, c, span_of(challenge, len), writer_span(&envelope), out);
    writer_release(&envelope);
    return out->accepted;
}

void attest_outcome_release(struct attest_outcome *out)
{
    airlock_claims_free(out->claims);
    out->claims = NULL;
}
