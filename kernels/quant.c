/* quant.c - the exact decoder of each storage type. Formulas: ggml-common.h, ggml-quants.c (layouts only). */
#include "kernels/quant.h"

#include <math.h>
#include <string.h>

float kern_bf16_to_f32(uint16_t brain)
{
    uint32_t bits = (uint32_t)brain << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t kern_f32_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40); /* NaN stays NaN */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float kern_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff, bits;
    float value;
    if (exponent == 0) { /* zero or subnormal: mantissa times 2^-24, exact */
        value = (float)mantissa * 0x1p-24f;
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | mantissa << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t kern_f32_to_f16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (bits >= 0x477ff000) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) { /* subnormal half: let f32 addition round to multiples of 2^-24 */
        float magnitude;
        memcpy(&magnitude, &bits, sizeof magnitude);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    return (uint16_t)(sign | ((bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13));
}

static uint16_t u16_at(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static float half_at(const uint8_t *p)
{
    return kern_f16_to_f32(u16_at(p));
}

static void decode_f32(float *out, const uint8_t *in, size_t blocks)
{
    memcpy(out, in, blocks * 4);
}

static void decode_f16(float *out, const uint8_t *in, size_t blocks)
{
    for (size_t i = 0; i < blocks; i++)
        out[i] = half_at(in + 2 * i);
}

static void decode_bf16(float *out, const uint8_t *in, size_t blocks)
{
    for (size_t i = 0; i < blocks; i++)
        out[i] = kern_bf16_to_f32(u16_at(in + 2 * i));
}

static void decode_q8_0(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 34, out += 32)
        for (int j = 0; j < 32; j++)
            out[j] = half_at(in) * (float)(int8_t)in[2 + j];
}

static void decode_q4_0(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 18, out += 32)
        for (int j = 0; j < 16; j++) {
            out[j] = half_at(in) * (float)((in[2 + j] & 15) - 8);
            out[j + 16] = half_at(in) * (float)((in[2 + j] >> 4) - 8);
        }
}

static void decode_q4_1(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 20, out += 32)
        for (int j = 0; j < 16; j++) {
            out[j] = half_at(in) * (float)(in[4 + j] & 15) + half_at(in + 2);
            out[j + 16] = half_at(in) * (float)(in[4 + j] >> 4) + half_at(in + 2);
        }
}

/* The fifth bits of elements j and j+16 are bits j and j+16 of a little-endian word. */
static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)u16_at(p) | (uint32_t)u16_at(p + 2) << 16;
}

static void decode_q5_0(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 22, out += 32)
        for (int j = 0; j < 16; j++) {
            uint32_t high = word_at(in + 2);
            out[j] = half_at(in) * (float)((int)((in[6 + j] & 15) | (high >> j & 1) << 4) - 16);
            out[j + 16] = half_at(in) * (float)((int)((uint32_t)(in[6 + j] >> 4) | (high >> (j + 16) & 1) << 4) - 16);
        }
}

static void decode_q5_1(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 24, out += 32)
        for (int j = 0; j < 16; j++) {
            uint32_t high = word_at(in + 4);
            float low = half_at(in + 2);
            out[j] = half_at(in) * (float)((in[8 + j] & 15) | (high >> j & 1) << 4) + low;
            out[j + 16] = half_at(in) * (float)((uint32_t)(in[8 + j] >> 4) | (high >> (j + 16) & 1) << 4) + low;
        }
}

static void decode_iq4_nl(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 18, out += 32)
        for (int j = 0; j < 16; j++) {
            out[j] = half_at(in) * (float)kern_iq4_nl_values[in[2 + j] & 15];
            out[j + 16] = half_at(in) * (float)kern_iq4_nl_values[in[2 + j] >> 4];
        }
}

const int8_t kern_iq4_nl_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t kern_mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

float kern_mxfp4_scale(uint8_t exponent)
{
    return ldexpf(1.0f, (int)exponent - 128); /* E8M0 has bias 127; the table's values are doubled */
}

static void decode_mxfp4(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 17, out += 32)
        for (int j = 0; j < 16; j++) {
            out[j] = kern_mxfp4_scale(in[0]) * (float)kern_mxfp4_values[in[1 + j] & 15];
            out[j + 16] = kern_mxfp4_scale(in[0]) * (float)kern_mxfp4_values[in[1 + j] >> 4];
        }
}

void kern_k4_scale(const uint8_t packed[12], int j, uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = packed[j] & 63;
        *min = packed[j + 4] & 63;
    } else {
        *scale = (uint8_t)((packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4);
        *min = (uint8_t)((packed[j + 4] >> 4) | (packed[j] >> 6) << 4);
    }
}

static void decode_q4_k(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 144, out += 256)
        for (int j = 0; j < 8; j++) {
            uint8_t scale, min;
            kern_k4_scale(in + 4, j, &scale, &min);
            float d = half_at(in) * (float)scale, m = half_at(in + 2) * (float)min;
            const uint8_t *q = in + 16 + j / 2 * 32;
            for (int l = 0; l < 32; l++)
                out[32 * j + l] = d * (float)(j % 2 ? q[l] >> 4 : q[l] & 15) - m;
        }
}

static void decode_q5_k(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 176, out += 256)
        for (int j = 0; j < 8; j++) {
            uint8_t scale, min;
            kern_k4_scale(in + 4, j, &scale, &min);
            float d = half_at(in) * (float)scale, m = half_at(in + 2) * (float)min;
            const uint8_t *high = in + 16, *q = in + 48 + j / 2 * 32;
            for (int l = 0; l < 32; l++)
                out[32 * j + l] = d * (float)((j % 2 ? q[l] >> 4 : q[l] & 15) | (high[l] >> j & 1) << 4) - m;
        }
}

static void decode_q6_k(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 210, out += 256)
        for (int i = 0; i < 256; i++) {
            int half = i / 128, quarter = i % 128 / 32, l = i % 32;
            uint8_t low = in[64 * half + 32 * (quarter & 1) + l], high = in[128 + 32 * half + l];
            int q = ((quarter < 2 ? low & 15 : low >> 4) | (high >> 2 * quarter & 3) << 4) - 32;
            int8_t scale = (int8_t)in[192 + 8 * half + 2 * quarter + l / 16];
            out[i] = half_at(in + 208) * (float)scale * (float)q;
        }
}

/* 16 groups of 16: low nibble of scales[] is the scale, high nibble the minimum; 2-bit values, four to a byte. */
static void decode_q2_k(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 84, out += 256)
        for (int i = 0; i < 256; i++) {
            int half = i / 128, shift = i % 128 / 32 * 2, l = i % 32;
            uint8_t scale = in[i / 16], q = in[16 + 32 * half + l] >> shift & 3;
            out[i] = half_at(in + 80) * (float)(scale & 15) * (float)q - half_at(in + 82) * (float)(scale >> 4);
        }
}

/* 16 six-bit scales: four low bits in bytes 0-7 (two to a byte), two high bits in bytes 8-11 (four to a byte). */
int8_t kern_k3_scale(const uint8_t packed[12], int j)
{
    int low = j < 8 ? packed[j] & 15 : packed[j - 8] >> 4;
    return (int8_t)((low | (packed[8 + j % 4] >> 2 * (j / 4) & 3) << 4) - 32);
}

static void decode_q3_k(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 110, out += 256)
        for (int i = 0; i < 256; i++) {
            int half = i / 128, quarter = i % 128 / 32, l = i % 32;
            int low = in[32 + 32 * half + l] >> 2 * quarter & 3, high = in[l] >> (4 * half + quarter) & 1;
            out[i] = half_at(in + 108) * (float)kern_k3_scale(in + 96, i / 16) * (float)(low - (high ? 0 : 4));
        }
}

/* f16 scale, then 8 six-bit scales: two high bits each in a u16, four low bits each in 4 bytes; then nibbles. */
int8_t kern_iq4_xs_scale(const uint8_t *block, int j)
{
    int low = block[4 + j / 2] >> 4 * (j % 2) & 15, high = u16_at(block + 2) >> 2 * j & 3;
    return (int8_t)((low | high << 4) - 32);
}

static void decode_iq4_xs(float *out, const uint8_t *in, size_t blocks)
{
    for (; blocks--; in += 136, out += 256)
        for (int j = 0; j < 8; j++) {
            float d = half_at(in) * (float)kern_iq4_xs_scale(in, j);
            const uint8_t *q = in + 8 + 16 * j;
            for (int l = 0; l < 16; l++) {
                out[32 * j + l] = d * (float)kern_iq4_nl_values[q[l] & 15];
                out[32 * j + l + 16] = d * (float)kern_iq4_nl_values[q[l] >> 4];
            }
        }
}

const struct kern_quant *kern_quant_find(uint32_t type)
{
    static const struct kern_quant types[] = {
        [KERN_F32] = {"F32", 1, 4, decode_f32},
        [KERN_F16] = {"F16", 1, 2, decode_f16},
        [KERN_Q4_0] = {"Q4_0", 32, 18, decode_q4_0},
        [KERN_Q4_1] = {"Q4_1", 32, 20, decode_q4_1},
        [KERN_Q5_0] = {"Q5_0", 32, 22, decode_q5_0},
        [KERN_Q5_1] = {"Q5_1", 32, 24, decode_q5_1},
        [KERN_Q8_0] = {"Q8_0", 32, 34, decode_q8_0},
        [KERN_Q2_K] = {"Q2_K", 256, 84, decode_q2_k},
        [KERN_Q3_K] = {"Q3_K", 256, 110, decode_q3_k},
        [KERN_Q4_K] = {"Q4_K", 256, 144, decode_q4_k},
        [KERN_Q5_K] = {"Q5_K", 256, 176, decode_q5_k},
        [KERN_Q6_K] = {"Q6_K", 256, 210, decode_q6_k},
        [KERN_IQ4_NL] = {"IQ4_NL", 32, 18, decode_iq4_nl},
        [KERN_BF16] = {"BF16", 1, 2, decode_bf16},
        [KERN_IQ4_XS] = {"IQ4_XS", 256, 136, decode_iq4_xs},
        [KERN_MXFP4] = {"MXFP4", 32, 17, decode_mxfp4},
    };
    return type < sizeof types / sizeof *types && types[type].name ? &types[type] : NULL;
}
