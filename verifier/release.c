#include "verifier/release.h"

#include "verifier/base/secret.h"

struct span verifier_release_info(void)
{
    static const char info[] = "\0\0\0\x12"
                               "airlock release v1"; /* lp() */
    return span_of(info, sizeof info - 1);
}

void verifier_release_aad(uint8_t out[VERIFIER_RELEASE_AAD_LEN], const struct verifier_release_bind *bind)
{
    memcpy(out, bind->statement, 64);
    memcpy(out + 64, bind->policy, 64);
    memcpy(out + 128, bind->artefact_root, 64);
    out[192] = bind->i;
    out[193] = bind->n;
}

bool verifier_release_seal(const uint8_t release_public[VERIFIER_KEY_LEN], const struct verifier_release_bind *bind,
                           const uint8_t key[VERIFIER_KEY_LEN], uint8_t enc[VERIFIER_KEY_LEN],
                           uint8_t sealed[VERIFIER_RELEASE_SEALED_LEN])
{
    uint8_t aad[VERIFIER_RELEASE_AAD_LEN];
    struct writer w = writer_with_max(VERIFIER_RELEASE_SEALED_LEN);
    verifier_release_aad(aad, bind);
    bool ok = verifier_hpke_seal(release_public, verifier_release_info(), span_of(aad, sizeof aad),
                                 span_of(key, VERIFIER_KEY_LEN), enc, &w) &&
              w.len == VERIFIER_RELEASE_SEALED_LEN;
    if (ok)
        memcpy(sealed, w.data, VERIFIER_RELEASE_SEALED_LEN);
    writer_release(&w);
    return ok;
}

enum verifier_err verifier_release_open(const struct verifier_hpke *opened, struct span aad, struct span sealed,
                                        uint8_t key[VERIFIER_KEY_LEN])
{
    struct writer w = writer_with_max(VERIFIER_KEY_LEN);
    if (sealed.len != VERIFIER_RELEASE_SEALED_LEN)
        return VERIFIER_E_SIZE;
    /* One message: RFC 9180 § 5.2's first nonce is the base nonce. */
    enum verifier_err err = verifier_aead_open(opened->key, opened->nonce, aad, sealed, &w);
    if (err == VERIFIER_OK)
        memcpy(key, w.data, VERIFIER_KEY_LEN);
    writer_release(&w);
    return err;
}

bool verifier_release_combine(const uint8_t (*shares)[VERIFIER_KEY_LEN], size_t n, uint8_t key[VERIFIER_KEY_LEN])
{
    static const char salt[] = "\0\0\0\x10"
                               "airlock split v1"; /* lp() */
    if (n < 1 || n > VERIFIER_RELEASE_SHARES_MAX)
        return false;
    if (n > 1)
        return verifier_hkdf_extract(span_of(salt, sizeof salt - 1), span_of(shares, n * VERIFIER_KEY_LEN), key);
    memcpy(key, shares[0], VERIFIER_KEY_LEN);
    return true;
}

bool verifier_release_key_id(const uint8_t key[VERIFIER_KEY_LEN], uint8_t id[VERIFIER_KEY_LEN])
{
    static const char info[] = "\0\0\0\x11"
                               "airlock key id v1"; /* lp() */
    return verifier_hkdf_expand(key, span_of(info, sizeof info - 1), id, VERIFIER_KEY_LEN);
}
