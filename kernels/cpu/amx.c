/* amx.c - the table for machines with AMX: AVX-512's, with its own products. */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/cpu.h"

const struct kern_ops kern_ops_amx = {KERN_AVX512_OPS, .name = "amx", .round = kern_avx512bf16_round,
                                      .product = kern_amx_product, .attend = kern_avx512bf16_attend};
