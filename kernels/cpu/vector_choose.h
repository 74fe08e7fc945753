/* vector_choose.h - choosing a token: what the AVX2 and the AVX-512 table compute alike, a stretch at a time; the last
 * one, when it is short, in a copy filled up. The file that includes it has included its table's header before and has
 * given
 *   vector vector_from(vector x, float least, vector y)    y, but 0 in lanes where x < least or x is NaN
 *   float vector_total(vector v), vector_greatest(vector v) */
#ifndef KERNELS_CPU_VECTOR_CHOOSE_H
#define KERNELS_CPU_VECTOR_CHOOSE_H

/* `x` where a whole stretch is left, else a copy in `pad`, filled up. */
static inline const float *whole_stretch(float *pad, const float *x, int left, float fill)
{
    if (left >= KERN_STRETCH)
        return x;
    for (int i = 0; i < KERN_STRETCH; i++)
        pad[i] = i < left ? x[i] : fill;
    return pad;
}

static void vector_peaks(float *peak, const float *x, int n)
{
    float pad[KERN_STRETCH];
    for (int at = 0; at < n; at += KERN_STRETCH) {
        const float *from = whole_stretch(pad, x + at, n - at, -INFINITY);
        vector a = V(set1)(-INFINITY), b = a; /* of max, the second is what NaN gives */
        for (int i = 0; i < KERN_STRETCH; i += 2 * LANES) {
            a = V(max)(V(loadu)(from + i), a);
            b = V(max)(V(loadu)(from + i + LANES), b);
        }
        *peak++ = vector_greatest(V(max)(a, b));
    }
}

static inline vector weigh_lanes(vector x, const struct kern_weigh *by)
{
    vector power = V(mul)(V(sub)(x, V(set1)(by->most)), V(set1)(by->inverse));
    return vector_from(x, by->least, vector_from(power, -87.0f, vector_exp(power)));
}

static void vector_weigh(float *weight, float *sum, const float *x, int n, const struct kern_weigh *by)
{
    float pad[KERN_STRETCH];
    for (int at = 0; at < n; at += KERN_STRETCH) {
        const float *from = whole_stretch(pad, x + at, n - at, NAN);
        float *to = n - at < KERN_STRETCH ? pad : weight + at;
        vector all = V(setzero)();
        for (int i = 0; i < KERN_STRETCH; i += LANES) {
            vector w = weigh_lanes(V(loadu)(from + i), by);
            V(storeu)(to + i, w);
            all = V(add)(all, w);
        }
        *sum++ = vector_total(all);
        if (to == pad)
            memcpy(weight + at, pad, (size_t)(n - at) * sizeof *pad);
    }
}

static void vector_sums(float *sum, const float *weight, int n, float least)
{
    float pad[KERN_STRETCH];
    for (int at = 0; at < n; at += KERN_STRETCH) {
        const float *from = whole_stretch(pad, weight + at, n - at, 0);
        vector a = V(setzero)(), b = a;
        for (int i = 0; i < KERN_STRETCH; i += 2 * LANES) {
            vector x = V(loadu)(from + i), y = V(loadu)(from + i + LANES);
            a = V(add)(a, vector_from(x, least, x));
            b = V(add)(b, vector_from(y, least, y));
        }
        *sum++ = vector_total(V(add)(a, b));
    }
}

#endif
