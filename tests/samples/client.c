/* client.c - a client of its own, over OpenSSL: proves proxy and engines on one connection, then sends a prompt on it.
 * usage: client HOST PORT ACCEPTANCE-FILE MODEL PROMPT (plain text), the API key on standard input.
 * Exit codes: 0 answered, 1 refused and nothing sent, 2 could not check. */
#include <stdio.h>

#include "verifier/airlock_openssl.h"

static uint8_t buffer[1 << 20]; /* the acceptance file, the envelope, the answer */

int main(int argc, char **argv)
{
    char key[256] = "", headers[512] = "", body[4096];
    struct airlock_verdict verdict = {.size = sizeof verdict};
    FILE *f = argc == 6 ? fopen(argv[3], "rb") : NULL;
    size_t len = f ? fread(buffer, 1, sizeof buffer, f) : 0;
    struct airlock_rules *rules = airlock_rules_parse((struct airlock_span){buffer, len}, NULL);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method()); /* attestation names the key: no authority is asked */
    BIO *bio = ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ? BIO_new_ssl_connect(ctx) : NULL, *io = NULL;
    SSL *tls = NULL;
    int code = 2;
    if (rules && bio && fgets(key, sizeof key, stdin) && BIO_set_conn_hostname(bio, argv[1]) == 1 &&
        BIO_set_conn_port(bio, argv[2]) == 1 && BIO_do_handshake(bio) == 1 && BIO_get_ssl(bio, &tls) == 1 &&
        (io = BIO_push(BIO_new(BIO_f_buffer()), bio)) != NULL)
        code = airlock_openssl_verify(io, tls, rules, argv[4], buffer, sizeof buffer, &verdict);
    if (code == 1)
        fprintf(stderr, "refused at stage %d: %s\n", verdict.result.stage, verdict.result.code);
    if (code == 0) { /* from here on, and on this connection only */
        snprintf(headers, sizeof headers, "Content-Type: application/json\r\nAuthorization: Bearer %.*s\r\n",
                 (int)strcspn(key, "\r\n"), key);
        int size =
            snprintf(body, sizeof body,
                     "{\"model\":\"%s\",\"max_tokens\":16,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
                     argv[4], argv[5]);
        struct airlock_span json = {(uint8_t *)body, size < (int)sizeof body ? (size_t)size : 0};
        len = airlock_openssl_post(io, "/v1/chat/completions", headers, json, buffer, sizeof buffer);
        code = len > 0 && fwrite(buffer, 1, len, stdout) == len ? 0 : 2;
    }
    OPENSSL_cleanse(key, sizeof key);
    OPENSSL_cleanse(headers, sizeof headers);
    BIO_free_all(io ? io : bio);
    return code < 0 ? 2 : code;
}
