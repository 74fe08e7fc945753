/* producer.h - who makes quotes: the hardware behind configfs-tsm, or (demo and tests) the simulation.
 * Which one a program has is decided when it is linked, by exactly one of the objects producer_release and
 * producer_simulated. Only the attester process calls a producer. */
#ifndef TUNNEL_ATTEST_PRODUCER_H
#define TUNNEL_ATTEST_PRODUCER_H

#include "verifier/base/writer.h"
#include "verifier/types.h"

struct sandbox_path;

struct attester_producer_config {
    enum verifier_role role;
    const char *tsm_root; /* tests only; NULL: /sys/kernel/config/tsm/report */
    /* Simulation: the zone's executables, names as measured and paths to read. NULL: the programs of `role` beside
     * /proc/self/exe. */
    const char *const *names, *const *paths;
    size_t count;
};

struct attester_producer {
    const char *name; /* "simulated", "configfs-tsm" */
    /* Open the device; once, before the attester locks itself in. NULL with one line for people in `why`. */
    void *(*open)(const struct attester_producer_config *config, char why[256]);
    enum verifier_tee (*tee)(void *ctx); /* what evidence it makes */
    /* Have `report_data` signed. `chain`: the chain part's bytes (msgpack list of DER, leaf first; left empty where the
     * quote carries it); `collateral`: the collateral part's bytes, left empty for none. 0, or -1. */
    int (*quote)(void *ctx, const uint8_t report_data[64], struct writer *quote, struct writer *chain,
                 struct writer *collateral);
    /* The paths that quote() needs while locked in: at most `max`, returns how many. Borrowed until close(). */
    size_t (*paths)(void *ctx, struct sandbox_path *out, size_t max);
    void (*close)(void *ctx);
};

/* The producer of this program. */
const struct attester_producer *attester_producer(void);

#endif
