#include "verifier/hpke.h"

#include "verifier/base/secret.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdlib.h>

#define HASH_LEN 32

/* RFC 9180 § 7.1, 7.2, 7.3: suite_id of the KEM and of HPKE. */
static const uint8_t kem_suite[] = {'K', 'E', 'M', 0x00, 0x20};
static const uint8_t hpke_suite[] = {'H', 'P', 'K', 'E', 0x00, 0x20, 0x00, 0x01, 0x00, 0x03};

void verifier_hpke_wipe(struct verifier_hpke *hpke)
{
    secret_wipe(hpke, sizeof *hpke);
}

/* --- primitives -------------------------------------------------------------------------------- */

bool verifier_x25519_public(const uint8_t private_key[VERIFIER_KEY_LEN], uint8_t out[VERIFIER_KEY_LEN])
{
    size_t len = VERIFIER_KEY_LEN;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_key, VERIFIER_KEY_LEN);
    bool ok = key && EVP_PKEY_get_raw_public_key(key, out, &len) == 1 && len == VERIFIER_KEY_LEN;
    EVP_PKEY_free(key);
    return ok;
}

bool verifier_x25519(const uint8_t private_key[VERIFIER_KEY_LEN], const uint8_t public_key[VERIFIER_KEY_LEN],
                     uint8_t out[VERIFIER_KEY_LEN])
{
    size_t len = VERIFIER_KEY_LEN;
    EVP_PKEY *mine = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_key, VERIFIER_KEY_LEN);
    EVP_PKEY *theirs = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public_key, VERIFIER_KEY_LEN);
    EVP_PKEY_CTX *ctx = mine ? EVP_PKEY_CTX_new(mine, NULL) : NULL;
    bool ok = ctx && theirs && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, theirs) == 1 &&
              EVP_PKEY_derive(ctx, out, &len) == 1 && len == VERIFIER_KEY_LEN &&
              !span_is_zero(span_of(out, VERIFIER_KEY_LEN));
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(theirs);
    EVP_PKEY_free(mine);
    return ok;
}

bool verifier_hkdf_extract(struct span salt, struct span ikm, uint8_t prk[HASH_LEN])
{
    static const uint8_t zeros[HASH_LEN];
    if (salt.len == 0)
        salt = span_of(zeros, sizeof zeros);
    if (salt.len > INT_MAX)
        return false;
    return HMAC(EVP_sha256(), salt.data, (int)salt.len, ikm.data ? ikm.data : zeros, ikm.len, prk, NULL) != NULL;
}

bool verifier_hkdf_expand(const uint8_t prk[HASH_LEN], struct span info, uint8_t *out, size_t len)
{
    uint8_t block[HASH_LEN];
    struct writer in = writer_with_max(HASH_LEN + info.len + 1);
    bool ok = len <= (size_t)255 * HASH_LEN;
    for (size_t done = 0, i = 1; ok && done < len; i++) {
        writer_reset(&in);
        if (i > 1)
            writer_bytes(&in, span_of(block, sizeof block));
        writer_bytes(&in, info);
        writer_u8(&in, (uint8_t)i);
        struct span s = writer_span(&in);
        ok = writer_ok(&in) && HMAC(EVP_sha256(), prk, HASH_LEN, s.data, s.len, block, NULL) != NULL;
        size_t take = len - done < HASH_LEN ? len - done : HASH_LEN;
        if (ok)
            memcpy(out + done, block, take);
        done += take;
    }
    writer_release(&in);
    secret_wipe(block, sizeof block);
    return ok;
}

enum verifier_err verifier_aead_open(const uint8_t key[VERIFIER_AEAD_KEY_LEN],
                                     const uint8_t nonce[VERIFIER_AEAD_NONCE_LEN], struct span aad, struct span sealed,
                                     struct writer *out)
{
    if (sealed.len < VERIFIER_AEAD_TAG_LEN || sealed.len > INT_MAX || aad.len > INT_MAX)
        return VERIFIER_E_SEAL_OPEN;
    size_t len = sealed.len - VERIFIER_AEAD_TAG_LEN;
    uint8_t tag[VERIFIER_AEAD_TAG_LEN];
    memcpy(tag, sealed.data + len, sizeof tag);
    uint8_t *plain = malloc(len + 1);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    enum verifier_err err = VERIFIER_E_SEAL_OPEN;
    int n = 0;
    if (!plain || !ctx)
        err = VERIFIER_E_INTERNAL;
    else if (EVP_DecryptInit_ex(ctx, EVP_chacha20_poly1305(), NULL, key, nonce) == 1 &&
             EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, VERIFIER_AEAD_TAG_LEN, tag) == 1 &&
             (aad.len == 0 || EVP_DecryptUpdate(ctx, NULL, &n, aad.data, (int)aad.len) == 1) &&
             (len == 0 || EVP_DecryptUpdate(ctx, plain, &n, sealed.data, (int)len) == 1) &&
             EVP_DecryptFinal_ex(ctx, plain + len, &n) == 1)
        err = VERIFIER_OK;
    if (err == VERIFIER_OK) {
        writer_bytes(out, span_of(plain, len));
        if (!writer_ok(out))
            err = VERIFIER_E_INTERNAL;
    }
    EVP_CIPHER_CTX_free(ctx);
    if (plain)
        secret_wipe(plain, len + 1);
    free(plain);
    return err;
}

bool verifier_aead_seal(const uint8_t key[VERIFIER_AEAD_KEY_LEN], const uint8_t nonce[VERIFIER_AEAD_NONCE_LEN],
                        struct span aad, struct span plain, struct writer *sealed)
{
    if (plain.len > INT_MAX || aad.len > INT_MAX)
        return false;
    uint8_t tag[VERIFIER_AEAD_TAG_LEN];
    uint8_t *text = malloc(plain.len + 1);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0;
    bool ok = text && ctx && EVP_EncryptInit_ex(ctx, EVP_chacha20_poly1305(), NULL, key, nonce) == 1 &&
              (aad.len == 0 || EVP_EncryptUpdate(ctx, NULL, &n, aad.data, (int)aad.len) == 1) &&
              (plain.len == 0 || EVP_EncryptUpdate(ctx, text, &n, plain.data, (int)plain.len) == 1) &&
              EVP_EncryptFinal_ex(ctx, text + plain.len, &n) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, VERIFIER_AEAD_TAG_LEN, tag) == 1;
    if (ok) {
        writer_bytes(sealed, span_of(text, plain.len));
        writer_bytes(sealed, span_of(tag, sizeof tag));
        ok = writer_ok(sealed);
    }
    EVP_CIPHER_CTX_free(ctx);
    free(text);
    return ok;
}

/* --- RFC 9180 ---------------------------------------------------------------------------------- */

/* LabeledExtract(salt, label, ikm), § 4. */
static bool labeled_extract(struct span suite, struct span salt, const char *label, struct span ikm,
                            uint8_t prk[HASH_LEN])
{
    struct writer w = writer_with_max(64 + ikm.len);
    writer_str(&w, "HPKE-v1");
    writer_bytes(&w, suite);
    writer_str(&w, label);
    writer_bytes(&w, ikm);
    bool ok = writer_ok(&w) && verifier_hkdf_extract(salt, writer_span(&w), prk);
    writer_release(&w);
    return ok;
}

/* LabeledExpand(prk, label, info, len), § 4. */
static bool labeled_expand(struct span suite, const uint8_t prk[HASH_LEN], const char *label, struct span info,
                           uint8_t *out, size_t len)
{
    struct writer w = writer_with_max(64 + info.len);
    writer_u16be(&w, (uint16_t)len);
    writer_str(&w, "HPKE-v1");
    writer_bytes(&w, suite);
    writer_str(&w, label);
    writer_bytes(&w, info);
    bool ok = writer_ok(&w) && verifier_hkdf_expand(prk, writer_span(&w), out, len);
    writer_release(&w);
    return ok;
}

/* ExtractAndExpand(dh, enc || pkR), § 4.1. */
static bool kem_secret(const uint8_t dh[VERIFIER_KEY_LEN], const uint8_t enc[VERIFIER_KEY_LEN],
                       const uint8_t public_key[VERIFIER_KEY_LEN], uint8_t out[HASH_LEN])
{
    struct span suite = span_of(kem_suite, sizeof kem_suite);
    uint8_t context[2 * VERIFIER_KEY_LEN], prk[HASH_LEN];
    memcpy(context, enc, VERIFIER_KEY_LEN);
    memcpy(context + VERIFIER_KEY_LEN, public_key, VERIFIER_KEY_LEN);
    bool ok = labeled_extract(suite, span_of(NULL, 0), "eae_prk", span_of(dh, VERIFIER_KEY_LEN), prk) &&
              labeled_expand(suite, prk, "shared_secret", span_of(context, sizeof context), out, HASH_LEN);
    secret_wipe(prk, sizeof prk);
    return ok;
}

/* KeySchedule of base mode, § 5.1. */
static bool key_schedule(struct verifier_hpke *out, const uint8_t shared[HASH_LEN], struct span info)
{
    struct span suite = span_of(hpke_suite, sizeof hpke_suite), none = span_of(NULL, 0);
    uint8_t context[1 + 2 * HASH_LEN] = {0x00}; /* mode_base */
    struct span whole = span_of(context, sizeof context);
    uint8_t secret[HASH_LEN];
    bool ok = labeled_extract(suite, none, "psk_id_hash", none, context + 1) &&
              labeled_extract(suite, none, "info_hash", info, context + 1 + HASH_LEN) &&
              labeled_extract(suite, span_of(shared, HASH_LEN), "secret", none, secret) &&
              labeled_expand(suite, secret, "key", whole, out->key, sizeof out->key) &&
              labeled_expand(suite, secret, "base_nonce", whole, out->nonce, sizeof out->nonce) &&
              labeled_expand(suite, secret, "exp", whole, out->exporter_secret, sizeof out->exporter_secret);
    secret_wipe(secret, sizeof secret);
    if (!ok)
        verifier_hpke_wipe(out);
    return ok;
}

bool verifier_hpke_setup_r(struct verifier_hpke *out, const uint8_t private_key[VERIFIER_KEY_LEN],
                           const uint8_t enc[VERIFIER_KEY_LEN], struct span info)
{
    uint8_t dh[VERIFIER_KEY_LEN], public_key[VERIFIER_KEY_LEN], shared[HASH_LEN];
    bool ok = verifier_x25519(private_key, enc, dh) && verifier_x25519_public(private_key, public_key) &&
              kem_secret(dh, enc, public_key, shared) && key_schedule(out, shared, info);
    secret_wipe(dh, sizeof dh);
    secret_wipe(shared, sizeof shared);
    return ok;
}

bool verifier_hpke_setup_s(struct verifier_hpke *out, const uint8_t public_key[VERIFIER_KEY_LEN],
                           const uint8_t *ephemeral, struct span info, uint8_t enc[VERIFIER_KEY_LEN])
{
    uint8_t mine[VERIFIER_KEY_LEN], dh[VERIFIER_KEY_LEN], shared[HASH_LEN];
    bool ok = true;
    if (ephemeral)
        memcpy(mine, ephemeral, sizeof mine);
    else
        ok = RAND_priv_bytes(mine, sizeof mine) == 1;
    ok = ok && verifier_x25519_public(mine, enc) && verifier_x25519(mine, public_key, dh) &&
         kem_secret(dh, enc, public_key, shared) && key_schedule(out, shared, info);
    secret_wipe(mine, sizeof mine);
    secret_wipe(dh, sizeof dh);
    secret_wipe(shared, sizeof shared);
    return ok;
}

bool verifier_hpke_export(const struct verifier_hpke *hpke, struct span context, uint8_t *out, size_t len)
{
    return labeled_expand(span_of(hpke_suite, sizeof hpke_suite), hpke->exporter_secret, "sec", context, out, len);
}

bool verifier_hpke_seal(const uint8_t public_key[VERIFIER_KEY_LEN], struct span info, struct span aad,
                        struct span plain, uint8_t enc[VERIFIER_KEY_LEN], struct writer *sealed)
{
    struct verifier_hpke hpke;
    if (!verifier_hpke_setup_s(&hpke, public_key, NULL, info, enc))
        return false;
    bool ok = verifier_aead_seal(hpke.key, hpke.nonce, aad, plain, sealed);
    verifier_hpke_wipe(&hpke);
    return ok;
}
