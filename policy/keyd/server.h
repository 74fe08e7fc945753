/* server.h - airlock-keyd's listener: one thread, one poll loop, TLS channels (tunnel/channel.h) on which nodes prove
 * themselves and ask. Which role is expected follows from the port that a node dialled. Nothing is answered before its
 * log line is on the disk. Refusals go to standard error as JSON lines, codes and addresses only. */
#ifndef POLICY_KEYD_SERVER_H
#define POLICY_KEYD_SERVER_H

#include <signal.h>

#include "policy/keyd/store.h"

enum { KEYD_CONNECTIONS_MAX = 256, KEYD_VERDICT_S = 3600 };

struct keyd_server;

/* Bind every listener. NULL with a sentence in `why`. Yours: keyd_server_close(). */
struct keyd_server *keyd_server_open(const struct keyd_config *config, char why[256]);
/* The port that listener `i` of a role got; 0: no such listener. */
uint16_t keyd_server_port(const struct keyd_server *s, enum verifier_role role, size_t i);
/* Serve until `*stop` becomes non-zero; read the operator's files again when `*reload` does (and clear it). */
void keyd_server_run(struct keyd_server *s, struct keyd_store *store, struct keyd_core *core,
                     volatile sig_atomic_t *stop, volatile sig_atomic_t *reload);
void keyd_server_close(struct keyd_server *s);

/* One JSON line on standard error: {"at":...,"event":...,"code":...,"text":...}; empty strings are left out. */
void keyd_say(const char *event, const char *code, const char *text);

#endif
