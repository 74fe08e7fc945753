/* kernels_common.h - for the tests of kernels: which tables run here, and repeatable noise. */
#ifndef TESTS_UNIT_KERNELS_COMMON_H
#define TESTS_UNIT_KERNELS_COMMON_H

#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static inline uint32_t noise_bits(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* -1 .. 1 */
static inline float noise(uint32_t *state)
{
    return (float)noise_bits(state) / (float)(1 << 23) - 1;
}

static inline void fill_noise(float *x, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++)
        x[i] = noise(&seed);
}

/* Calls test(ops) for every fast table that this machine runs. */
static inline void each_fast(void (*test)(const struct kern_ops *ops))
{
    static const char *const names[] = {"avx2", "avx512", "avx512bf16", "amx"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (kern_ops_find(names[i]))
            test(kern_ops_find(names[i]));
}

#endif
