/* config.h - airlock-keyd's configuration file (libconfig text, policy/config.h). */
#ifndef POLICY_KEYD_CONFIG_H
#define POLICY_KEYD_CONFIG_H

#include "policy/config.h"
#include "policy/keyd/core.h"

enum { KEYD_LISTEN_MAX = 4, KEYD_ADDRESS_MAX = 64, KEYD_PATH_MAX = 1024 };

struct keyd_config {
    size_t engine_count, proxy_count;
    char engines[KEYD_LISTEN_MAX][KEYD_ADDRESS_MAX]; /* "ADDR:PORT", "[ADDR]:PORT"; port 0: any. Engines ask here */
    char proxies[KEYD_LISTEN_MAX][KEYD_ADDRESS_MAX]; /* proxies ask here: the role that is expected follows the port */
    char key[KEYD_PATH_MAX];                         /* our signing key; the log's head is sealed beside it */
    char state[KEYD_PATH_MAX];                       /* folder: log, adopted papers */
    char documents[KEYD_PATH_MAX];                   /* airlock policy bundle */
    char revocations[KEYD_PATH_MAX];                 /* "" = none */
    char tenants[KEYD_PATH_MAX];                     /* tenants file, its signatures in FILE.sig; "" = none */
    uint64_t lease_s;                                /* 0: what the policy allows */
    bool sandbox;
    size_t weight_count;
    struct {
        char model[257];
        char file[KEYD_PATH_MAX];
    } weight[KEYD_WEIGHTS_MAX];
};

/* Relative paths are meant from the folder of the configuration file. False and `*why` when refused. */
MUST_CHECK bool keyd_config_parse(struct keyd_config *out, struct span text, const char *path,
                                  struct policy_problem *why);

#endif
