/* artefact_chunk.c - hashing and encryption of single chunks. */
#include "engine/artefact_chunk.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "verifier/base/writer.h"

uint64_t engine_artefact_chunks(uint64_t size)
{
    return size == 0 ? 1 : (size - 1) / ENGINE_ARTEFACT_CHUNK + 1;
}

struct span engine_artefact_chunk(struct span file, uint64_t index)
{
    size_t start = (size_t)index * ENGINE_ARTEFACT_CHUNK, left = file.len - start;
    return span_of(file.data + start, left < ENGINE_ARTEFACT_CHUNK ? left : ENGINE_ARTEFACT_CHUNK);
}

/* SHA-512 over up to three pieces. */
static bool hash(uint8_t out[64], struct span a, struct span b, struct span c)
{
    EVP_MD_CTX *h = EVP_MD_CTX_new();
    bool good = h && EVP_DigestInit_ex(h, EVP_sha512(), NULL) == 1 && EVP_DigestUpdate(h, a.data, a.len) == 1 &&
                EVP_DigestUpdate(h, b.data, b.len) == 1 && EVP_DigestUpdate(h, c.data, c.len) == 1 &&
                EVP_DigestFinal_ex(h, out, NULL) == 1;
    EVP_MD_CTX_free(h);
    return good;
}

bool engine_artefact_leaf(uint8_t out[64], struct span chunk)
{
    static const char label[] = "airlock chunk v1";
    uint8_t head[1 + 4 + sizeof label - 1 + 4] = {0, 0, 0, 0, sizeof label - 1};
    memcpy(head + 5, label, sizeof label - 1);
    for (size_t i = 0; i < 4; i++)
        head[sizeof head - 4 + i] = (uint8_t)(chunk.len >> (24 - 8 * i));
    return hash(out, span_of(head, sizeof head), chunk, span_of(NULL, 0));
}

bool engine_artefact_fold(uint8_t *leaves, uint64_t count, uint8_t root[64])
{
    static const uint8_t node = 1;
    for (; count > 1; count = (count + 1) / 2) {
        for (uint64_t i = 0; i < count / 2; i++)
            if (!hash(leaves + 64 * i, span_of(&node, 1), span_of(leaves + 128 * i, 64),
                      span_of(leaves + 128 * i + 64, 64)))
                return false;
        if (count % 2) /* an odd last node rises unchanged: the shape of RFC 9162 */
            memmove(leaves + 64 * (count / 2), leaves + 64 * (count - 1), 64);
    }
    memcpy(root, leaves, 64);
    return true;
}

bool engine_artefact_expand(uint8_t out[32], struct span key, const char *label)
{
    struct writer info = writer_with_max(128);
    writer_lp_str(&info, label);
    writer_u8(&info, 1); /* HKDF-Expand's only block: HMAC(key, info || 0x01) */
    unsigned len = 32;
    bool good = key.len == 32 && writer_ok(&info) &&
                HMAC(EVP_sha256(), key.data, (int)key.len, info.data, info.len, out, &len) != NULL;
    writer_release(&info);
    return good;
}

static void make_nonce(uint8_t nonce[12], uint32_t file, uint64_t index)
{
    for (int i = 0; i < 4; i++)
        nonce[i] = (uint8_t)(file >> (24 - 8 * i));
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = (uint8_t)(index >> (56 - 8 * i));
}

static void make_aad(struct writer *w, const struct engine_artefact_place *at, uint64_t index)
{
    *w = writer_with_max(64 + 4 + ENGINE_FILES_PATH_MAX + 9);
    writer_bytes(w, span_of(at->root, 64));
    writer_lp_str(w, at->path);
    writer_u64be(w, index);
    writer_u8(w, index + 1 == at->chunks);
}

bool engine_artefact_encrypt(const struct engine_artefact_place *at, uint64_t index, struct span chunk, uint8_t *out)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    struct writer aad;
    uint8_t nonce[12];
    int n;

    make_nonce(nonce, at->file, index);
    make_aad(&aad, at, index);
    bool good = c && writer_ok(&aad) && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, at->content_key, nonce) == 1 &&
                EVP_EncryptUpdate(c, NULL, &n, aad.data, (int)aad.len) == 1 &&
                EVP_EncryptUpdate(c, out, &n, chunk.data, (int)chunk.len) == 1 &&
                EVP_EncryptFinal_ex(c, out + chunk.len, &n) == 1 &&
                EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, ENGINE_ARTEFACT_TAG, out + chunk.len) == 1;
    EVP_CIPHER_CTX_free(c);
    writer_release(&aad);
    return good;
}

bool engine_artefact_decrypt(const struct engine_artefact_place *at, uint64_t index, struct span cipher,
                             const uint8_t tag[ENGINE_ARTEFACT_TAG], uint8_t *out)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    struct writer aad;
    uint8_t nonce[12], expected[ENGINE_ARTEFACT_TAG], end[16];
    int n;

    make_nonce(nonce, at->file, index);
    make_aad(&aad, at, index);
    memcpy(expected, tag, sizeof expected);
    bool good = c && writer_ok(&aad) && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, at->content_key, nonce) == 1 &&
                EVP_DecryptUpdate(c, NULL, &n, aad.data, (int)aad.len) == 1 &&
                (cipher.len == 0 || EVP_DecryptUpdate(c, out, &n, cipher.data, (int)cipher.len) == 1) &&
                EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, sizeof expected, expected) == 1 &&
                EVP_DecryptFinal_ex(c, end, &n) == 1;
    EVP_CIPHER_CTX_free(c);
    writer_release(&aad);
    return good;
}
