/* cuda_fp16.h - f16 conversions of the emulated device. */
#ifndef TESTS_CUDA_HOST_FP16_H
#define TESTS_CUDA_HOST_FP16_H

#include <stdint.h>

extern "C" float kern_f16_to_f32(uint16_t half); /* kernels/quant.h */
extern "C" uint16_t kern_f32_to_f16(float value);

struct __half {
    uint16_t bits;
};
static inline __half __ushort_as_half(uint16_t bits)
{
    return __half{bits};
}
static inline uint16_t __half_as_ushort(__half h)
{
    return h.bits;
}
static inline float __half2float(__half h)
{
    return kern_f16_to_f32(h.bits);
}
static inline __half __float2half_rn(float x)
{
    return __half{kern_f32_to_f16(x)};
}

#endif
