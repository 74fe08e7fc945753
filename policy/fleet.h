/* fleet.h - an owner's own machines, for owners whose machines change: {version, expires, snp_chip_ids,
 * tdx_platform_instances, gpu_ueids}, signed by a key that the policy names. PROTOCOL.md § Objects, fleet.
 * A zero id never matches: it is what a masked one looks like. */
#ifndef POLICY_FLEET_H
#define POLICY_FLEET_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/types.h"

enum { POLICY_FLEET_MAX = 2048 };

/* Borrowed ids of one kind, distinct. */
struct policy_fleet_ids {
    size_t count;
    struct span id[POLICY_FLEET_MAX];
};
/* About 96 KiB: mind the stack. */
struct policy_fleet {
    uint32_t version;
    uint64_t expires;
    struct policy_fleet_ids snp_chips;     /* 64 bytes each */
    struct policy_fleet_ids tdx_instances; /* 16 bytes each */
    struct policy_fleet_ids gpus;          /* text, 1 to 64 bytes (decimal) */
};

/* `*out` borrows from `in`; it must not be looked at after a refusal. */
MUST_CHECK enum verifier_err policy_fleet_parse(struct policy_fleet *out, struct span in);
void policy_fleet_encode(struct writer *w, const struct policy_fleet *in);
/* False for a zero id. */
bool policy_fleet_has(const struct policy_fleet_ids *ids, struct span id);

#endif
