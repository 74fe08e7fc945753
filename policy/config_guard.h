/* config_guard.h - what a configuration text must satisfy before libconfig may read it (config.c's own helper). */
#ifndef POLICY_CONFIG_GUARD_H
#define POLICY_CONFIG_GUARD_H

#include "policy/config.h"

/* False and `*why` for the first thing that libconfig would misread: see config.h. */
MUST_CHECK bool policy_config_guard(struct span text, struct policy_problem *why);

/* Set `*p` unless it already holds a problem. */
void policy_problem_set(struct policy_problem *p, enum policy_problem_code code, int line, const char *path,
                        const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
