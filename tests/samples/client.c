/* client.c - a client of its own, over OpenSSL: proves proxy and engines on one connection, then sends a prompt on it.
 * usage: client HOST PORT ACCEPTANCE-FILE MODEL PROMPT (plain text), the API key on standard input.
 * Exit codes: 0 answered, 1 refused and nothing sent, 2 could not check. */
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "verifier/airlock_openssl.h"

static char buffer[1 << 20]; /* an answer's body: an envelope has at most 1 MiB */

/* One POST; the answer's body into `buffer`. Its length, 0 when the answer is not a whole 200. */
static size_t post(BIO *io, const char *path, const char *headers, const void *body, size_t len)
{
    char line[1024];
    size_t have = 0, want = 0;
    BIO_printf(io, "POST %s HTTP/1.1\r\nHost: airlock\r\n%sContent-Length: %zu\r\n\r\n", path, headers, len);
    if (BIO_write(io, body, (int)len) != (int)len || BIO_flush(io) != 1 || BIO_gets(io, line, sizeof line) <= 0)
        return 0;
    bool good = strncmp(line, "HTTP/1.1 200 ", 13) == 0;
    while (BIO_gets(io, line, sizeof line) > 2)
        if (strncasecmp(line, "content-length:", 15) == 0)
            want = strtoul(line + 15, NULL, 10);
    for (int n = 1; n > 0 && have < want && want <= sizeof buffer; have += n > 0 ? (size_t)n : 0)
        n = BIO_read(io, buffer + have, (int)(want - have));
    return good && have == want ? want : 0;
}

/* Challenge the far end and judge its answer, engines included. 0 accepted, 1 refused, 2 could not check. */
static int verify(BIO *io, SSL *tls, const struct airlock_rules *rules, const char *model)
{
    uint8_t nonce[32], challenge[AIRLOCK_CHALLENGE_MAX];
    struct airlock_ask ask = {sizeof ask, AIRLOCK_CLIENT, AIRLOCK_PROXY, nonce, true, model, 8, NULL, 0};
    struct airlock_input in = {
        .size = sizeof in, .verifier = AIRLOCK_CLIENT, .attester = AIRLOCK_PROXY, .now = (uint64_t)time(NULL)};
    struct airlock_openssl room = {.spki = NULL};
    struct airlock_verdict verdict = {.size = sizeof verdict, .result.stage = 1};
    in.challenge.data = challenge;
    in.envelope.data = (uint8_t *)buffer;
    if (RAND_bytes(nonce, sizeof nonce) != 1 ||
        airlock_challenge(&ask, challenge, sizeof challenge, &in.challenge.len) != 0 ||
        !(in.envelope.len = post(io, "/.well-known/airlock/attest", "Content-Type: application/msgpack\r\n", challenge,
                                 in.challenge.len)) ||
        airlock_openssl(tls, &in, &room) != 0)
        return 2;
    struct airlock_claims *claims = airlock_check(&in, &verdict.result);
    bool yes = claims && airlock_judge(claims, rules, NULL, in.now, &verdict) == 0;
    if (!yes)
        fprintf(stderr, "refused at stage %d: %s\n", verdict.result.stage, verdict.result.code);
    airlock_claims_free(claims);
    OPENSSL_free(room.spki);
    return yes ? 0 : 1;
}

int main(int argc, char **argv)
{
    char key[256] = "", headers[512], body[4096];
    FILE *f = argc == 6 ? fopen(argv[3], "rb") : NULL;
    size_t len = f ? fread(buffer, 1, sizeof buffer, f) : 0;
    struct airlock_rules *rules = airlock_rules_parse((struct airlock_span){(uint8_t *)buffer, len}, NULL);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method()); /* attestation names the key: no authority is asked */
    BIO *bio = ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ? BIO_new_ssl_connect(ctx) : NULL, *io = NULL;
    SSL *tls = NULL;
    int code = 2;
    if (rules && bio && fgets(key, sizeof key, stdin) && BIO_set_conn_hostname(bio, argv[1]) == 1 &&
        BIO_set_conn_port(bio, argv[2]) == 1 && BIO_do_handshake(bio) == 1 && BIO_get_ssl(bio, &tls) == 1 &&
        (io = BIO_push(BIO_new(BIO_f_buffer()), bio)) != NULL)
        code = verify(io, tls, rules, argv[4]);
    if (code == 0) { /* from here on, and on this connection only */
        snprintf(headers, sizeof headers, "Content-Type: application/json\r\nAuthorization: Bearer %.*s\r\n",
                 (int)strcspn(key, "\r\n"), key);
        int size =
            snprintf(body, sizeof body,
                     "{\"model\":\"%s\",\"max_tokens\":16,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
                     argv[4], argv[5]);
        len = size < (int)sizeof body ? post(io, "/v1/chat/completions", headers, body, (size_t)size) : 0;
        code = len > 0 && fwrite(buffer, 1, len, stdout) == len ? 0 : 2;
    }
    OPENSSL_cleanse(key, sizeof key);
    OPENSSL_cleanse(headers, sizeof headers);
    if (f)
        fclose(f);
    BIO_free_all(io ? io : bio);
    SSL_CTX_free(ctx);
    airlock_rules_free(rules);
    return code;
}
