/* report.h - claims and verdict as JSON, for people, logs and the `airlock verify` command. Stable: keys are added,
 * never renamed. Binary is lower-case hex, times are seconds since 1970, absent is null. */
#ifndef POLICY_REPORT_H
#define POLICY_REPORT_H

#include "policy/judge.h"

/* `claims` NULL: the check refused, the refusal stands in `verdict`. Yours: free(). NULL without memory. */
MUST_CHECK char *policy_report(const struct verifier_claims *claims, const struct policy_verdict *verdict);

#endif
