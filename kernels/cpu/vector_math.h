/* vector_math.h - what the AVX2 and the AVX-512 table compute alike, whatever a vector's width. The header that
 * includes it has said what `vector`, LANES and V(op), the intrinsic of an operation on floats, are, and has given
 *   vector vector_round(vector x)             to the nearest whole number
 *   vector vector_times_power(vector p, vector n)     p * 2^n, n whole, -126 .. 127
 *   vector vector_unless_below(vector x, float least, vector y)   y, but 0 in lanes where x < least */
#ifndef KERNELS_CPU_VECTOR_MATH_H
#define KERNELS_CPU_VECTOR_MATH_H

#include <math.h>

/* e^x to 2 units in the last place for x <= 88; below -87.3 it is 0, also for -infinity. Cody-Waite reduction, then the
 * Taylor polynomial of degree 7 on |r| <= ln(2)/2 (its remainder is under 1e-8). */
static inline vector vector_exp(vector x)
{
    vector within = V(min)(V(max)(x, V(set1)(-87.3f)), V(set1)(88.0f));
    vector n = vector_round(V(mul)(within, V(set1)(1.44269504088896341f)));
    vector r = V(fnmadd)(n, V(set1)(0.693145751953125f), within);
    r = V(fnmadd)(n, V(set1)(1.42860682030941723e-6f), r);
    vector p = V(set1)(1.0f / 5040);
    p = V(fmadd)(p, r, V(set1)(1.0f / 720));
    p = V(fmadd)(p, r, V(set1)(1.0f / 120));
    p = V(fmadd)(p, r, V(set1)(1.0f / 24));
    p = V(fmadd)(p, r, V(set1)(1.0f / 6));
    p = V(fmadd)(p, r, V(set1)(0.5f));
    p = V(fmadd)(p, r, V(set1)(1.0f));
    p = V(fmadd)(p, r, V(set1)(1.0f));
    return vector_unless_below(x, -87.3f, vector_times_power(p, n));
}

/* tanh(x) = 1 - 2 / (e^(2x) + 1) */
static inline vector vector_tanh(vector x)
{
    vector e = vector_exp(V(add)(x, x)), one = V(set1)(1);
    return V(sub)(one, V(div)(V(set1)(2), V(add)(e, one)));
}

static inline vector vector_sigmoid(vector x)
{
    vector one = V(set1)(1);
    return V(div)(one, V(add)(one, vector_exp(V(sub)(V(setzero)(), x))));
}

static inline vector vector_gate(vector g, vector u, enum kern_gate kind)
{
    vector one = V(set1)(1);
    if (kind == KERN_GATE_SILU)
        return V(mul)(V(mul)(g, vector_sigmoid(g)), u);
    if (kind == KERN_GATE_GELU) {
        vector inner = V(fmadd)(V(mul)(g, g), V(set1)(0.044715f), one);
        inner = V(mul)(V(mul)(inner, g), V(set1)(0.7978845608028654f));
        return V(mul)(V(mul)(V(mul)(V(set1)(0.5f), g), V(add)(one, vector_tanh(inner))), u);
    }
    g = V(min)(g, V(set1)(7));
    u = V(max)(V(min)(u, V(set1)(7)), V(set1)(-7));
    return V(mul)(V(mul)(g, vector_sigmoid(V(mul)(g, V(set1)(1.702f)))), V(add)(u, one));
}

/* The `merge` of kernels.h. */
static inline void vector_merge(struct kern_part *into, const struct kern_part *other, int dim)
{
    float exps[LANES];
    if (other->sum <= 0)
        return;
    bool empty = into->sum <= 0;
    float max = empty ? other->max : fmaxf(into->max, other->max);
    V(storeu)(exps, vector_exp(V(set1)(other->max - max)));
    float theirs = exps[0], mine = 0;
    if (!empty) {
        V(storeu)(exps, vector_exp(V(set1)(into->max - max)));
        mine = exps[0];
    }
    into->sum = fmaf(into->sum, mine, other->sum * theirs);
    into->max = max;
    for (int d = 0; d < dim; d += LANES) {
        vector v = V(mul)(V(loadu)(other->out + d), V(set1)(theirs));
        if (!empty)
            v = V(fmadd)(V(loadu)(into->out + d), V(set1)(mine), v);
        V(storeu)(into->out + d, v);
    }
}

#endif
