/* cpu.c - what the processor can do; __builtin_cpu_supports() also asks whether the system saves the registers. */
#include "kernels/cpu/cpu.h"

#include <cpuid.h>

/* Not every compiler's builtin knows the word "f16c". */
static bool has_f16c(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

bool kern_cpu_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

bool kern_cpu_avx512(void)
{
    return kern_cpu_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

bool kern_cpu_avx512bf16(void)
{
    return kern_cpu_avx512() && __builtin_cpu_supports("avx512bf16");
}
