#include "policy/keyd/history.h"

#include <jansson.h>
#include <stdlib.h>

struct keyd_node *keyd_history_find(struct keyd_history *h, const uint8_t identity[VERIFIER_KEY_LEN])
{
    for (size_t i = 0; i < h->count; i++)
        if (memcmp(h->node[i].identity, identity, VERIFIER_KEY_LEN) == 0)
            return &h->node[i];
    return NULL;
}

static void forget_old(struct keyd_history *h, uint64_t now)
{
    size_t kept = 0;
    for (size_t i = 0; i < h->count; i++)
        if (h->node[i].until + KEYD_NODE_LIFE_S > now)
            h->node[kept++] = h->node[i];
    h->count = kept;
}

struct keyd_node *keyd_history_take(struct keyd_history *h, const uint8_t identity[VERIFIER_KEY_LEN], uint64_t now)
{
    struct keyd_node *n = keyd_history_find(h, identity);
    if (n)
        return n;
    if (h->count == KEYD_NODES_MAX)
        forget_old(h, now);
    if (h->count == KEYD_NODES_MAX)
        return NULL;
    n = &h->node[h->count++];
    *n = (struct keyd_node){0};
    memcpy(n->identity, identity, VERIFIER_KEY_LEN);
    return n;
}

void keyd_history_release(struct keyd_history *h)
{
    free(h->node);
    *h = (struct keyd_history){0};
}

/* --- replay ------------------------------------------------------------------------------------------- */

static uint64_t number(const json_t *line, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(line, key));
}

static void raise(uint32_t *highest, const json_t *line, const char *key)
{
    uint64_t v = number(line, key);
    if (v > *highest && v <= UINT32_MAX)
        *highest = (uint32_t)v;
}

static bool hex_of(const json_t *line, const char *key, uint8_t *out, size_t len)
{
    const char *text = json_string_value(json_object_get(line, key));
    return text && policy_hex_parse(span_str(text), out, len);
}

static bool replay_grant(struct keyd_history *h, const json_t *line)
{
    uint8_t identity[VERIFIER_KEY_LEN];
    if (!hex_of(line, "identity", identity, sizeof identity))
        return false;
    struct keyd_node *n = keyd_history_take(h, identity, h->last_at);
    if (!n)
        return false;
    n->until = number(line, "until");
    n->has_log = hex_of(line, "log_head", n->log_head, sizeof n->log_head);
    n->log_index = number(line, "log_index");
    return true;
}

static bool replay_line(struct keyd_history *h, struct span text)
{
    json_t *line = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    const char *event = json_string_value(json_object_get(line, "event"));
    bool good = event != NULL;
    if (good) {
        uint64_t at = number(line, "at");
        h->last_at = at > h->last_at ? at : h->last_at;
        raise(&h->policy, line, "policy");
        raise(&h->keyset, line, "keyset");
        raise(&h->epoch, line, "epoch");
        raise(&h->tenants, line, "tenants");
        if (strcmp(event, "stale") == 0 || strcmp(event, "restored") == 0)
            h->waiting = true;
        else if (strcmp(event, "confirmed") == 0)
            h->waiting = false;
        else if (strcmp(event, "grant") == 0)
            good = replay_grant(h, line);
    }
    json_decref(line);
    return good;
}

bool keyd_history_open(struct keyd_history *h, struct span log)
{
    *h = (struct keyd_history){.node = calloc(KEYD_NODES_MAX, sizeof *h->node)};
    bool good = h->node != NULL;
    while (good && log.len > 0) {
        const uint8_t *end = memchr(log.data, '\n', log.len);
        size_t len = end ? (size_t)(end - log.data) : log.len;
        good = end && replay_line(h, span_of(log.data, len));
        log = end ? span_of(end + 1, log.len - len - 1) : span_of(NULL, 0);
    }
    if (!good)
        keyd_history_release(h);
    return good;
}
