/* client.c - a client of its own, over OpenSSL: proves proxy and engines on one connection, then sends a prompt on it.
 * usage: client HOST PORT ACCEPTANCE-FILE MODEL PROMPT (plain text), the API key on standard input.
 * Exit codes: 0 answered, 1 refused and nothing sent, 2 could not check. */
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "verifier/airlock.h"

static char buffer[1 << 20]; /* an answer's body: an envelope has at most 1 MiB */

/* One POST on `tls`; the answer's body into `buffer`. Its length, -1 when the answer is not a whole 200. */
static long post(SSL *tls, const char *path, const char *type, const char *key, const void *body, size_t len)
{
    char head[4096] = "";
    const char *field;
    size_t n = 0, have = 0, piece, want;
    int size = snprintf(head, sizeof head,
                        "POST %s HTTP/1.1\r\nHost: airlock\r\nContent-Type: %s\r\n%s%s%sContent-Length: %zu\r\n\r\n",
                        path, type, key ? "Authorization: Bearer " : "", key ? key : "", key ? "\r\n" : "", len);

    if (size < 0 || size >= (int)sizeof head || SSL_write(tls, head, size) <= 0 || SSL_write(tls, body, (int)len) <= 0)
        return -1;
    for (memset(head, 0, sizeof head); n < sizeof head - 1 && !strstr(head, "\r\n\r\n"); n++)
        if (SSL_read(tls, head + n, 1) != 1)
            return -1;
    field = strcasestr(head, "\r\ncontent-length:");
    want = field ? strtoul(field + 17, NULL, 10) : 0;
    while (have < want && want <= sizeof buffer && SSL_read_ex(tls, buffer + have, want - have, &piece) == 1)
        have += piece;
    return strncmp(head, "HTTP/1.1 200 ", 13) == 0 && want > 0 && have == want ? (long)have : -1;
}

/* Challenge the far end of `tls` and judge its answer. 0 accepted, 1 refused, 2 could not check. */
static int verify(SSL *tls, const struct airlock_rules *rules, const char *model)
{
    uint8_t nonce[32], challenge[AIRLOCK_CHALLENGE_MAX], context[SHA256_DIGEST_LENGTH], exporter[32], *spki = NULL;
    struct airlock_ask ask = {.verifier = AIRLOCK_CLIENT,
                              .attester = AIRLOCK_PROXY,
                              .nonce = nonce,
                              .engines = true,
                              .model = model,
                              .engines_max = 8};
    struct airlock_verdict verdict = {.result.stage = 1};
    struct airlock_claims *claims;
    X509 *cert = SSL_get0_peer_certificate(tls);
    size_t len;
    long got;
    int spki_len = cert ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &spki) : -1;

    if (RAND_bytes(nonce, sizeof nonce) != 1 || airlock_challenge(&ask, challenge, sizeof challenge, &len) != 0 ||
        (got = post(tls, "/.well-known/airlock/attest", "application/msgpack", NULL, challenge, len)) < 0 ||
        spki_len < 0 || !SHA256(challenge, len, context) ||
        SSL_export_keying_material(tls, exporter, sizeof exporter, AIRLOCK_EXPORTER_LABEL,
                                   strlen(AIRLOCK_EXPORTER_LABEL), context, sizeof context, 1) != 1)
        return OPENSSL_free(spki), 2;
    claims = airlock_check(&(struct airlock_input){.envelope = {(uint8_t *)buffer, (size_t)got},
                                                   .challenge = {challenge, len},
                                                   .spki = {spki, (size_t)spki_len},
                                                   .exporter = exporter,
                                                   .verifier = AIRLOCK_CLIENT,
                                                   .attester = AIRLOCK_PROXY,
                                                   .session = {.tls13 = SSL_version(tls) == TLS1_3_VERSION,
                                                               .finished = SSL_is_init_finished(tls),
                                                               .resumed = SSL_session_reused(tls)},
                                                   .now = (uint64_t)time(NULL)},
                           &verdict.result);
    if (claims && airlock_judge(claims, rules, NULL, (uint64_t)time(NULL), &verdict) == 0)
        verdict.result.stage = 0;
    else
        fprintf(stderr, "refused at stage %d: %s\nremedy: %s\n", verdict.result.stage, verdict.result.code,
                verdict.result.remedy);
    airlock_claims_free(claims);
    OPENSSL_free(spki);
    return verdict.result.stage == 0 && verdict.valid_until > 0 ? 0 : 1;
}

static struct airlock_rules *read_rules(const char *path)
{
    struct airlock_result why;
    FILE *f = fopen(path, "rb");
    size_t len = f ? fread(buffer, 1, sizeof buffer, f) : 0;

    if (f)
        fclose(f);
    return len ? airlock_rules_parse((struct airlock_span){(uint8_t *)buffer, len}, &why) : NULL;
}

int main(int argc, char **argv)
{
    char key[256] = "", body[4096];
    struct airlock_rules *rules = argc == 6 ? read_rules(argv[3]) : NULL;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method()); /* attestation names the key: no authority is asked */
    BIO *bio = ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ? BIO_new_ssl_connect(ctx) : NULL;
    SSL *tls = NULL;
    int code = 2;
    long got;

    if (rules && bio && fgets(key, sizeof key, stdin) && BIO_set_conn_hostname(bio, argv[1]) == 1 &&
        BIO_set_conn_port(bio, argv[2]) == 1 && BIO_do_handshake(bio) == 1 && BIO_get_ssl(bio, &tls) == 1)
        code = verify(tls, rules, argv[4]);
    if (code == 0) { /* from here on, and on this connection only */
        int len = snprintf(body, sizeof body,
                           "{\"model\":\"%s\",\"max_tokens\":16,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
                           argv[4], argv[5]);
        key[strcspn(key, "\r\n")] = 0;
        got = len > 0 && len < (int)sizeof body
                  ? post(tls, "/v1/chat/completions", "application/json", key, body, (size_t)len)
                  : -1;
        code = got > 0 && fwrite(buffer, 1, (size_t)got, stdout) == (size_t)got ? 0 : 2;
    }
    OPENSSL_cleanse(key, sizeof key);
    BIO_free_all(bio);
    SSL_CTX_free(ctx);
    airlock_rules_free(rules);
    return code;
}
