/* pem.h - the PEM certificates of a file of the vectors, as DER. */
#ifndef TESTS_VECTORS_PEM_H
#define TESTS_VECTORS_PEM_H

#include <openssl/pem.h>
#include <openssl/x509.h>

#include "verifier/hw.h"

/* Up to the first that cannot be decoded; their number. Release with pem_release(). */
static inline size_t pem_chain(struct span pem, struct span out[VERIFIER_CERTS_MAX])
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    size_t n = 0;
    X509 *x;

    while (n < VERIFIER_CERTS_MAX && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        unsigned char *der = NULL;
        int len = i2d_X509(x, &der);
        out[n++] = span_of(der, (size_t)len);
        X509_free(x);
    }
    BIO_free(bio);
    return n;
}

static inline void pem_release(const struct span *chain, size_t n)
{
    for (size_t i = 0; i < n; i++)
        OPENSSL_free((void *)(uintptr_t)chain[i].data);
}

#endif
