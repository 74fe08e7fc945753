/* attacks.h - attacks on the channel's evidence, each with the field that stops it. Two programs walk the list:
 * test_protocol_attacks (the shipped objects: each is refused, by its name, at its stage) and test_protocol_opposite
 * (the opposite proof: with that one field ignored, each succeeds). PROTOCOL.md § Fields and attacks quotes the names.
 */
#ifndef TESTS_UNIT_ATTACKS_H
#define TESTS_UNIT_ATTACKS_H

#include "unit/world.h"

struct attack {
    const char *name;
    const char *fields; /* what stops it, comma-separated when two cover it: the names of IGNORED() */
    enum verifier_err code;
    int stage, inner_stage;
    struct policy_verdict (*mount)(struct world *w);
};

/* The good twin of the attacks on GPUs behind switches. */
struct policy_verdict attacks_honest_fabric(struct world *w);

extern const struct attack attacks[];
extern const size_t attacks_count;

#endif
