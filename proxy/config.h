/* config.h - airlock-proxy's configuration file: libconfig text (policy/config.h), read once at start.
 * What is in force is printed into the statement's configuration text (it holds no secret: keys are named by file). */
#ifndef PROXY_CONFIG_H
#define PROXY_CONFIG_H

#include "policy/config.h"
#include "proxy/front.h"
#include "proxy/tls.h"

enum { CONFIG_PATH_MAX = 512, CONFIG_ADDRESS_MAX = 128, CONFIG_FILE_MAX = 1 << 20 };

struct config {
    char listen[CONFIG_ADDRESS_MAX]; /* HTTPS for clients: "ADDR:PORT" */
    size_t tunnel_count, keyd_count;
    char tunnel_listen[BACKEND_ADDRESSES_MAX][CONFIG_ADDRESS_MAX];
    char keyd[BACKEND_ADDRESSES_MAX][CONFIG_ADDRESS_MAX];
    char policy[CONFIG_PATH_MAX];     /* the bundle: the owner's keysets, then the signed policy */
    uint8_t owner[64];                /* digest of the owner's first keyset */
    char collateral[CONFIG_PATH_MAX]; /* a file of `airlock collateral` to go along with evidence; empty: none */
    char tenants[CONFIG_PATH_MAX];    /* empty: none; its signature stands in FILE.sig */

    char certificate[CONFIG_PATH_MAX], key[CONFIG_PATH_MAX], authority[CONFIG_PATH_MAX]; /* see proxy/tls.h */
    size_t name_count;
    char name[TLS_NAMES_MAX - 1][256];

    bool http2, metrics_open;
    uint64_t threads, requests_max, challenges_per_minute;
    uint64_t drain_s, recheck_s;
    struct hx_limits limits;
    size_t origin_count;
    char origin[FRONT_ORIGINS_MAX][FRONT_ORIGIN_MAX];
    bool sandbox; /* false only in simulated builds: tests under sanitizers */
};

/* Parse the text of a configuration file. False and `*why` when refused. */
MUST_CHECK bool config_parse(struct span text, struct config *out, struct policy_problem *why);
/* The configuration in force as text, for the statement. */
void config_print(const struct config *c, struct writer *w);
/* "ADDR:PORT" or "[ADDR]:PORT" into its parts. */
MUST_CHECK bool config_address(const char *text, char host[CONFIG_ADDRESS_MAX], uint16_t *port);
/* A whole file of at most w->max bytes; false with `why` filled. */
MUST_CHECK bool config_read_file(const char *path, struct writer *w, char why[256]);

#endif
