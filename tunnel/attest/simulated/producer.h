/* producer.h - what the demo has to know of the simulated chips to write a policy. */
#ifndef TUNNEL_ATTEST_SIMULATED_PRODUCER_H
#define TUNNEL_ATTEST_SIMULATED_PRODUCER_H

#include "verifier/types.h"

/* The chip id of a role's zone (proxy or engine). */
void attester_simulated_chip(enum verifier_role role, uint8_t out[64]);

#endif
