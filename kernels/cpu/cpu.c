/* cpu.c - what the processor can do; __builtin_cpu_supports() also asks whether the system saves the registers. */
#include "kernels/cpu/cpu.h"

bool kern_cpu_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool kern_cpu_avx512(void)
{
    return kern_cpu_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
