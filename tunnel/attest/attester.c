/* The callers' side: one request out, one answer in, within a deadline; or leaves for an event loop. */
#include "tunnel/attest/attester.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "tunnel/attest/attester_wire.h"

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Wait until `events` or `end`; false on a timeout. */
static bool wait_for(int fd, short events, int64_t end)
{
    struct pollfd p = {.fd = fd, .events = events};
    int64_t left;

    while ((left = end - now_ms()) > 0) {
        int n = poll(&p, 1, (int)left);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
    return false;
}

/* --- sending -------------------------------------------------------------------------------------- */

/* All pieces of a request; waits until `end` (0: not at all) for room. A request of one piece is sent or not at all. */
static enum attester_err send_request(int fd, uint32_t id, uint8_t call, struct span body, int64_t end)
{
    uint8_t record[ATTESTER_RECORD_MAX];
    enum attester_err err = ATTESTER_OK;

    do {
        struct span piece = span_of(body.data, body.len > ATTESTER_PIECE_MAX ? ATTESTER_PIECE_MAX : body.len);
        struct attester_record r = {.id = id, .call = call, .body = piece};
        size_t len;
        ssize_t n;

        body = span_of(body.data + piece.len, body.len - piece.len);
        r.flags = body.len > 0 ? ATTESTER_MORE : 0;
        len = attester_record_encode(record, &r);
        while ((n = write(fd, record, len)) < 0 && (errno == EAGAIN || errno == EINTR))
            if (errno == EAGAIN && (end == 0 || !wait_for(fd, POLLOUT, end)))
                break;
        if (n < 0)
            err = errno != EAGAIN ? ATTESTER_E_CLOSED : end == 0 ? ATTESTER_E_BUSY : ATTESTER_E_TIMEOUT;
    } while (body.len > 0 && err == ATTESTER_OK);
    secret_wipe(record, sizeof record);
    return err;
}

/* --- receiving ------------------------------------------------------------------------------------ */

void attester_inbox_release(struct attester_inbox *in)
{
    writer_release(&in->body);
    in->whole = false;
}

int attester_receive(int fd, struct attester_inbox *in, uint32_t *id, enum attester_err *err, struct span *envelope)
{
    uint8_t record[ATTESTER_RECORD_MAX + 1];
    struct attester_record r;
    ssize_t n;

    if (in->whole || in->body.max == 0) {
        writer_release(&in->body);
        in->body = writer_with_max(ATTESTER_MESSAGE_MAX);
        in->whole = false;
    }
    for (;;) {
        n = read(fd, record, sizeof record);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0 || !attester_record_parse(&r, span_of(record, (size_t)n)) || r.status >= ATTESTER_ERR_COUNT)
            return -1;
        writer_bytes(&in->body, r.body);
        if (!(r.flags & ATTESTER_MORE))
            break;
    }
    secret_wipe(record, sizeof record); /* earlier pieces may have been longer */
    in->whole = true;
    *id = r.id;
    *err = writer_ok(&in->body) ? (enum attester_err)r.status : ATTESTER_E_INTERNAL;
    *envelope = writer_span(&in->body);
    return 1;
}

/* --- one call, one answer ---------------------------------------------------------------------------- */

/* Numbers blocking calls, so that the late answer to a call that ran out of time is not taken for the next one's.
 * They have the top bit, ids of an event loop's are its own. */
static uint32_t next_id(void)
{
    static _Atomic uint32_t last;

    return ++last | 0x80000000u;
}

/* `request` is released; the answer's body goes to `in` and is borrowed from there. */
static enum attester_err call(int fd, enum attester_call which, struct writer *request, struct attester_inbox *in,
                              struct span *answer)
{
    int64_t end = now_ms() + ATTESTER_DEADLINE_MS;
    uint32_t id = next_id(), got;
    enum attester_err err = ATTESTER_E_SHAPE, answered;

    *answer = span_of(NULL, 0);
    if (writer_ok(request))
        err = send_request(fd, id, (uint8_t)which, writer_span(request), end);
    writer_release(request);
    while (err == ATTESTER_OK) {
        int n = attester_receive(fd, in, &got, &answered, answer);
        if (n < 0)
            err = ATTESTER_E_CLOSED;
        else if (n == 1 && got == id)
            return answered;
        else if (n == 0 && !wait_for(fd, POLLIN, end))
            err = ATTESTER_E_TIMEOUT;
    }
    return err;
}

static struct writer request_of(size_t values)
{
    struct writer w = writer_with_max(ATTESTER_MESSAGE_MAX);

    writer_list(&w, values);
    return w;
}

/* A call whose answer has no body. */
static enum attester_err call_plain(int fd, enum attester_call which, struct writer *request)
{
    struct attester_inbox in = {0};
    struct span answer;
    enum attester_err err = call(fd, which, request, &in, &answer);

    attester_inbox_release(&in);
    return err;
}

static enum attester_err call_envelope(int fd, enum attester_call which, struct writer *request,
                                       struct writer *envelope)
{
    struct attester_inbox in = {0};
    struct span answer;
    enum attester_err err = call(fd, which, request, &in, &answer);

    if (err == ATTESTER_OK) {
        writer_bytes(envelope, answer);
        err = writer_ok(envelope) ? ATTESTER_OK : ATTESTER_E_INTERNAL;
    }
    attester_inbox_release(&in);
    return err;
}

static void put_bin_or_nil(struct writer *w, struct span s)
{
    if (s.len > 0)
        writer_bin(w, s);
    else
        writer_nil(w);
}

/* --- leaves ------------------------------------------------------------------------------------------ */

static struct writer leaf_request(struct span challenge, struct span spki,
                                  const uint8_t exporter[VERIFIER_EXPORTER_LEN])
{
    struct writer w = request_of(3);

    writer_bin(&w, challenge);
    writer_bin(&w, spki);
    writer_bin(&w, span_of(exporter, VERIFIER_EXPORTER_LEN));
    return w;
}

static struct writer sealed_request(struct span challenge)
{
    struct writer w = request_of(1);

    writer_bin(&w, challenge);
    return w;
}

enum attester_err attester_leaf(int fd, struct span challenge, struct span spki,
                                const uint8_t exporter[VERIFIER_EXPORTER_LEN], struct writer *envelope)
{
    struct writer w = leaf_request(challenge, spki, exporter);

    return call_envelope(fd, ATTESTER_LEAF, &w, envelope);
}

enum attester_err attester_sealed_leaf(int fd, struct span challenge, struct writer *envelope)
{
    struct writer w = sealed_request(challenge);

    return call_envelope(fd, ATTESTER_SEALED, &w, envelope);
}

static enum attester_err ask(int fd, uint32_t id, enum attester_call which, struct writer *w)
{
    enum attester_err err = ATTESTER_E_SHAPE;

    if (writer_ok(w) && w->len <= ATTESTER_PEER_MAX)
        err = send_request(fd, id, (uint8_t)which, writer_span(w), 0);
    writer_release(w);
    return err;
}

enum attester_err attester_ask_leaf(int fd, uint32_t id, struct span challenge, struct span spki,
                                    const uint8_t exporter[VERIFIER_EXPORTER_LEN])
{
    struct writer w = leaf_request(challenge, spki, exporter);

    return ask(fd, id, ATTESTER_LEAF, &w);
}

enum attester_err attester_ask_sealed_leaf(int fd, uint32_t id, struct span challenge)
{
    struct writer w = sealed_request(challenge);

    return ask(fd, id, ATTESTER_SEALED, &w);
}

/* --- keys ---------------------------------------------------------------------------------------------- */

enum attester_err attester_open(int fd, const uint8_t enc[32], struct span info, struct span aad,
                                struct verifier_hpke *out)
{
    struct writer w = request_of(3);
    struct attester_inbox in = {0};
    struct span answer;
    enum attester_err err;

    writer_bin(&w, span_of(enc, 32));
    writer_bin(&w, info);
    writer_bin(&w, aad);
    err = call(fd, ATTESTER_OPEN, &w, &in, &answer);
    memset(out, 0, sizeof *out);
    if (err == ATTESTER_OK) {
        struct reader r = reader_over(answer);
        (void)reader_list(&r, 3, 3);
        reader_bin_copy(&r, out->key, sizeof out->key);
        reader_bin_copy(&r, out->nonce, sizeof out->nonce);
        reader_bin_copy(&r, out->exporter_secret, sizeof out->exporter_secret);
        err = reader_end(&r) ? ATTESTER_OK : ATTESTER_E_INTERNAL;
    }
    attester_inbox_release(&in);
    return err;
}

enum attester_err attester_opened_once(int fd, const uint8_t enc[32], uint32_t epoch)
{
    struct writer w = request_of(2);

    writer_bin(&w, span_of(enc, 32));
    writer_uint(&w, epoch);
    return call_plain(fd, ATTESTER_OPENED, &w);
}

enum attester_err attester_forget_release(int fd)
{
    struct writer w = request_of(0);

    return call_plain(fd, ATTESTER_FORGET, &w);
}

enum attester_err attester_sign(int fd, const char *type, struct span body, uint8_t sig[VERIFIER_SIG_LEN])
{
    struct writer w = request_of(2);
    struct attester_inbox in = {0};
    struct span answer;
    enum attester_err err;

    writer_text(&w, span_str(type));
    writer_bin(&w, body);
    err = call(fd, ATTESTER_SIGN, &w, &in, &answer);
    if (err == ATTESTER_OK) {
        struct reader r = reader_over(answer);
        (void)reader_list(&r, 1, 1);
        reader_bin_copy(&r, sig, VERIFIER_SIG_LEN);
        err = reader_end(&r) ? ATTESTER_OK : ATTESTER_E_INTERNAL;
    }
    attester_inbox_release(&in);
    return err;
}

enum attester_err attester_seal_now(int fd, struct attester_seal *out)
{
    struct writer w = request_of(0);
    struct attester_inbox in = {0};
    struct span answer;
    enum attester_err err = call(fd, ATTESTER_SEAL, &w, &in, &answer);

    memset(out, 0, sizeof *out);
    if (err == ATTESTER_OK) {
        struct reader r = reader_over(answer);
        (void)reader_list(&r, 2, 2);
        out->epoch = (uint32_t)reader_uint(&r, 0, UINT32_MAX);
        reader_bin_copy(&r, out->public, VERIFIER_KEY_LEN);
        out->has = out->epoch > 0;
        err = reader_end(&r) ? ATTESTER_OK : ATTESTER_E_INTERNAL;
    }
    attester_inbox_release(&in);
    return err;
}

/* --- updates -------------------------------------------------------------------------------------------- */

enum attester_err attester_update_stage(int fd, unsigned claimed, unsigned *stage)
{
    struct writer w = request_of(1);
    struct attester_inbox in = {0};
    struct span answer;
    enum attester_err err;

    writer_uint(&w, claimed);
    err = call(fd, ATTESTER_STAGE, &w, &in, &answer);
    *stage = 0;
    if (err == ATTESTER_OK) {
        struct reader r = reader_over(answer);
        (void)reader_list(&r, 1, 1);
        *stage = (unsigned)reader_uint(&r, 0, VERIFIER_STAGE_ALL);
        err = reader_end(&r) ? ATTESTER_OK : ATTESTER_E_INTERNAL;
    }
    attester_inbox_release(&in);
    return err;
}

enum attester_err attester_update_model(int fd, const uint8_t *root, struct span load_options)
{
    struct writer w = request_of(2);

    put_bin_or_nil(&w, span_of(root, root ? VERIFIER_DIGEST_LEN : 0));
    writer_text(&w, load_options);
    return call_plain(fd, ATTESTER_MODEL, &w);
}

enum attester_err attester_update_serves(int fd, uint32_t count, const uint8_t root[VERIFIER_DIGEST_LEN])
{
    static const uint8_t none[VERIFIER_DIGEST_LEN];
    struct writer w = request_of(2);

    writer_uint(&w, count);
    writer_bin(&w, span_of(root ? root : none, VERIFIER_DIGEST_LEN));
    return call_plain(fd, ATTESTER_SERVES, &w);
}

enum attester_err attester_update_policy(int fd, struct span part, uint32_t version)
{
    struct writer w = request_of(2);

    writer_bin(&w, part);
    writer_uint(&w, version);
    return call_plain(fd, ATTESTER_POLICY, &w);
}

enum attester_err attester_update_papers(int fd, struct span revocations, struct span fleet, struct span lease)
{
    struct writer w = request_of(3);

    put_bin_or_nil(&w, revocations);
    put_bin_or_nil(&w, fleet);
    put_bin_or_nil(&w, lease);
    return call_plain(fd, ATTESTER_PAPERS, &w);
}

enum attester_err attester_update_time(int fd, uint64_t now)
{
    struct writer w = request_of(1);

    writer_uint(&w, now);
    return call_plain(fd, ATTESTER_TIME, &w);
}

enum attester_err attester_update_devices(int fd, enum verifier_cc cc, const struct attester_device *devices,
                                          size_t count)
{
    struct writer w = request_of(2);

    writer_uint(&w, (uint64_t)cc);
    writer_list(&w, count);
    for (size_t i = 0; i < count; i++) {
        writer_list(&w, 2);
        writer_bin(&w, devices[i].report);
        writer_bin(&w, devices[i].chain);
    }
    return call_plain(fd, ATTESTER_DEVICES, &w);
}

enum attester_err attester_device_nonce(int fd, uint8_t nonce[VERIFIER_NONCE_LEN])
{
    struct writer w = request_of(0);
    struct attester_inbox in = {0};
    struct span answer;
    enum attester_err err = call(fd, ATTESTER_NONCE, &w, &in, &answer);

    if (err == ATTESTER_OK) {
        struct reader r = reader_over(answer);
        (void)reader_list(&r, 1, 1);
        reader_bin_copy(&r, nonce, VERIFIER_NONCE_LEN);
        err = reader_end(&r) ? ATTESTER_OK : ATTESTER_E_INTERNAL;
    }
    attester_inbox_release(&in);
    return err;
}
