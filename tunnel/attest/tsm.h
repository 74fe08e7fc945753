/* tsm.h - quotes from the hardware through Linux's configfs-tsm (6.7 and later): 64 bytes in, evidence out.
 * Documentation/ABI/testing/configfs-tsm. AMD's certificates come beside the report as the table of GHCB 2.0 § 4.1.8.
 */
#ifndef TUNNEL_ATTEST_TSM_H
#define TUNNEL_ATTEST_TSM_H

#include "tunnel/attest/producer.h"

extern const struct attester_producer attester_tsm;

/* The chain part's bytes from an `auxblob` of SNP: VCEK or VLEK, ASK or ASVK, ARK. False when one is missing, an entry
 * lies outside the table or is no DER. */
MUST_CHECK bool attester_tsm_chain(struct span auxblob, struct writer *chain);

#endif
