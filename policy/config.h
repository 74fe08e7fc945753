/* config.h - libconfig text with its traps closed, read by typed getters.
 * Every text that people write (policy, acceptance, tenants, each daemon's configuration) comes through here.
 * Before libconfig sees a byte the text is refused when it is over 64 KiB, not UTF-8, holds a NUL or another control
 * character, nests deeper than 8, says @include, or holds an unquoted number of more than 9 digits or in hex or
 * float form (libconfig would wrap it silently). Sizes, durations and dates are strings with units: "16MiB", "4h",
 * "2026-11-21T00:00:00Z". Fractions are strings too: "0.7".
 * A parser reads like its format: getters on a group, then policy_group_end(), which refuses whatever nobody asked
 * for and suggests the nearest name. The first fault sticks: later getters give defaults, one check at the end.
 * No files, no clock, no globals. */
#ifndef POLICY_CONFIG_H
#define POLICY_CONFIG_H

#include "verifier/base/span.h"

enum {
    POLICY_CONFIG_TEXT_MAX = 64 << 10, /* bytes */
    POLICY_CONFIG_DEPTH_MAX = 8,
    POLICY_CONFIG_KEYS_MAX = 48, /* different names one group may be asked for */
};

enum policy_problem_code {
    POLICY_PROBLEM_NONE = 0,
    POLICY_PROBLEM_SIZE,     /* text over 64 KiB, or empty */
    POLICY_PROBLEM_TEXT,     /* not UTF-8, NUL or another control character */
    POLICY_PROBLEM_DEPTH,    /* nested too deep */
    POLICY_PROBLEM_INCLUDE,  /* @include */
    POLICY_PROBLEM_NUMBER,   /* unquoted number with more than 9 digits, in hex or as a fraction */
    POLICY_PROBLEM_SYNTAX,   /* libconfig refused it */
    POLICY_PROBLEM_REPEATED, /* a name given twice in one group */
    POLICY_PROBLEM_UNKNOWN,  /* a name the format does not have */
    POLICY_PROBLEM_MISSING,  /* a required name is absent */
    POLICY_PROBLEM_TYPE,     /* another kind of value than the format has here */
    POLICY_PROBLEM_UNIT,     /* a size, duration, date or fraction that cannot be read */
    POLICY_PROBLEM_RANGE,    /* outside the allowed range */
    POLICY_PROBLEM_VALUE,    /* outside a closed set, bad hex, or at odds with another field */
    POLICY_PROBLEM_COUNT,    /* too many or too few elements */
    POLICY_PROBLEM_MEMORY,
};

/* Why a text was refused: for people. Never holds a secret's value. */
struct policy_problem {
    enum policy_problem_code code;
    int line;       /* 1-based; 0 when it is not about a line */
    char path[96];  /* "models[0].root", or empty */
    char text[320]; /* a sentence: what, why, what to do */
};

/* "policy.conf:12: models[0].root: ..." as one line, without a newline. */
void policy_problem_print(const struct policy_problem *p, const char *name, char *out, size_t cap);

struct policy_config;

/* Parse `text` (borrowed only during the call). NULL and `*why` when refused. Yours: policy_config_close(). */
MUST_CHECK struct policy_config *policy_config_open(struct span text, struct policy_problem *why);
/* NULL is fine. */
void policy_config_close(struct policy_config *c);
/* True while nothing was refused; copies the first problem to `*why` otherwise. */
MUST_CHECK bool policy_config_ok(const struct policy_config *c, struct policy_problem *why);

/* One group: a cursor that remembers what it was asked for. Valid while the config lives. */
struct policy_group {
    struct policy_config *config;
    const void *setting; /* NULL: the group is absent; getters give defaults and required keys are not missed */
    size_t asked_count;
    const char *asked[POLICY_CONFIG_KEYS_MAX]; /* string literals */
};

enum policy_need { POLICY_OPTIONAL, POLICY_REQUIRED };

struct policy_group policy_config_root(struct policy_config *c);
/* A named group inside `g`. Absent and optional: `.setting` is NULL. */
struct policy_group policy_group_child(struct policy_group *g, const char *key, enum policy_need need);
/* How many groups stand in the list `key`: `min` to `max`. An absent list has none. */
size_t policy_group_count(struct policy_group *g, const char *key, size_t min, size_t max);
struct policy_group policy_group_at(struct policy_group *g, const char *key, size_t index);
/* Refuse every name in the group that no getter asked for. Call once, after the last getter. */
void policy_group_end(struct policy_group *g);
static inline bool policy_group_is_present(const struct policy_group *g)
{
    return g->setting != NULL;
}

/* Getters: true when the key is there and good, and `*out` is set; otherwise `*out` keeps what it had (its default).
 * `key` must be a string literal. */
bool policy_group_bool(struct policy_group *g, const char *key, enum policy_need need, bool *out);
bool policy_group_uint(struct policy_group *g, const char *key, enum policy_need need, uint64_t min, uint64_t max,
                       uint64_t *out);
/* A string of 1 to `cap` - 1 bytes, printable UTF-8, copied with its NUL. */
bool policy_group_text(struct policy_group *g, const char *key, enum policy_need need, char *out, size_t cap);
/* "90s", "30m", "4h", "7d": seconds in `min` to `max`. */
bool policy_group_duration(struct policy_group *g, const char *key, enum policy_need need, uint64_t min, uint64_t max,
                           uint64_t *seconds);
/* "512", "64KiB", "16MiB", "2GiB": bytes in `min` to `max`. */
bool policy_group_size(struct policy_group *g, const char *key, enum policy_need need, uint64_t min, uint64_t max,
                       uint64_t *bytes);
/* "2026-11-21T00:00:00Z" or "2026-11-21": seconds since 1970, 1 to 2^40-1. */
bool policy_group_date(struct policy_group *g, const char *key, enum policy_need need, uint64_t *seconds);
/* "0.7": in `min` to `max`. */
bool policy_group_fraction(struct policy_group *g, const char *key, enum policy_need need, double min, double max,
                           double *out);
/* Exactly `len` bytes in lower or upper case hex. */
bool policy_group_hex(struct policy_group *g, const char *key, enum policy_need need, uint8_t *out, size_t len);
/* One of `names[0..count)`; `*out` is its index. */
bool policy_group_choice(struct policy_group *g, const char *key, enum policy_need need, const char *const *names,
                         size_t count, size_t *out);
/* A list of words from `names[0..count)`, distinct: bit i of `*bits` for names[i]. */
bool policy_group_words(struct policy_group *g, const char *key, enum policy_need need, const char *const *names,
                        size_t count, uint32_t *bits);
/* A list of `min` to `max` hex strings of `len` bytes each, distinct, into `out` one after the other. */
bool policy_group_hexes(struct policy_group *g, const char *key, enum policy_need need, size_t min, size_t max,
                        uint8_t *out, size_t len, size_t *count);
/* A list of `min` to `max` strings of 1 to `stride` - 1 bytes, distinct, each copied with its NUL to
 * out + i * stride. */
bool policy_group_texts(struct policy_group *g, const char *key, enum policy_need need, size_t min, size_t max,
                        char *out, size_t stride, size_t *count);
/* Refuse key `key` of `g` for a reason that only the caller knows. */
void policy_group_refuse(struct policy_group *g, const char *key, enum policy_problem_code code, const char *format,
                         ...) __attribute__((format(printf, 4, 5)));

/* The one of `names[0..count)` that `name` probably was to be; NULL: none is near. */
const char *policy_nearest(const char *name, const char *const *names, size_t count);

/* The units alone, for flags and tests. False: not readable. */
MUST_CHECK bool policy_duration_parse(struct span text, uint64_t *seconds);
MUST_CHECK bool policy_size_parse(struct span text, uint64_t *bytes);
MUST_CHECK bool policy_date_parse(struct span text, uint64_t *seconds);
MUST_CHECK bool policy_fraction_parse(struct span text, double *out);
/* `len` bytes from 2 * len hex digits; also used for hex on command lines. */
MUST_CHECK bool policy_hex_parse(struct span text, uint8_t *out, size_t len);
/* Lower-case hex with a NUL: `out` has room for 2 * in.len + 1. */
void policy_hex_print(struct span in, char *out);
/* "2026-11-21T00:00:00Z" */
void policy_date_print(uint64_t seconds, char out[32]);

#endif
