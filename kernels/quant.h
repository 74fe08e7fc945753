/* quant.h - the storage types of weights: how many elements a block holds in how many bytes, and their exact values.
 * Numbers and layouts are ggml's (ggml-common.h); little-endian. Decoding is exact: every product that f32 can hold
 * is the product of the stored scale and the stored integer. */
#ifndef KERNELS_QUANT_H
#define KERNELS_QUANT_H

#include <stddef.h>
#include <stdint.h>

enum kern_type { /* numbers are the GGUF file's */
                 KERN_F32 = 0,
                 KERN_F16 = 1,
                 KERN_Q4_0 = 2,
                 KERN_Q4_1 = 3,
                 KERN_Q5_0 = 6,
                 KERN_Q5_1 = 7,
                 KERN_Q8_0 = 8,
                 KERN_Q2_K = 10,
                 KERN_Q3_K = 11,
                 KERN_Q4_K = 12,
                 KERN_Q5_K = 13,
                 KERN_Q6_K = 14,
                 KERN_IQ4_NL = 20,
                 KERN_IQ4_XS = 23,
                 KERN_BF16 = 30,
                 KERN_MXFP4 = 39,
};

struct kern_quant {
    const char *name;
    uint32_t block; /* elements */
    uint32_t bytes; /* of a block */
    /* Decode `blocks` blocks to `blocks * block` floats. */
    void (*decode)(float *out, const uint8_t *in, size_t blocks);
};

/* The description of a stored type, or NULL when we do not read it. */
const struct kern_quant *kern_quant_find(uint32_t type);

/* The sixteen values of the 4-bit tables; MXFP4's are doubled, so that they are whole. */
extern const int8_t kern_iq4_nl_values[16], kern_mxfp4_values[16];
/* The factor of a block of MXFP4, halved to suit the doubled table. */
float kern_mxfp4_scale(uint8_t exponent);
/* Scale of sub-block `j` (0-7) of IQ4_XS, and of group `j` (0-15) of Q3_K's packed scales. */
int8_t kern_iq4_xs_scale(const uint8_t *block, int j);
int8_t kern_k3_scale(const uint8_t packed[12], int j);
/* Six-bit scale and minimum of sub-block `j` (0-7) of Q4_K and Q5_K. */
void kern_k4_scale(const uint8_t packed[12], int j, uint8_t *scale, uint8_t *min);

float kern_f16_to_f32(uint16_t half);
uint16_t kern_f32_to_f16(float value); /* to nearest, ties to even */
float kern_bf16_to_f32(uint16_t brain);
uint16_t kern_f32_to_bf16(float value); /* to nearest, ties to even */

#endif
