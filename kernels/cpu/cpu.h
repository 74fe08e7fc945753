/* cpu.h - the fast tables for x86-64, and whether this machine (processor and operating system) runs them. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "kernels/kernels.h"

bool kern_cpu_avx2(void);       /* AVX2, FMA, F16C */
bool kern_cpu_avx512(void);     /* AVX-512 F, BW, DQ, VL and VNNI */
bool kern_cpu_avx512bf16(void); /* and AVX512-BF16 */
/* And AMX with bytes and BF16; the system, asked here, lets the process use the tile registers from then on. */
bool kern_cpu_amx(void);
extern const struct kern_ops kern_ops_avx2, kern_ops_avx512, kern_ops_avx512bf16, kern_ops_amx;

#endif
