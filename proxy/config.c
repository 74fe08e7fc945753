#include "proxy/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

bool config_read_file(const char *path, struct writer *w, char why[256])
{
    FILE *f = fopen(path, "re");
    uint8_t buf[8192];
    size_t n;
    bool ok;

    if (!f) {
        snprintf(why, 256, "cannot open %.160s: %s", path, strerror(errno));
        return false;
    }
    while ((n = fread(buf, 1, sizeof buf, f)) > 0)
        writer_bytes(w, span_of(buf, n));
    ok = !ferror(f) && writer_ok(w);
    fclose(f);
    if (!ok)
        snprintf(why, 256, "cannot read %.160s, or it is longer than %zu bytes", path, w->max);
    return ok;
}

bool config_address(const char *text, char host[CONFIG_ADDRESS_MAX], uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    char *end;
    unsigned long n;

    if (len == 0 || len >= CONFIG_ADDRESS_MAX || colon[1] < '0' || colon[1] > '9')
        return false;
    n = strtoul(colon + 1, &end, 10);
    if (*end || n > 65535)
        return false;
    if (text[0] == '[' && len > 2 && text[len - 1] == ']')
        text++, len -= 2;
    memcpy(host, text, len);
    host[len] = 0;
    *port = (uint16_t)n;
    return true;
}

/* --- reading ----------------------------------------------------------------------------------------- */

static void read_addresses(struct policy_group *g, const char *key, char (*out)[CONFIG_ADDRESS_MAX], size_t *count)
{
    char host[CONFIG_ADDRESS_MAX];
    uint16_t port;

    if (!policy_group_texts(g, key, POLICY_REQUIRED, 1, BACKEND_ADDRESSES_MAX, out[0], CONFIG_ADDRESS_MAX, count))
        return;
    for (size_t i = 0; i < *count; i++)
        if (!config_address(out[i], host, &port))
            policy_group_refuse(g, key, POLICY_PROBLEM_VALUE, "'%.60s' is not ADDRESS:PORT", out[i]);
}

static void read_tls(struct policy_group *root, struct config *c)
{
    struct policy_group g = policy_group_child(root, "tls", POLICY_REQUIRED);

    policy_group_text(&g, "certificate", POLICY_OPTIONAL, c->certificate, sizeof c->certificate);
    policy_group_text(&g, "key", POLICY_OPTIONAL, c->key, sizeof c->key);
    policy_group_text(&g, "authority", POLICY_OPTIONAL, c->authority, sizeof c->authority);
    policy_group_texts(&g, "names", POLICY_OPTIONAL, 1, TLS_NAMES_MAX - 1, c->name[0], sizeof c->name[0],
                       &c->name_count);
    policy_group_bool(&g, "http2", POLICY_OPTIONAL, &c->http2);
    if (!c->certificate[0] != !c->key[0])
        policy_group_refuse(&g, "certificate", POLICY_PROBLEM_MISSING, "certificate and key go together");
    if (!c->certificate[0] && c->name_count == 0)
        policy_group_refuse(&g, "names", POLICY_PROBLEM_MISSING,
                            "without certificate files the names to certify must be given");
    policy_group_end(&g);
}

static void read_ms(struct policy_group *g, const char *key, unsigned *ms)
{
    uint64_t s;

    if (policy_group_duration(g, key, POLICY_OPTIONAL, 1, 86400, &s))
        *ms = (unsigned)s * 1000;
}

static void read_limits(struct policy_group *root, struct config *c)
{
    struct policy_group g = policy_group_child(root, "limits", POLICY_OPTIONAL);
    struct hx_limits *l = &c->limits;
    uint64_t n;

    if (policy_group_size(&g, "head", POLICY_OPTIONAL, 1024, 256 << 10, &n))
        l->head = n;
    if (policy_group_size(&g, "body", POLICY_OPTIONAL, 1024, 32 << 20, &n))
        l->body = n;
    if (policy_group_size(&g, "buffered", POLICY_OPTIONAL, 1 << 20, (uint64_t)8 << 30, &n))
        l->buffered = n;
    read_ms(&g, "head_time", &l->head_ms);
    read_ms(&g, "body_time", &l->body_ms);
    read_ms(&g, "request_time", &l->request_ms);
    read_ms(&g, "stall_time", &l->stall_ms);
    if (policy_group_uint(&g, "connections", POLICY_OPTIONAL, 1, 100000, &n))
        l->connections = (unsigned)n;
    if (policy_group_uint(&g, "per_address", POLICY_OPTIONAL, 1, 100000, &n))
        l->per_address = (unsigned)n;
    policy_group_uint(&g, "requests", POLICY_OPTIONAL, 1, 100000, &c->requests_max);
    policy_group_uint(&g, "challenges_per_minute", POLICY_OPTIONAL, 1, 1000000, &c->challenges_per_minute);
    policy_group_end(&g);
}

static void read_root(struct policy_group *g, struct config *c)
{
    char host[CONFIG_ADDRESS_MAX];
    uint16_t port;

    policy_group_text(g, "listen", POLICY_REQUIRED, c->listen, sizeof c->listen);
    if (c->listen[0] && !config_address(c->listen, host, &port))
        policy_group_refuse(g, "listen", POLICY_PROBLEM_VALUE, "'%.60s' is not ADDRESS:PORT", c->listen);
    read_addresses(g, "tunnel_listen", c->tunnel_listen, &c->tunnel_count);
    read_addresses(g, "keyd", c->keyd, &c->keyd_count);
    policy_group_text(g, "policy", POLICY_REQUIRED, c->policy, sizeof c->policy);
    policy_group_hex(g, "owner", POLICY_REQUIRED, c->owner, sizeof c->owner);
    policy_group_text(g, "collateral", POLICY_OPTIONAL, c->collateral, sizeof c->collateral);
    policy_group_text(g, "tenants", POLICY_OPTIONAL, c->tenants, sizeof c->tenants);
    policy_group_uint(g, "threads", POLICY_OPTIONAL, 1, 16, &c->threads);
    policy_group_bool(g, "metrics_open", POLICY_OPTIONAL, &c->metrics_open);
    policy_group_duration(g, "drain_time", POLICY_OPTIONAL, 1, 3600, &c->drain_s);
    policy_group_duration(g, "recheck", POLICY_OPTIONAL, 1, 600, &c->recheck_s);
    policy_group_texts(g, "origins", POLICY_OPTIONAL, 1, FRONT_ORIGINS_MAX, c->origin[0], FRONT_ORIGIN_MAX,
                       &c->origin_count);
#ifdef AIRLOCK_SIMULATED
    policy_group_bool(g, "sandbox", POLICY_OPTIONAL, &c->sandbox);
#endif
}

bool config_parse(struct span text, struct config *out, struct policy_problem *why)
{
    struct policy_config *config = policy_config_open(text, why);
    struct policy_group root;
    bool ok;

    memset(out, 0, sizeof *out);
    if (!config)
        return false;
    out->threads = 2;
    out->requests_max = 256;
    out->challenges_per_minute = 240;
    out->drain_s = 30;
    out->recheck_s = 300;
    out->sandbox = true;
    out->limits = hx_limits_default();
    root = policy_config_root(config);
    read_root(&root, out);
    read_tls(&root, out);
    read_limits(&root, out);
    policy_group_end(&root);
    ok = policy_config_ok(config, why);
    policy_config_close(config);
    return ok;
}

/* --- printing ---------------------------------------------------------------------------------------- */

static void print_list(struct writer *w, const char *key, const char *first, size_t stride, size_t count)
{
    writer_printf(w, "%s = [", key);
    for (size_t i = 0; i < count; i++)
        writer_printf(w, "%s\"%s\"", i ? ", " : "", first + i * stride);
    writer_str(w, "]\n");
}

void config_print(const struct config *c, struct writer *w)
{
    const struct hx_limits *l = &c->limits;
    char owner[129];

    policy_hex_print(span_of(c->owner, sizeof c->owner), owner);
    writer_printf(w, "listen = \"%s\"\n", c->listen);
    print_list(w, "tunnel_listen", c->tunnel_listen[0], sizeof c->tunnel_listen[0], c->tunnel_count);
    print_list(w, "keyd", c->keyd[0], sizeof c->keyd[0], c->keyd_count);
    writer_printf(w, "policy = \"%s\"\nowner = \"%s\"\ntenants = \"%s\"\ncollateral = \"%s\"\n", c->policy, owner,
                  c->tenants, c->collateral);
    writer_printf(w, "tls.certificate = \"%s\"\ntls.key = \"%s\"\ntls.authority = \"%s\"\n", c->certificate, c->key,
                  c->authority);
    print_list(w, "tls.names", c->name[0], sizeof c->name[0], c->name_count);
    writer_printf(w, "tls.http2 = %s\n", c->http2 ? "true" : "false");
    print_list(w, "origins", c->origin[0], sizeof c->origin[0], c->origin_count);
    writer_printf(w, "threads = %llu\nmetrics_open = %s\ndrain_time = %llus\nrecheck = %llus\nsandbox = %s\n",
                  (unsigned long long)c->threads, c->metrics_open ? "true" : "false", (unsigned long long)c->drain_s,
                  (unsigned long long)c->recheck_s, c->sandbox ? "true" : "false");
    writer_printf(w,
                  "limits = head %zu, body %zu, buffered %zu, head_ms %u, body_ms %u, request_ms %u, stall_ms %u, "
                  "connections %u, per_address %u, requests %llu, challenges_per_minute %llu\n",
                  l->head, l->body, l->buffered, l->head_ms, l->body_ms, l->request_ms, l->stall_ms, l->connections,
                  l->per_address, (unsigned long long)c->requests_max, (unsigned long long)c->challenges_per_minute);
}
