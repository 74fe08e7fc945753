#include "policy/keyd/config.h"

#include <stdio.h>

static void parse_path(struct policy_group *g, const char *key, enum policy_need need, const char *folder,
                       char out[KEYD_PATH_MAX])
{
    char text[KEYD_PATH_MAX];
    if (!policy_group_text(g, key, need, text, sizeof text))
        return;
    int len = snprintf(out, KEYD_PATH_MAX, "%s%s", text[0] == '/' ? "" : folder, text);
    if (len < 0 || len >= KEYD_PATH_MAX)
        policy_group_refuse(g, key, POLICY_PROBLEM_RANGE, "the path is too long");
}

static void parse_weights(struct policy_group *g, struct keyd_config *c, const char *folder)
{
    c->weight_count = policy_group_count(g, "weights", 0, KEYD_WEIGHTS_MAX);
    for (size_t i = 0; i < c->weight_count; i++) {
        struct policy_group w = policy_group_at(g, "weights", i);
        policy_group_text(&w, "model", POLICY_REQUIRED, c->weight[i].model, sizeof c->weight[i].model);
        parse_path(&w, "file", POLICY_REQUIRED, folder, c->weight[i].file);
        policy_group_end(&w);
    }
}

static void folder_of(const char *path, char out[KEYD_PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) + 1 : 0;
    if (len >= KEYD_PATH_MAX)
        len = 0;
    memcpy(out, path, len);
    out[len] = '\0';
}

bool keyd_config_parse(struct keyd_config *out, struct span text, const char *path, struct policy_problem *why)
{
    char folder[KEYD_PATH_MAX];
    struct policy_config *c = policy_config_open(text, why);
    memset(out, 0, sizeof *out);
    if (!c)
        return false;
    folder_of(path, folder);
    struct policy_group g = policy_config_root(c);
    policy_group_texts(&g, "listen_engines", POLICY_REQUIRED, 1, KEYD_LISTEN_MAX, out->engines[0], KEYD_ADDRESS_MAX,
                       &out->engine_count);
    policy_group_texts(&g, "listen_proxies", POLICY_REQUIRED, 1, KEYD_LISTEN_MAX, out->proxies[0], KEYD_ADDRESS_MAX,
                       &out->proxy_count);
    parse_path(&g, "key", POLICY_REQUIRED, folder, out->key);
    parse_path(&g, "state", POLICY_REQUIRED, folder, out->state);
    parse_path(&g, "documents", POLICY_REQUIRED, folder, out->documents);
    parse_path(&g, "revocations", POLICY_OPTIONAL, folder, out->revocations);
    parse_path(&g, "tenants", POLICY_OPTIONAL, folder, out->tenants);
    policy_group_duration(&g, "lease", POLICY_OPTIONAL, 60, 86400, &out->lease_s);
    out->sandbox = true;
    policy_group_bool(&g, "sandbox", POLICY_OPTIONAL, &out->sandbox);
    parse_weights(&g, out, folder);
    policy_group_end(&g);
    bool good = policy_config_ok(c, why);
    policy_config_close(c);
    return good;
}
