/* amx_emulated.c - kernels/cpu/amx_product.c itself, on emulated tiles: its arithmetic can be proven on any machine
 * with AVX-512 and BF16. Compiled for those (tests/CMakeLists.txt). */
#include "unit/amx_emulated.h"

#define kern_amx_product emulated_product
#include "kernels/cpu/amx_product.c"

const struct kern_ops emulated_amx = {KERN_AVX512_OPS, .name = "amx, emulated", .round = kern_avx512bf16_round,
                                      .product = emulated_product, .attend = kern_avx512bf16_attend};
