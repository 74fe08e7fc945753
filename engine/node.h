/* node.h - airlock-engine as a whole: the parts of one engine machine in the order that security needs them.
 * The policy is read once; the attester is forked and airlock-tunnel started before any byte from a peer is read; then
 * this process locks itself in, asks keyd for lease and weight key, loads, locks itself in further, shows the model in
 * its state and serves. No part outlives another: the death of one ends the unit, who supervises it starts it anew. */
#ifndef ENGINE_NODE_H
#define ENGINE_NODE_H

#include "engine/config.h"

/* Exit status, for whoever restarts it. */
enum node_exit {
    NODE_EXIT_DRAINED = 0,
    NODE_EXIT_FAILED = 1,   /* our fault, out of memory, or the device failed */
    NODE_EXIT_START = 2,    /* configuration, policy files, program files or sandbox: trying again will not help */
    NODE_EXIT_ATTESTER = 3, /* the attester ended */
    NODE_EXIT_TUNNEL = 4,   /* airlock-tunnel ended or froze */
    NODE_EXIT_MODEL = 5,    /* the model is not the policy's, or cannot be loaded */
};

/* Serve until SIGTERM or SIGINT, drain, return. One line for people on standard error whenever it is not a drain. */
enum node_exit node_run(const struct config *config);

#endif
