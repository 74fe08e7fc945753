/* acceptance.h - a client's own rules, as text: which software, whose policy, which machines it sends prompts to. The
 * owner's policy is a claim to it, never its judge. libconfig text (policy/config.h); `airlock policy init` writes a
 * commented one. */
#ifndef POLICY_ACCEPTANCE_H
#define POLICY_ACCEPTANCE_H

#include "policy/rules.h"

/* False and `*why` when refused; `*out` then accepts nothing. */
MUST_CHECK bool policy_acceptance_parse(struct span text, struct policy_rules *out, struct policy_problem *why);

#endif
