/* Target functions: policy_config_open policy_parse policy_tenants_parse policy_acceptance_parse */
#include <assert.h>
#include <stdlib.h>

#include "policy/acceptance.h"
#include "policy/tenants.h"

/* libconfig 1.5 loses the string it just read when it refuses a text: a few bytes of a start that fails anyway. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct policy policy;
    static struct policy_rules rules;
    struct policy_tenants tenants;
    struct policy_problem why = {0};
    struct span text = span_of(data, size);

    if (policy_parse(text, &policy, &why)) /* what we accept has dates in order and at least one of everything */
        assert(policy.not_before < policy.not_after && policy.model_count > 0 && policy.keyd_count > 0);
    else
        assert(why.code != POLICY_PROBLEM_NONE && policy.version == 0);
    if (policy_acceptance_parse(text, &rules, &why))
        assert(rules.owner_count > 0 && rules.engine.count > 0);
    if (policy_tenants_parse(&tenants, text, &why))
        policy_tenants_release(&tenants);
    return 0;
}
