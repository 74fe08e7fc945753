#include "verifier/sealed.h"

#include "verifier/base/field.h"
#include "verifier/base/secret.h"

#define CIPHER_MAX (VERIFIER_SEALED_CHUNK_MAX + VERIFIER_AEAD_TAG_LEN)

/* The smallest of 64, 128, ... 16384 that holds `len`; above that the next multiple of 16384 (requests only). */
static size_t size_class(size_t len)
{
    size_t size = 64;
    while (size < len && size < VERIFIER_SEALED_CHUNK_MAX)
        size *= 2;
    if (size < len)
        size = (len + VERIFIER_SEALED_CHUNK_MAX - 1) / VERIFIER_SEALED_CHUNK_MAX * VERIFIER_SEALED_CHUNK_MAX;
    return size;
}

/* --- requests ----------------------------------------------------------------------------------- */

enum verifier_err verifier_sealed_head_parse(struct verifier_sealed_head *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_sealed_head){0};
    if (in.len > VERIFIER_SEALED_HEAD_MAX)
        return VERIFIER_E_SIZE;
    reader_map(&r, 8);
    field_read_v(&r);
    field_read_fixed(&r, "engine", out->engine, sizeof out->engine);
    out->epoch = (uint32_t)field_read_uint(&r, "epoch", 1, UINT32_MAX);
    field_read_fixed(&r, "request", out->request, sizeof out->request);
    out->endpoint = field_read_text(&r, "endpoint", 1, 128);
    out->model = field_read_text(&r, "model", 1, 256);
    out->max_tokens = (uint32_t)field_read_uint(&r, "max_tokens", 0, UINT32_MAX);
    out->stream = field_read_bool(&r, "stream");
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void verifier_sealed_head_encode(struct writer *w, const struct verifier_sealed_head *in)
{
    writer_map(w, 8);
    field_write_v(w);
    field_write_fixed(w, "engine", in->engine, sizeof in->engine);
    field_write_uint(w, "epoch", in->epoch);
    field_write_fixed(w, "request", in->request, sizeof in->request);
    field_write_text(w, "endpoint", in->endpoint);
    field_write_text(w, "model", in->model);
    field_write_uint(w, "max_tokens", in->max_tokens);
    field_write_bool(w, "stream", in->stream);
}

enum verifier_err verifier_sealed_request_parse(struct verifier_sealed_request *out, struct span body)
{
    struct reader r = reader_over(body);
    *out = (struct verifier_sealed_request){0};
    uint32_t len = reader_u32be(&r);
    if (r.err == READER_OK && len > VERIFIER_SEALED_HEAD_MAX)
        return VERIFIER_E_SIZE;
    out->head_bytes = reader_span(&r, len);
    out->enc = reader_span(&r, VERIFIER_KEY_LEN).data;
    out->ciphertext = r.rest;
    if (r.err == READER_OK && r.rest.len < VERIFIER_AEAD_TAG_LEN)
        reader_fail(&r, READER_TRUNCATED);
    if (r.err != READER_OK)
        return verifier_err_of_reader(r.err);
    return verifier_sealed_head_parse(&out->head, out->head_bytes);
}

enum verifier_err verifier_sealed_request_check(const struct verifier_sealed_request *req,
                                                const uint8_t identity[VERIFIER_KEY_LEN], uint32_t epoch)
{
    if (memcmp(req->head.engine, identity, VERIFIER_KEY_LEN) != 0)
        return VERIFIER_E_SEAL_ENGINE;
    return req->head.epoch == epoch ? VERIFIER_OK : VERIFIER_E_SEAL_EPOCH;
}

void verifier_sealed_info(struct writer *w, const uint8_t h_statement[VERIFIER_DIGEST_LEN],
                          const uint8_t policy_digest[VERIFIER_DIGEST_LEN])
{
    writer_lp_str(w, "airlock sealed v1");
    writer_bytes(w, span_of(h_statement, VERIFIER_DIGEST_LEN));
    writer_bytes(w, span_of(policy_digest, VERIFIER_DIGEST_LEN));
}

enum verifier_err verifier_sealed_request_open(const struct verifier_sealed_request *req,
                                               const struct verifier_hpke *hpke, struct writer *plain)
{
    return verifier_aead_open(hpke->key, hpke->nonce, req->head_bytes, req->ciphertext, plain);
}

bool verifier_sealed_request_seal(const struct verifier_sealed_head *head, const uint8_t seal_public[VERIFIER_KEY_LEN],
                                  const uint8_t h_statement[VERIFIER_DIGEST_LEN],
                                  const uint8_t policy_digest[VERIFIER_DIGEST_LEN], struct span json,
                                  struct writer *body, struct verifier_hpke *hpke, uint8_t enc[VERIFIER_KEY_LEN])
{
    struct writer info = writer_with_max(256), aad = writer_with_max(VERIFIER_SEALED_HEAD_MAX);
    struct writer padded = writer_with_max(json.len + VERIFIER_SEALED_CHUNK_MAX);
    verifier_sealed_info(&info, h_statement, policy_digest);
    verifier_sealed_head_encode(&aad, head);
    writer_bytes(&padded, json);
    for (size_t size = size_class(json.len); padded.len < size && writer_ok(&padded);)
        writer_u8(&padded, ' ');
    bool ok = writer_ok(&info) && writer_ok(&aad) && writer_ok(&padded) &&
              verifier_hpke_setup_s(hpke, seal_public, NULL, writer_span(&info), enc);
    if (ok) {
        writer_lp(body, writer_span(&aad));
        writer_bytes(body, span_of(enc, VERIFIER_KEY_LEN));
        ok = verifier_aead_seal(hpke->key, hpke->nonce, writer_span(&aad), writer_span(&padded), body);
        if (!ok)
            verifier_hpke_wipe(hpke);
    }
    writer_release(&padded);
    writer_release(&aad);
    writer_release(&info);
    return ok;
}

/* --- answers ------------------------------------------------------------------------------------ */

bool verifier_sealed_keys_init(struct verifier_sealed_keys *out, const struct verifier_hpke *hpke,
                               const uint8_t enc[VERIFIER_KEY_LEN], const uint8_t nonce[32])
{
    static const char context[] = "\0\0\0\x1a"
                                  "airlock sealed response v1"; /* lp() */
    uint8_t secret[32], salt[VERIFIER_KEY_LEN + 32], prk[32];
    memcpy(salt, enc, VERIFIER_KEY_LEN);
    memcpy(salt + VERIFIER_KEY_LEN, nonce, 32);
    bool ok = verifier_hpke_export(hpke, span_of(context, sizeof context - 1), secret, sizeof secret) &&
              verifier_hkdf_extract(span_of(salt, sizeof salt), span_of(secret, sizeof secret), prk) &&
              verifier_hkdf_expand(prk, span_str("key"), out->key, sizeof out->key) &&
              verifier_hkdf_expand(prk, span_str("nonce"), out->nonce, sizeof out->nonce);
    secret_wipe(secret, sizeof secret);
    secret_wipe(prk, sizeof prk);
    return ok;
}

/* Nonce of chunk `counter`: the answer's, XOR the counter in its last 8 bytes, big-endian. */
static void chunk_nonce(uint8_t out[VERIFIER_AEAD_NONCE_LEN], const struct verifier_sealed_keys *keys, uint64_t counter)
{
    memcpy(out, keys->nonce, VERIFIER_AEAD_NONCE_LEN);
    for (size_t i = 0; i < 8; i++)
        out[VERIFIER_AEAD_NONCE_LEN - 1 - i] ^= (uint8_t)(counter >> (8 * i));
}

static struct span chunk_aad(bool final)
{
    return final ? span_str("final") : span_of(NULL, 0);
}

/* QUIC's variable-length integer (RFC 9000 § 16), in its shortest form. */
static void write_varint(struct writer *w, uint64_t v)
{
    if (v < 64)
        writer_u8(w, (uint8_t)v);
    else if (v < 16384)
        writer_u16be(w, (uint16_t)(0x4000 | v));
    else
        writer_u32be(w, 0x80000000u | (uint32_t)v);
}

bool verifier_sealed_writer_begin(struct verifier_sealed_writer *s, const struct verifier_hpke *hpke,
                                  const uint8_t enc[VERIFIER_KEY_LEN], const uint8_t nonce[32], struct writer *out)
{
    *s = (struct verifier_sealed_writer){0};
    writer_bytes(out, span_of(nonce, 32));
    return verifier_sealed_keys_init(&s->keys, hpke, enc, nonce) && writer_ok(out);
}

bool verifier_sealed_writer_chunk(struct verifier_sealed_writer *s, struct span data, bool final, struct writer *out)
{
    if (data.len > VERIFIER_SEALED_DATA_MAX)
        return false;
    uint8_t nonce[VERIFIER_AEAD_NONCE_LEN];
    struct writer plain = writer_with_max(VERIFIER_SEALED_CHUNK_MAX);
    size_t size = size_class(data.len + 4);
    writer_lp(&plain, data);
    while (plain.len < size && writer_ok(&plain))
        writer_u8(&plain, 0);
    write_varint(out, final ? 0 : size + VERIFIER_AEAD_TAG_LEN);
    chunk_nonce(nonce, &s->keys, s->counter++);
    bool ok = writer_ok(&plain) && verifier_aead_seal(s->keys.key, nonce, chunk_aad(final), writer_span(&plain), out);
    writer_release(&plain);
    return ok;
}

void verifier_sealed_writer_release(struct verifier_sealed_writer *s)
{
    secret_wipe(s, sizeof *s);
}

void verifier_sealed_reader_init(struct verifier_sealed_reader *s, const struct verifier_hpke *hpke,
                                 const uint8_t enc[VERIFIER_KEY_LEN], void (*piece)(void *ctx, struct span data),
                                 void *ctx)
{
    *s = (struct verifier_sealed_reader){.hpke = *hpke, .piece = piece, .ctx = ctx};
    memcpy(s->enc, enc, VERIFIER_KEY_LEN);
    s->held = writer_with_max(CIPHER_MAX + 8);
}

void verifier_sealed_reader_release(struct verifier_sealed_reader *s)
{
    writer_release(&s->held);
    secret_wipe(s, sizeof *s);
}

/* Data of an opened chunk: lp(data), zeros up to a size class. */
static enum verifier_err unpad(struct span plain, struct span *data)
{
    struct reader r = reader_over(plain);
    if (plain.len < 64 || plain.len > VERIFIER_SEALED_CHUNK_MAX || (plain.len & (plain.len - 1)) != 0)
        return VERIFIER_E_SEAL_PADDING;
    *data = reader_span(&r, reader_u32be(&r));
    if (r.err != READER_OK || !span_is_zero(r.rest))
        return VERIFIER_E_SEAL_PADDING;
    return VERIFIER_OK;
}

static enum verifier_err open_chunk(struct verifier_sealed_reader *s, struct span sealed, bool final)
{
    uint8_t nonce[VERIFIER_AEAD_NONCE_LEN];
    struct writer plain = writer_with_max(VERIFIER_SEALED_CHUNK_MAX);
    struct span data;
    chunk_nonce(nonce, &s->keys, s->counter++);
    enum verifier_err err = verifier_aead_open(s->keys.key, nonce, chunk_aad(final), sealed, &plain);
    if (err == VERIFIER_OK)
        err = unpad(writer_span(&plain), &data);
    if (err == VERIFIER_OK)
        s->piece(s->ctx, data);
    writer_release(&plain);
    return err;
}

/* How many bytes the varint at the start of `in` has and its value; 0: not whole yet. */
static size_t peek_varint(struct span in, uint64_t *value)
{
    if (in.len == 0)
        return 0;
    size_t width = (size_t)1 << (in.data[0] >> 6);
    if (in.len < width)
        return 0;
    *value = in.data[0] & 0x3f;
    for (size_t i = 1; i < width; i++)
        *value = *value << 8 | in.data[i];
    return width;
}

static bool is_shortest(size_t width, uint64_t value)
{
    static const uint64_t below[] = {[1] = 0, [2] = 64, [4] = 16384, [8] = 1u << 30};
    return value >= below[width];
}

/* One step over what is held: bytes consumed, 0 when more are needed. */
static size_t step(struct verifier_sealed_reader *s, struct span in)
{
    uint64_t len = 0;
    if (!s->begun) {
        if (in.len < 32)
            return 0;
        s->begun = true;
        if (!verifier_sealed_keys_init(&s->keys, &s->hpke, s->enc, in.data))
            s->err = VERIFIER_E_INTERNAL;
        return 32;
    }
    if (s->final) {
        if (in.len > CIPHER_MAX)
            s->err = VERIFIER_E_SIZE;
        return 0;
    }
    size_t width = peek_varint(in, &len);
    if (width == 0)
        return 0;
    if (!is_shortest(width, len)) {
        s->err = VERIFIER_E_MINIMAL;
    } else if (len > CIPHER_MAX) {
        s->err = VERIFIER_E_SIZE;
    } else if (len == 0) {
        s->final = true;
        return width;
    } else if (in.len - width >= len) {
        s->err = open_chunk(s, span_of(in.data + width, (size_t)len), false);
        return width + (size_t)len;
    }
    return 0;
}

enum verifier_err verifier_sealed_reader_feed(struct verifier_sealed_reader *s, struct span in)
{
    while (s->err == VERIFIER_OK && in.len > 0) {
        /* Hold at most what one step can need, so a peer cannot make us hold more. */
        size_t room = s->held.max - s->held.len, take = in.len < room ? in.len : room, used = 0, at = 0;
        if (take == 0) { /* held is full and no step consumed it: the final chunk is too long */
            s->err = VERIFIER_E_SIZE;
            break;
        }
        writer_bytes(&s->held, span_of(in.data, take));
        in = span_of(in.data + take, in.len - take);
        if (!writer_ok(&s->held))
            s->err = VERIFIER_E_INTERNAL;
        while (s->err == VERIFIER_OK && (used = step(s, span_of(s->held.data + at, s->held.len - at))) > 0)
            at += used;
        if (s->err == VERIFIER_OK && at > 0) {
            memmove(s->held.data, s->held.data + at, s->held.len - at);
            s->held.len -= at;
        }
    }
    return s->err;
}

enum verifier_err verifier_sealed_reader_end(struct verifier_sealed_reader *s)
{
    if (s->err != VERIFIER_OK)
        return s->err;
    if (!s->final || s->held.len < VERIFIER_AEAD_TAG_LEN)
        s->err = VERIFIER_E_SEAL_TRUNCATED;
    else
        s->err = open_chunk(s, writer_span(&s->held), true);
    enum verifier_err err = s->err;
    if (err == VERIFIER_OK)
        s->err = VERIFIER_E_SEAL_TRUNCATED; /* an answer ends once */
    return err;
}

enum verifier_err verifier_sealed_status_parse(struct verifier_sealed_status *out, struct span in)
{
    struct reader r = reader_over(in);
    *out = (struct verifier_sealed_status){0};
    reader_map(&r, 2);
    out->status = (unsigned)field_read_uint(&r, "status", 100, 599);
    out->type = field_read_text(&r, "type", 1, 128);
    if (r.err == READER_OK && out->status == 200)
        reader_fail(&r, READER_VALUE);
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void verifier_sealed_status_encode(struct writer *w, const struct verifier_sealed_status *in)
{
    writer_map(w, 2);
    field_write_uint(w, "status", in->status);
    field_write_text(w, "type", in->type);
}
