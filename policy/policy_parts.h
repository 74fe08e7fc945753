/* policy_parts.h - sections that the policy and the acceptance file have in common: how policy.c reads them. */
#ifndef POLICY_POLICY_PARTS_H
#define POLICY_POLICY_PARTS_H

#include "policy/policy.h"

extern const char *const policy_unknown_names[2]; /* "refuse", "report" */

/* The list `images` of a group; returns how many. */
size_t policy_images_parse(struct policy_group *g, struct policy_measurement out[POLICY_MEASUREMENTS_MAX]);
/* A list of walls (bits of enum verifier_stage); `fallback` when absent. */
uint32_t policy_stage_parse(struct policy_group *g, const char *key, uint32_t fallback);
/* The keys platforms, snp_chips, tdx_instances of a group. */
void policy_hardware_parse(struct policy_group *g, struct policy_hardware *out);
/* The groups `gpus` and `ages` of `g`. */
void policy_gpus_parse(struct policy_group *g, bool unknown_is_report, struct policy_gpus *out);
void policy_ages_parse(struct policy_group *g, uint64_t *evidence, uint64_t *devices, uint64_t *collateral);

#endif
