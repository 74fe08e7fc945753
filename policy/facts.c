#include "policy/facts.h"

#include <stdlib.h>

enum verifier_err policy_facts_parse(struct span text, struct policy_facts *out, struct verifier_note *why)
{
    struct policy *p = calloc(1, sizeof *p);
    struct policy_problem problem = {0};
    *out = (struct policy_facts){0};
    if (!p)
        return VERIFIER_E_INTERNAL;
    if (!policy_parse(text, p, &problem)) {
        verifier_note_observed(why, "line %d: %s: %s", problem.line, problem.path, problem.text);
        verifier_note_required(why, "a policy text that can be read");
        free(p);
        return VERIFIER_E_POLICY_TEXT;
    }
    out->version = p->version;
    out->not_before = p->not_before;
    out->not_after = p->not_after;
    out->lease_max = p->lease_max;
    out->version_grace = p->version_grace;
    out->keyd_count = p->keyd_count;
    memcpy(out->keyd, p->keyd, sizeof out->keyd);
    out->fleet_count = p->fleet_count;
    memcpy(out->fleet, p->fleet, sizeof out->fleet);
    free(p);
    return VERIFIER_OK;
}
