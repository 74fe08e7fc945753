/* amx.h - products by tile registers (AMX), on a machine that has AVX-512 with VNNI and BF16 too. */
#ifndef KERNELS_CPU_AMX_H
#define KERNELS_CPU_AMX_H

#include "kernels/cpu/avx512.h"

void kern_amx_product(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece);

#endif
