/* defaults.h - what a request gets that leaves its sampling to the model.
 * The later wins, key by key: the API's own defaults; the model's generation_config.json, or without one the
 * general.sampling.* keys of its GGUF file (llama.cpp, llama_model_meta_key_str); --override-generation-config; the
 * request. Keys and meaning are vLLM's (ModelConfig.get_diff_sampling_param); do_sample and the rest are not looked at.
 */
#ifndef ENGINE_DEFAULTS_H
#define ENGINE_DEFAULTS_H

#include "engine/engine.h"

enum { ENGINE_DEFAULTS_TEXT_MAX = 64 << 10 }; /* bytes of a generation_config.json */

/* NaN: nobody states it. */
struct engine_defaults {
    double temperature, top_p, min_p, repetition_penalty;
    double top_k;          /* whole; 0 and -1: off */
    double max_new_tokens; /* whole, at least 1: no answer is longer, asked for or not */
};

/* What `options` choose: the model's, those of another folder, or none; then the override. False and `*why`, which
 * names the key, for a value of the wrong type or out of range and for a text that is no JSON object. */
MUST_CHECK bool engine_defaults_read(struct engine_defaults *out, const struct engine_files *files,
                                     const struct engine_options *options, struct engine_problem *why);
/* The keys of a JSON object go over those in `*d`, null takes one away. Unknown keys are refused by name. */
MUST_CHECK bool engine_defaults_override(struct engine_defaults *d, const char *json, struct engine_problem *why);
/* The most tokens an answer may have; 0: only the context bounds it. */
uint32_t engine_defaults_most(const struct engine_defaults *d);
/* Fill in what `q` leaves out. Doing it twice changes nothing. */
void engine_defaults_settle(const struct engine_defaults *d, struct tunnel_request *q);
/* "temperature:0.6,top_k:20", or "api" when nothing is stated. NUL-terminated. */
void engine_defaults_print(const struct engine_defaults *d, char *out, size_t cap);

#endif
