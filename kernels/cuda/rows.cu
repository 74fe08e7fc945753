/* rows.cu - what treats each row by itself: embedding, norms, gates, rotation angles. Memory bound; a block a row. */
#include "kernels/cuda/ops.h"

#include <math.h>

template <typename T>
static __global__ void embed_row(float *x, const T *table, int stride, int n, const int32_t *token, float scale)
{
    const T *from = table + (size_t)token[blockIdx.x] * (size_t)stride;
    float *to = x + (size_t)blockIdx.x * (size_t)n;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        to[i] = load(from + i) * scale;
}

void cuda_embed(struct kern_device *d, float *x, const struct kern_device_rows *table, const int32_t *token, int rows,
                float scale)
{
    dim3 grid((unsigned)rows);
    if (d->exact)
        launch(d, embed_row<float>, grid, THREADS, x, (const float *)table->data, table->stride, table->cols, token,
               scale);
    else
        launch(d, embed_row<bf16>, grid, THREADS, x, (const bf16 *)table->data, table->stride, table->cols, token,
               scale);
}

/* In double: an angle reaches 10^5 and more, and f32 would lose its fraction. */
static __global__ void angles_row(float *cosine, float *sine, const int32_t *position, const double *inverse,
                                  float magnitude, int pairs)
{
    for (int i = (int)threadIdx.x; i < pairs; i += THREADS) {
        double s, c;
        sincos((double)position[blockIdx.x] * inverse[i], &s, &c);
        cosine[(size_t)blockIdx.x * (size_t)pairs + i] = (float)c * magnitude;
        sine[(size_t)blockIdx.x * (size_t)pairs + i] = (float)s * magnitude;
    }
}

void cuda_angles(struct kern_device *d, float *cosine, float *sine, const int32_t *position, const double *inverse,
                 float magnitude, int rows, int pairs)
{
    launch(d, angles_row, dim3((unsigned)rows), THREADS, cosine, sine, position, inverse, magnitude, pairs);
}

/* 1 / sqrt(mean of squares + eps), for every thread of the block */
static __device__ float norm_factor(const float *x, int n, float eps)
{
    float sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        sum += x[i] * x[i];
    return 1.0f / sqrtf(block_sum(sum) / (float)n + eps);
}

template <typename T>
static __global__ void norm_row(T *out, int stride, const float *x, const float *w, const int32_t *pick, int n,
                                float eps)
{
    int row = pick ? pick[blockIdx.x] : (int)blockIdx.x;
    x += (size_t)row * (size_t)n;
    out += (size_t)blockIdx.x * (size_t)stride;
    float factor = norm_factor(x, n, eps);
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        store(out + i, x[i] * factor * w[i]);
}

void cuda_rmsnorm(struct kern_device *d, struct kern_device_rows *out, const float *x, const float *w,
                  const int32_t *pick, int rows, float eps)
{
    dim3 grid((unsigned)rows);
    if (d->exact)
        launch(d, norm_row<float>, grid, THREADS, (float *)out->data, out->stride, x, w, pick, out->cols, eps);
    else
        launch(d, norm_row<bf16>, grid, THREADS, (bf16 *)out->data, out->stride, x, w, pick, out->cols, eps);
}

static __global__ void join_row(float *x, const float *branch, const float *norm, int n, float eps)
{
    x += (size_t)blockIdx.x * (size_t)n;
    branch += (size_t)blockIdx.x * (size_t)n;
    float factor = norm ? norm_factor(branch, n, eps) : 1.0f;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        x[i] += norm ? branch[i] * factor * norm[i] : branch[i];
}

void cuda_join(struct kern_device *d, float *x, const float *branch, const float *norm, int rows, int n, float eps)
{
    launch(d, join_row, dim3((unsigned)rows), THREADS, x, branch, norm, n, eps);
}

static __global__ void bias_row(float *y, const float *bias, int n)
{
    y += (size_t)blockIdx.x * (size_t)n;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        y[i] += bias[i];
}

void cuda_bias(struct kern_device *d, float *y, const float *bias, int rows, int n)
{
    launch(d, bias_row, dim3((unsigned)rows), THREADS, y, bias, n);
}

static __device__ float gate_one(float g, float u, int kind)
{
    if (kind == KERN_GATE_GELU)
        return 0.5f * g * (1.0f + tanhf(0.7978845608028654f * (g + 0.044715f * g * g * g))) * u;
    if (kind == KERN_GATE_SILU)
        return g / (1.0f + expf(-g)) * u;
    g = fminf(g, 7.0f);
    u = fmaxf(fminf(u, 7.0f), -7.0f);
    return g / (1.0f + expf(-1.702f * g)) * (u + 1.0f);
}

template <typename T> static __global__ void gate_row(T *out, int stride, const float *x, int n, int kind)
{
    const float *gate = x + (size_t)blockIdx.x * 2 * (size_t)n;
    int i = (int)(blockIdx.y * THREADS + threadIdx.x);
    if (i < n)
        store(out + (size_t)blockIdx.x * (size_t)stride + i, gate_one(gate[i], gate[n + i], kind));
}

void cuda_gate(struct kern_device *d, struct kern_device_rows *out, const float *x, int rows, enum kern_gate kind)
{
    dim3 grid((unsigned)rows, (unsigned)((out->cols + THREADS - 1) / THREADS));
    if (d->exact)
        launch(d, gate_row<float>, grid, THREADS, (float *)out->data, out->stride, x, out->cols, (int)kind);
    else
        launch(d, gate_row<bf16>, grid, THREADS, (bf16 *)out->data, out->stride, x, out->cols, (int)kind);
}

static __global__ void soften_part(float *x, size_t n, float cap)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n)
        x[i] = cap * tanhf(x[i] / cap);
}

void cuda_soften(struct kern_device *d, float *x, size_t n, float cap)
{
    launch(d, soften_part, dim3((unsigned)((n + THREADS - 1) / THREADS)), THREADS, x, n, cap);
}
