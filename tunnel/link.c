#include "tunnel/link.h"

#include "verifier/base/secret.h"
#include "verifier/types.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONTROL_MAX = 4 << 20, /* bytes of control frames waiting to go out */
    ITEMS_MAX = 1024,      /* events waiting for the owner */
    READS_MAX = 256,       /* records of one pump: the rest of the loop must live too */
};

struct item {
    struct item *next;
    enum tunnel_link_kind kind;
    size_t len;
    uint8_t body[];
};

struct tunnel_link {
    int fd;
    bool engine, closed, closed_told, heard, peer_drains, drain_told;
    enum tunnel_err why;
    struct tunnel_mux *mux;
    uint64_t heard_ms, beat_ms;
    struct writer control; /* encoded frames */
    size_t control_at;
    struct writer object; /* RULES or GRANT so far */
    struct item *first, *last, *lent;
    size_t items;
    bool writing; /* `out` holds a frame that the socket did not take */
    struct writer out;
    uint8_t in[TUNNEL_FRAME_MAX + 1];
};

/* --- objects -------------------------------------------------------------------------------------- */

void tunnel_rules_encode(struct writer *w, const struct tunnel_rules *in)
{
    writer_map(w, 3);
    writer_key(w, "policy");
    writer_bin(w, in->policy);
    writer_key(w, "revocations");
    writer_bin(w, in->revocations);
    writer_key(w, "now");
    writer_uint(w, in->now);
}

enum reader_err tunnel_rules_parse(struct tunnel_rules *out, struct span bytes)
{
    struct reader r = reader_over(bytes);
    *out = (struct tunnel_rules){0};
    reader_map(&r, 3);
    reader_key(&r, "policy");
    out->policy = reader_bin(&r, 0, VERIFIER_PART_MAX);
    reader_key(&r, "revocations");
    out->revocations = reader_bin(&r, 0, VERIFIER_PART_MAX);
    reader_key(&r, "now");
    out->now = reader_uint(&r, 0, VERIFIER_TIME_MAX);
    (void)reader_end(&r);
    return r.err;
}

static void peer_encode(struct writer *w, const struct tunnel_peer *in)
{
    writer_map(w, 5);
    writer_key(w, "keyd");
    writer_bool(w, in->keyd);
    writer_key(w, "index");
    writer_uint(w, in->index);
    writer_key(w, "up");
    writer_bool(w, in->up);
    writer_key(w, "name");
    writer_text(w, in->name);
    writer_key(w, "code");
    writer_text(w, in->code);
}

static enum reader_err peer_parse(struct tunnel_peer *out, struct span bytes)
{
    struct reader r = reader_over(bytes);
    *out = (struct tunnel_peer){0};
    reader_map(&r, 5);
    reader_key(&r, "keyd");
    out->keyd = reader_bool(&r);
    reader_key(&r, "index");
    out->index = (uint32_t)reader_uint(&r, 0, UINT32_MAX);
    reader_key(&r, "up");
    out->up = reader_bool(&r);
    reader_key(&r, "name");
    out->name = reader_text(&r, 0, TUNNEL_PEER_NAME_MAX);
    reader_key(&r, "code");
    out->code = reader_text(&r, 0, 63);
    if (r.err == READER_OK && out->keyd && out->index >= TUNNEL_KEYDS_MAX)
        reader_fail(&r, READER_RANGE);
    (void)reader_end(&r);
    return r.err;
}

/* --- life ----------------------------------------------------------------------------------------- */

int tunnel_link_pair(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds);
}

struct tunnel_link *tunnel_link_open(int fd, bool engine, uint64_t now_ms)
{
    struct tunnel_link *l = calloc(1, sizeof *l);
    int flags = fcntl(fd, F_GETFL);
    if (!l)
        return NULL;
    l->mux = tunnel_mux_open(!engine);
    if (!l->mux || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        tunnel_mux_close(l->mux);
        free(l);
        return NULL;
    }
    l->fd = fd;
    l->engine = engine;
    l->heard_ms = now_ms;
    l->control = writer_with_max(CONTROL_MAX);
    l->object = writer_with_max(TUNNEL_GRANT_MAX + 1);
    l->out = writer_with_max(TUNNEL_FRAME_MAX);
    return l;
}

void tunnel_link_close(struct tunnel_link *l)
{
    if (!l)
        return;
    (void)close(l->fd);
    tunnel_mux_close(l->mux);
    writer_release(&l->control);
    writer_release(&l->object);
    writer_release(&l->out);
    for (struct item *i; (i = l->first); free(i))
        l->first = i->next;
    free(l->lent);
    secret_wipe(l->in, sizeof l->in);
    free(l);
}

static void finish(struct tunnel_link *l, enum tunnel_err why)
{
    if (l->closed)
        return;
    l->closed = true;
    l->why = why;
    tunnel_mux_fail(l->mux, tunnel_err_name(why));
}

int tunnel_link_fd(const struct tunnel_link *l)
{
    return l->fd;
}

bool tunnel_link_is_closed(const struct tunnel_link *l)
{
    return l->closed;
}

struct tunnel_mux *tunnel_link_mux(struct tunnel_link *l)
{
    return l->mux;
}

uint64_t tunnel_link_deadline(const struct tunnel_link *l)
{
    if (l->closed)
        return UINT64_MAX;
    uint64_t dead = l->heard ? l->heard_ms + TUNNEL_LINK_DEAD_MS : UINT64_MAX;
    return l->beat_ms < dead ? l->beat_ms : dead;
}

/* --- from the other end --------------------------------------------------------------------------- */

static enum tunnel_err item_put(struct tunnel_link *l, enum tunnel_link_kind kind, struct span body)
{
    struct item *i = l->items < ITEMS_MAX ? malloc(sizeof *i + body.len) : NULL;
    if (!i)
        return TUNNEL_E_MEMORY;
    *i = (struct item){.kind = kind, .len = body.len};
    if (body.len)
        memcpy(i->body, body.data, body.len);
    if (l->first)
        l->last->next = i;
    else
        l->first = i;
    l->last = i;
    l->items++;
    return TUNNEL_OK;
}

/* An object in pieces, RULES or GRANT: the two come in opposite directions, so one buffer serves. */
static enum tunnel_err take_piece(struct tunnel_link *l, enum tunnel_link_kind kind, const struct tunnel_frame *f)
{
    writer_bytes(&l->object, f->body);
    if (!writer_ok(&l->object))
        return TUNNEL_E_MESSAGE_SIZE;
    if (f->flags & TUNNEL_FRAME_MORE)
        return TUNNEL_OK;
    enum tunnel_err err = item_put(l, kind, writer_span(&l->object));
    writer_reset(&l->object);
    return err;
}

static enum tunnel_err take_frame(struct tunnel_link *l, const struct tunnel_frame *f)
{
    struct tunnel_peer peer;
    switch (f->kind) {
    case TUNNEL_FRAME_HEARTBEAT:
        return TUNNEL_OK;
    case TUNNEL_FRAME_GOAWAY:
        tunnel_mux_drain(l->mux);
        l->peer_drains = true;
        return TUNNEL_OK;
    case TUNNEL_FRAME_PEER:
        if (!l->engine)
            return TUNNEL_E_FRAME_KIND;
        return peer_parse(&peer, f->body) ? TUNNEL_E_FRAME_BODY : item_put(l, TUNNEL_LINK_PEER, f->body);
    case TUNNEL_FRAME_GRANT:
        return l->engine ? take_piece(l, TUNNEL_LINK_GRANT, f) : TUNNEL_E_FRAME_KIND;
    case TUNNEL_FRAME_RULES:
        return l->engine ? TUNNEL_E_FRAME_KIND : take_piece(l, TUNNEL_LINK_RULES, f);
    case TUNNEL_FRAME_STATS:
        return l->engine ? TUNNEL_E_FRAME_KIND : item_put(l, TUNNEL_LINK_STATS, f->body);
    case TUNNEL_FRAME_ASK:
        return l->engine ? TUNNEL_E_FRAME_KIND : item_put(l, TUNNEL_LINK_ASK, f->body);
    default:
        return tunnel_mux_take(l->mux, f);
    }
}

static void read_records(struct tunnel_link *l, uint64_t now_ms)
{
    struct tunnel_frame f;
    for (int n = 0; n < READS_MAX && !l->closed; n++) {
        ssize_t len = read(l->fd, l->in, sizeof l->in);
        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (len <= 0) {
            finish(l, TUNNEL_E_CLOSED);
            return;
        }
        ssize_t used = tunnel_frame_decode(&f, span_of(l->in, (size_t)len));
        enum tunnel_err err = used < 0      ? (enum tunnel_err) - used
                              : used != len ? TUNNEL_E_FRAME_BODY
                                            : take_frame(l, &f);
        if (err)
            finish(l, err);
        l->heard = true;
        l->heard_ms = now_ms;
    }
}

/* --- to the other end ----------------------------------------------------------------------------- */

static void put_frame(struct tunnel_link *l, uint8_t kind, uint8_t flags, struct span body)
{
    tunnel_frame_encode(&l->control, &(struct tunnel_frame){.kind = kind, .flags = flags, .body = body});
}

/* The next record into `out`: control frames first. */
static bool next_record(struct tunnel_link *l)
{
    struct tunnel_frame f;
    struct span control = span_of(l->control.data + l->control_at, l->control.len - l->control_at);
    ssize_t len = control.len ? tunnel_frame_decode(&f, control) : 0;
    writer_reset(&l->out);
    if (len > 0) {
        writer_bytes(&l->out, span_of(control.data, (size_t)len));
        l->control_at += (size_t)len;
        if (l->control_at == l->control.len) {
            writer_reset(&l->control);
            l->control_at = 0;
        }
        return true;
    }
    if (!tunnel_mux_next(l->mux, &f))
        return false;
    tunnel_frame_encode(&l->out, &f);
    return true;
}

static void write_records(struct tunnel_link *l)
{
    while (!l->closed && (l->writing || next_record(l))) {
        if (!writer_ok(&l->out)) {
            finish(l, TUNNEL_E_MEMORY);
            return;
        }
        ssize_t len = write(l->fd, l->out.data, l->out.len);
        l->writing = len < 0 && (errno == EAGAIN || errno == EINTR);
        if (l->writing)
            return;
        if (len != (ssize_t)l->out.len)
            finish(l, TUNNEL_E_CLOSED);
    }
}

void tunnel_link_pump(struct tunnel_link *l, uint64_t now_ms)
{
    read_records(l, now_ms); /* first: what came while we slept speaks for the other end */
    if (l->closed)
        return;
    if (l->heard && now_ms >= l->heard_ms + TUNNEL_LINK_DEAD_MS) {
        finish(l, TUNNEL_E_FROZEN);
        return;
    }
    if (now_ms >= l->beat_ms) {
        l->beat_ms = now_ms + TUNNEL_LINK_BEAT_MS;
        if (l->control.len == 0) /* a full socket has beats enough */
            put_frame(l, TUNNEL_FRAME_HEARTBEAT, 0, span_of(NULL, 0));
    }
    write_records(l);
}

short tunnel_link_wants(struct tunnel_link *l)
{
    if (l->closed)
        return 0;
    if (!l->writing && next_record(l))
        l->writing = true;
    return l->writing ? POLLIN | POLLOUT : POLLIN;
}

/* An object in frames of one kind behind a prefix, all but the last flagged MORE. False: closed or full. */
static bool put_object(struct tunnel_link *l, uint8_t kind, const uint8_t *prefix, struct span object)
{
    struct writer w = writer_with_max(TUNNEL_GRANT_MAX + 1);
    if (prefix)
        writer_u8(&w, *prefix);
    writer_bytes(&w, object);
    struct span rest = writer_span(&w);
    bool good = !l->closed && rest.len > 0 && l->control.len + rest.len + rest.len / 64 + 64 < CONTROL_MAX;
    while (good && rest.len > 0) {
        size_t len = rest.len < TUNNEL_FRAME_BODY_MAX ? rest.len : TUNNEL_FRAME_BODY_MAX;
        put_frame(l, kind, len < rest.len ? TUNNEL_FRAME_MORE : 0, span_of(rest.data, len));
        rest = span_of(rest.data + len, rest.len - len);
    }
    writer_release(&w);
    return good && writer_ok(&l->control);
}

bool tunnel_link_peer(struct tunnel_link *l, const struct tunnel_peer *peer)
{
    struct writer w = writer_with_max(1024);
    peer_encode(&w, peer);
    bool good = writer_ok(&w) && put_object(l, TUNNEL_FRAME_PEER, NULL, writer_span(&w));
    writer_release(&w);
    return good;
}

bool tunnel_link_rules(struct tunnel_link *l, const struct tunnel_rules *rules)
{
    struct writer w = writer_with_max(TUNNEL_RULES_MAX);
    tunnel_rules_encode(&w, rules);
    bool good = writer_ok(&w) && put_object(l, TUNNEL_FRAME_RULES, NULL, writer_span(&w));
    writer_release(&w);
    return good;
}

bool tunnel_link_ask(struct tunnel_link *l, uint32_t keyd, struct span ask)
{
    uint8_t index = (uint8_t)keyd;
    return keyd < TUNNEL_KEYDS_MAX && ask.len <= TUNNEL_ASK_MAX && put_object(l, TUNNEL_FRAME_ASK, &index, ask);
}

bool tunnel_link_grant(struct tunnel_link *l, uint32_t keyd, struct span grant)
{
    uint8_t index = (uint8_t)keyd;
    return keyd < TUNNEL_KEYDS_MAX && put_object(l, TUNNEL_FRAME_GRANT, &index, grant);
}

bool tunnel_link_stats(struct tunnel_link *l, struct span stats)
{
    return stats.len <= 8192 && put_object(l, TUNNEL_FRAME_STATS, NULL, stats);
}

void tunnel_link_drain(struct tunnel_link *l)
{
    tunnel_mux_drain(l->mux);
    if (!l->closed)
        put_frame(l, TUNNEL_FRAME_GOAWAY, 0, span_of(NULL, 0));
}

/* --- events --------------------------------------------------------------------------------------- */

static bool item_event(struct tunnel_link *l, struct tunnel_link_event *out)
{
    struct item *i = l->first;
    if (!i)
        return false;
    l->first = i->next;
    l->items--;
    l->lent = i;
    out->kind = i->kind;
    out->body = span_of(i->body, i->len);
    if (i->kind == TUNNEL_LINK_PEER)
        return peer_parse(&out->peer, out->body) == READER_OK;
    if (i->kind == TUNNEL_LINK_RULES) {
        if (tunnel_rules_parse(&out->rules, out->body) == READER_OK)
            return true;
        finish(l, TUNNEL_E_FRAME_BODY);
        return false;
    }
    if (i->kind == TUNNEL_LINK_STATS)
        return true;
    out->keyd = i->body[0]; /* ASK and GRANT are never empty */
    out->body = span_of(i->body + 1, i->len - 1);
    if (out->keyd < TUNNEL_KEYDS_MAX && out->body.len > 0)
        return true;
    finish(l, TUNNEL_E_FRAME_BODY);
    return false;
}

bool tunnel_link_event(struct tunnel_link *l, struct tunnel_link_event *out)
{
    free(l->lent);
    l->lent = NULL;
    *out = (struct tunnel_link_event){.kind = TUNNEL_LINK_NONE};
    if (item_event(l, out))
        return true;
    *out = (struct tunnel_link_event){.kind = TUNNEL_LINK_NONE};
    if (tunnel_mux_event(l->mux, &out->stream)) {
        out->kind = TUNNEL_LINK_STREAM;
        return true;
    }
    if (l->peer_drains && !l->drain_told) {
        l->drain_told = true;
        out->kind = TUNNEL_LINK_DRAIN;
        return true;
    }
    if (l->closed && !l->closed_told) {
        l->closed_told = true;
        out->kind = TUNNEL_LINK_CLOSED;
        out->why = l->why;
        return true;
    }
    return false;
}
