/* node_log.c - the engine's own log: hash-chained, without content (policy/log.h). Its index and head go into every
 * question to keyd, which refuses an identity whose log went back or changed (tunnel/PROTOCOL.md § 10). With --log the
 * lines are kept in a file too, and the chain goes on over restarts. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/node_parts.h"

enum { LOG_MAX = 64 << 20 }; /* bytes of an old log that is continued */

static bool refuse(struct node *n, const char *why)
{
    node_end(n, NODE_EXIT_START, "the log %.200s: %s", n->config->log, why);
    return false;
}

static bool continue_log(struct node *n)
{
    struct writer text = writer_with_max(LOG_MAX);
    uint8_t piece[16384];
    bool whole = false;
    ssize_t got;
    while ((got = read(n->log_fd, piece, sizeof piece)) > 0)
        writer_bytes(&text, span_of(piece, (size_t)got));
    bool readable = got == 0 && writer_ok(&text);
    if (readable)
        policy_log_check(writer_span(&text), &n->log, &whole);
    writer_release(&text);
    if (!readable)
        return refuse(n, "it cannot be read or is longer than 64 MiB; put it away");
    return whole ||
           refuse(n, "a line does not follow the one before it (see airlock log); put it away to begin a new one");
}

static struct policy_log_line begin(struct node *n, const char *event)
{
    return policy_log_begin(&n->log, n->granted ? policy_node_now(n->papers, node_now_ms()) : 0, event);
}

static void end(struct node *n, struct policy_log_line *l)
{
    struct writer line = writer_with_max(POLICY_LOG_LINE_MAX + 1);
    bool good = policy_log_end(l, &line);
    if (good && n->log_fd >= 0 && write(n->log_fd, line.data, line.len) != (ssize_t)line.len)
        node_end(n, NODE_EXIT_FAILED, "the log cannot be written: %s", strerror(errno));
    writer_release(&line);
}

bool node_log_open(struct node *n)
{
    if (n->config->log[0]) {
        n->log_fd = open(n->config->log, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (n->log_fd < 0)
            return refuse(n, strerror(errno));
        if (!continue_log(n))
            return false;
    }
    struct policy_log_line l = begin(n, "start");
    policy_log_hex(&l, "identity", span_of(n->attester.identity, sizeof n->attester.identity));
    policy_log_word(&l, "version", span_str(AIRLOCK_VERSION));
    end(n, &l);
    return true;
}

void node_log_close(struct node *n)
{
    if (n->log_fd >= 0)
        close(n->log_fd);
    n->log_fd = -1;
}

void node_log_serving(struct node *n)
{
    struct policy_log_line l = begin(n, "serving");
    policy_log_hex(&l, "model", span_of(n->root, sizeof n->root));
    policy_log_number(&l, "policy", policy_node_policy(n->papers)->version);
    policy_log_number(&l, "sandbox", n->stage);
    end(n, &l);
}

/* What was done until now, in numbers; then where the log stands, for a question to keyd. */
void node_log_ask(struct node *n, struct policy_ask *out)
{
    struct policy_log_line l = begin(n, "lease");
    if (n->serving) {
        struct tunnel_stats s;
        engine_stats(n->engine, &s);
        policy_log_number(&l, "answers", s.finished_stop + s.finished_length);
        policy_log_number(&l, "prompt_tokens", s.prompt_tokens);
        policy_log_number(&l, "generation_tokens", s.generation_tokens);
    }
    end(n, &l);
    out->has_log = true;
    out->log_index = n->log.count;
    memcpy(out->log_head, n->log.head, sizeof out->log_head);
}
