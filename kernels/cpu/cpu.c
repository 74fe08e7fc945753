/* cpu.c - what the processor can do; __builtin_cpu_supports() also asks whether the system saves the registers. */
#include "kernels/cpu/cpu.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023 /* <asm/prctl.h> of Linux 5.16 and later */
#define XFEATURE_TILE_DATA 18

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

/* Leaf 7: not every compiler's builtin knows these names. */
static bool has_tiles(void)
{
    const unsigned bf16 = 1u << 22, tile = 1u << 24, bytes = 1u << 25;
    unsigned a, b, c, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & (bf16 | tile | bytes)) == (bf16 | tile | bytes);
}

bool kern_cpu_amx(void)
{
    return kern_cpu_avx512bf16() && has_tiles() &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILE_DATA) == 0;
}
