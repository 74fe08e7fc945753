/* forge.h - what the generators of synthetic evidence share: keys, certificates, revocation lists, signatures and the
 * folders of the vectors' layout (cases.h). Everything is drawn from a fixed stream of bytes that is started anew by a
 * label for each object, nonces and RSA primes included: the same OpenSSL release makes the same bytes again, and a
 * changed object leaves the others as they are. Own test roots only. A fault aborts: nobody is to be served here. */
#ifndef TESTS_VECTORS_FORGE_H
#define TESTS_VECTORS_FORGE_H

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "verifier/base/span.h"
#include "verifier/base/writer.h"

#define FORGE_NOW "2026-06-01T00:00:00Z" /* the time of every case that does not say another */

/* Abort unless. */
#define FORGE(cond) forge_must((cond), #cond, __FILE__, __LINE__)
void forge_must(bool good, const char *what, const char *file, int line);

void forge_init(void);
/* Start the stream of "random" bytes anew. */
void forge_seed(const char *label);
/* Seconds since 1970 of "2026-06-01T00:00:00Z". */
time_t forge_time(const char *text);
/* `len` bytes that follow from the label. */
void forge_fill(uint8_t *out, size_t len, const char *label);

/* Keys; never freed: a generator lives for a second. `group` is "P-256" or "P-384". */
EVP_PKEY *forge_ec(const char *label, const char *group);
EVP_PKEY *forge_rsa(const char *label, unsigned bits);

enum forge_form { FORGE_PSS = 1, FORGE_PSS_20, FORGE_ECDSA_256, FORGE_ECDSA_384, FORGE_PKCS1 };

struct forge_extension {
    const char *oid;
    bool critical;
    uint8_t value[800]; /* the extension's content */
    size_t len;
};

struct forge_cert {
    const char *cn, *serial_text; /* subject: common name; serialNumber, may be NULL */
    EVP_PKEY *key, *signer;       /* signer NULL: itself */
    X509 *issuer;                 /* gives the issuer's name; NULL: its own */
    enum forge_form form;
    unsigned long serial;
    const char *from, *to; /* NULL: 2025 to 2035 */
    bool ca;
    int room; /* path length; below 0: unlimited */
    struct forge_extension extension[12];
    size_t extension_count;
};
X509 *forge_x509(struct forge_cert spec);
struct span forge_der(X509 *x);                             /* kept until the end */
void forge_pem(struct writer *w, X509 *const *x, size_t n); /* append */

struct forge_crl {
    X509 *issuer;
    EVP_PKEY *signer;
    enum forge_form form;
    const char *from, *to;    /* NULL: May to July 2026; `to` "": none */
    unsigned long revoked[4]; /* serials, until 0 */
    bool critical;            /* with a critical extension */
};
struct span forge_crl(const struct forge_crl *spec); /* kept */

/* r then s, big-endian, half of `len` each. */
void forge_ecdsa(EVP_PKEY *key, const char *label, struct span message, uint8_t *rs, size_t len);
/* x then y. */
void forge_point(EVP_PKEY *key, uint8_t *xy, size_t len);

/* One folder of evidence. */
struct forge_item {
    char folder[512];
    json_t *doc;
};
void forge_open(struct forge_item *item, const char *top, const char *kind, const char *id, json_t *fields);
/* A file; `role` NULL: one that only cases `use`. */
void forge_file(struct forge_item *item, const char *role, const char *name, struct span bytes);
/* A case that must end in this code; NULL: accepted. Borrowed from the item. */
json_t *forge_case(struct forge_item *item, const char *name, const char *code);
void forge_close(struct forge_item *item); /* writes expected.json */

/* Details of a case. */
void forge_at(json_t *one, const char *time);
void forge_use(json_t *one, const char *role, const char *file);
void forge_policy(json_t *one, const char *key, json_t *value);
void forge_expect(json_t *one, const char *key, json_t *value);
void forge_xor(json_t *one, const char *file, size_t offset, const char *hex);
void forge_set(json_t *one, const char *file, size_t offset, const char *hex);
void forge_truncate(json_t *one, const char *file, size_t len);
void forge_append(json_t *one, const char *file, const char *hex);
json_t *forge_hex(struct span s);

/* What a generator does with the folder named on its command line. */
int forge_main(int argc, char **argv, void (*make)(const char *top));

#endif
