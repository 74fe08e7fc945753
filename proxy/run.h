/* run.h - a proxy from its configuration to its last request: the parts of airlock-proxy in the order that security
 * needs them. TLS key and documents are read, the attester is forked while the process has one thread and has seen no
 * peer's byte, the process locks itself in, and only then listens. */
#ifndef PROXY_RUN_H
#define PROXY_RUN_H

#include "proxy/config.h"

/* Serve until SIGTERM or SIGINT, drain, return the exit status: 0 after a drain, 1 with one line for people on
 * standard error. A second signal ends the process at once. */
int run_proxy(const struct config *config);

#endif
