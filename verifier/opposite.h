/* opposite.h - the opposite proof (PROTOCOL.md § Fields and attacks): a test build leaves one named check out and shows
 * that its attack then succeeds. Only tests/unit/test_protocol_opposite.c compiles check.c, and the judge, with
 * AIRLOCK_OPPOSITE; in every shipped object IGNORED() is the constant false and nothing of this remains. */
#ifndef VERIFIER_OPPOSITE_H
#define VERIFIER_OPPOSITE_H

#ifdef AIRLOCK_OPPOSITE
#include <stdbool.h>
bool opposite_ignores(const char *check);
#define IGNORED(check) opposite_ignores(check)
#else
#define IGNORED(check) false
#endif

#endif
