/* plan.h - `airlock-engine plan MODEL`: will a model fit, and how many sequences with it? Reads the heads of its files
 * only; nothing is loaded. */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H

#include "engine/model.h"
#include "verifier/base/writer.h"

enum plan_exit { PLAN_FITS = 0, PLAN_TOO_LARGE = 1, PLAN_UNKNOWN = 2 };

struct plan_device {
    char name[32];
    uint64_t memory; /* bytes in all */
    uint64_t usable; /* of them, by weights, keys and values */
    bool gpu;        /* weights as bf16; else as the processor's kernels lay them out */
};

enum { PLAN_CONTEXTS = 3, PLAN_BLOCK = 16 };

struct plan {
    struct engine_model_info info;
    uint64_t weights; /* bytes on the device */
    struct {
        uint64_t tokens,
            kv;        /* context, and keys and values of one such sequence; kv 0: the model's context is shorter */
        uint64_t most; /* sequences at once */
    } at[PLAN_CONTEXTS];
    enum plan_exit fits; /* the weights, and one sequence of the first context (or of the model's, if that is less) */
};

/* "cpu" (this machine), the name of a GPU size (plan_device_names()), or bytes of memory, e.g. 24G. */
bool plan_device_find(struct plan_device *out, const char *text);
const char *plan_device_names(void); /* one line */

/* False and `*why` when the model would be refused. */
MUST_CHECK bool plan_make(struct plan *out, const struct plan_device *device, const struct engine_files *files,
                          struct engine_problem *why);

/* The command: `argv[0]` is its name. Returns enum plan_exit. */
int plan_main(int argc, char **argv);

#endif
