/* measure.h - the simulation's measurement of a zone: which executables run in it, byte for byte.
 * SHA-384 over the zone's files in ascending order of name, each lp(name) then SHA-384 of the file. The engine zone is
 * airlock-engine and airlock-tunnel, the proxy zone airlock-proxy. Real hardware measures the whole guest instead. */
#ifndef TUNNEL_ATTEST_MEASURE_H
#define TUNNEL_ATTEST_MEASURE_H

#include "verifier/types.h"

#define ATTESTER_ZONE_MAX 8
#define ATTESTER_MEASUREMENT_LEN 48

/* False when a file cannot be read, a name repeats or there are none or more than ATTESTER_ZONE_MAX. `names` in any
 * order; `paths[i]` is the file of `names[i]`. */
MUST_CHECK bool attester_measure(const char *const *names, const char *const *paths, size_t count,
                                 uint8_t out[ATTESTER_MEASUREMENT_LEN]);
/* The names of a role's zone; their number, 0 for a role without one. */
size_t attester_zone(enum verifier_role role, const char *names[ATTESTER_ZONE_MAX]);
/* attester_measure() of a role's zone, its files in `folder`. */
MUST_CHECK bool attester_measure_zone(enum verifier_role role, const char *folder,
                                      uint8_t out[ATTESTER_MEASUREMENT_LEN]);

#endif
