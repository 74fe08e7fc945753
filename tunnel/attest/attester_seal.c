/* Every private key of the node. Identity and release key live as long as the process; sealing keys rotate, which is
 * what forward secrecy there is in sealed mode (PROTOCOL.md § Sealed mode). */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <sys/mman.h>

#include "tunnel/attest/attester_core.h"
#include "verifier/ed25519.h"
#include "verifier/hpke.h"
#include "verifier/release.h"
#include "verifier/sealed.h"

enum { KEY = VERIFIER_KEY_LEN };

/* --- replay ------------------------------------------------------------------------------------------------ */

static bool replay_init(struct attester_replay *r, size_t max)
{
    void *map;

    r->slots = 16;
    while (r->slots < 2 * max)
        r->slots *= 2;
    map = mmap(NULL, r->slots * sizeof *r->slot, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return false;
    r->slot = map;
    r->used = 0;
    return true;
}

static void replay_clear(struct attester_replay *r)
{
    if (r->slot && r->used > 0)
        memset(r->slot, 0, r->slots * sizeof *r->slot);
    r->used = 0;
}

/* Remember `enc`; false when it is there already. There is always a free slot: half of them stay empty. */
static bool replay_add(struct attester_replay *r, const uint8_t key[KEY], const uint8_t enc[32])
{
    uint8_t mac[32];
    uint64_t at;

    if (!HMAC(EVP_sha256(), key, KEY, enc, 32, mac, NULL))
        return false;
    if (span_is_zero(span_of(mac, 16)))
        mac[0] = 1;
    memcpy(&at, mac, sizeof at);
    for (;; at++) {
        uint8_t *slot = r->slot[at & (r->slots - 1)];
        if (memcmp(slot, mac, 16) == 0)
            return false;
        if (span_is_zero(span_of(slot, 16))) {
            memcpy(slot, mac, 16);
            r->used++;
            return true;
        }
    }
}

/* --- life --------------------------------------------------------------------------------------------------- */

bool attester_keys_init(struct attester_keys *k, uint32_t seal_life_s, uint32_t replay_max)
{
    memset(k, 0, sizeof *k);
    k->life = (int64_t)(seal_life_s ? seal_life_s : ATTESTER_SEAL_LIFE_S) * 1000;
    k->replay_max = replay_max ? replay_max : ATTESTER_REPLAY_MAX;
    if (!secret_init(&k->memory, 5 * KEY) || RAND_priv_bytes(k->memory.data, 3 * KEY) != 1)
        return false;
    k->identity = k->memory.data;
    k->release = k->memory.data + KEY;
    k->replay_key = k->memory.data + 2 * KEY;
    k->now.private = k->memory.data + 3 * KEY;
    k->before.private = k->memory.data + 4 * KEY;
    k->has_release = true;
    return verifier_ed25519_public(k->identity, k->identity_public) &&
           verifier_x25519_public(k->release, k->release_public) && replay_init(&k->now.replay, k->replay_max) &&
           replay_init(&k->before.replay, k->replay_max);
}

void attester_keys_release(struct attester_keys *k)
{
    secret_release(&k->memory);
    if (k->now.replay.slot)
        munmap(k->now.replay.slot, k->now.replay.slots * 16);
    if (k->before.replay.slot)
        munmap(k->before.replay.slot, k->before.replay.slots * 16);
    memset(k, 0, sizeof *k);
}

static void epoch_end(struct attester_epoch *e)
{
    secret_wipe(e->private, KEY);
    replay_clear(&e->replay);
    e->number = 0;
}

bool attester_keys_rotate(struct attester_keys *k, const uint8_t policy[VERIFIER_DIGEST_LEN], int64_t now)
{
    uint32_t number = k->now.number + 1;
    struct attester_epoch *fresh = &k->before, ended = k->now;

    if (number == 0) /* 2^32 rotations: never; an epoch's number must not repeat */
        return false;
    epoch_end(fresh);
    if (RAND_priv_bytes(fresh->private, KEY) != 1 || !verifier_x25519_public(fresh->private, fresh->public)) {
        secret_wipe(fresh->private, KEY); /* the key in force stays, and so the count of epochs */
        return false;
    }
    k->now = *fresh;
    k->before = ended;
    k->before.ends = now + ATTESTER_SEAL_GRACE_S * 1000;
    memcpy(k->now.policy, policy, sizeof k->now.policy);
    k->now.number = number;
    k->now.made = now;
    return true;
}

bool attester_keys_due(struct attester_keys *k, int64_t now)
{
    if (k->before.number != 0 && now >= k->before.ends)
        epoch_end(&k->before);
    return k->now.number != 0 && (now - k->now.made >= k->life || k->now.replay.used >= k->replay_max / 4 * 3);
}

static struct attester_epoch *epoch_of(struct attester_keys *k, uint32_t number, int64_t now)
{
    if (number != 0 && number == k->now.number)
        return &k->now;
    if (number != 0 && number == k->before.number && now < k->before.ends)
        return &k->before;
    return NULL;
}

/* --- calls ------------------------------------------------------------------------------------------------------ */

/* A weight key: its AAD begins with H(statement), which must be ours. */
static enum attester_err open_release(const struct attester_keys *k, const uint8_t h_statement[VERIFIER_DIGEST_LEN],
                                      const uint8_t enc[32], struct span info, struct span aad,
                                      struct verifier_hpke *out)
{
    if (!k->has_release || aad.len != VERIFIER_RELEASE_AAD_LEN ||
        memcmp(aad.data, h_statement, VERIFIER_DIGEST_LEN) != 0)
        return ATTESTER_E_KEY;
    return verifier_hpke_setup_r(out, k->release, enc, info) ? ATTESTER_OK : ATTESTER_E_KEY;
}

/* A sealed request: its head names us and an epoch, its info our statement and the policy of that epoch. */
static enum attester_err open_sealed(struct attester_keys *k, const uint8_t h_statement[VERIFIER_DIGEST_LEN],
                                     const uint8_t enc[32], struct span info, struct span aad, int64_t now,
                                     struct verifier_hpke *out)
{
    struct verifier_sealed_head head;
    struct attester_epoch *e;
    struct writer want = writer_with_max(ATTESTER_INFO_MAX);
    bool same;

    if (verifier_sealed_head_parse(&head, aad) != VERIFIER_OK)
        return ATTESTER_E_SHAPE;
    e = epoch_of(k, head.epoch, now);
    if (!e)
        return ATTESTER_E_EPOCH;
    verifier_sealed_info(&want, h_statement, e->policy);
    same = span_equal(writer_span(&want), info) && memcmp(head.engine, k->identity_public, KEY) == 0;
    writer_release(&want);
    return same && verifier_hpke_setup_r(out, e->private, enc, info) ? ATTESTER_OK : ATTESTER_E_KEY;
}

enum attester_err attester_keys_open(struct attester_keys *k, const uint8_t h_statement[VERIFIER_DIGEST_LEN],
                                     const uint8_t enc[32], struct span info, struct span aad, int64_t now,
                                     struct verifier_hpke *out)
{
    if (span_equal(info, verifier_release_info()))
        return open_release(k, h_statement, enc, info, aad, out);
    return open_sealed(k, h_statement, enc, info, aad, now, out);
}

enum attester_err attester_keys_opened(struct attester_keys *k, const uint8_t enc[32], uint32_t epoch, int64_t now)
{
    struct attester_epoch *e = epoch_of(k, epoch, now);

    if (!e || e->replay.used >= k->replay_max) /* a full table: the client seals again to the next key */
        return ATTESTER_E_EPOCH;
    return replay_add(&e->replay, k->replay_key, enc) ? ATTESTER_OK : ATTESTER_E_REPLAY;
}

enum attester_err attester_keys_sign(const struct attester_keys *k, struct span type, struct span body,
                                     uint8_t sig[VERIFIER_SIG_LEN])
{
    struct writer w = writer_with_max(ATTESTER_SIGN_MAX + 256);
    bool good;

    if (!span_is(type, "receipt") && !span_is(type, "checkpoint") && !span_is(type, "close"))
        return ATTESTER_E_SHAPE;
    writer_lp_str(&w, "airlock signed v1"); /* PROTOCOL.md § Objects, signed object */
    writer_lp(&w, type);
    writer_lp(&w, body);
    good = writer_ok(&w) && verifier_ed25519_sign(k->identity, writer_span(&w), sig);
    writer_release(&w);
    return good ? ATTESTER_OK : ATTESTER_E_INTERNAL;
}
