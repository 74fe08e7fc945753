/* gemm.cu - products with weight matrices, by cuBLASLt: bf16 inputs (f32 when exact, never TF32), f32 sums and results.
 * Row-major y[rows][n] = in[rows][k] * w[n][k]^T is, as cuBLAS sees memory, the column-major product w^T * in. The
 * algorithm for a shape is asked for once and kept: asking takes longer than a small product. */
#include "kernels/cuda/ops.h"

#include <stdlib.h>

enum { WORKSPACE = 32 << 20, ALIGNED = 16 };

bool cuda_gemm_open(struct kern_device *d)
{
    d->plan = (struct gemm_plan *)calloc(GEMM_PLANS, sizeof *d->plan);
    d->workspace = bridge_take(d->bridge, WORKSPACE);
    if (cublasLtCreate(&d->blas) != CUBLAS_STATUS_SUCCESS) {
        bridge_note(d->bridge, (int)cudaErrorUnknown, "cuBLASLt cannot be started");
        d->blas = NULL;
    }
    return d->plan && d->workspace && d->blas;
}

void cuda_gemm_close(struct kern_device *d)
{
    if (d->blas)
        cublasLtDestroy(d->blas);
    free(d->plan);
}

struct product { /* owned descriptions of one product */
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t w, in, y;
};

static bool describe(struct product *p, const struct gemm_plan *shape, bool exact)
{
    cublasOperation_t flipped = CUBLAS_OP_T;
    cudaDataType_t type = exact ? CUDA_R_32F : CUDA_R_16BF;
    return cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &flipped, sizeof flipped) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&p->w, type, (uint64_t)shape->k, (uint64_t)shape->n, shape->w_stride) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&p->in, type, (uint64_t)shape->k, (uint64_t)shape->rows, shape->in_stride) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&p->y, CUDA_R_32F, (uint64_t)shape->n, (uint64_t)shape->rows, shape->y_stride) ==
               CUBLAS_STATUS_SUCCESS;
}

static void forget(struct product *p)
{
    if (p->op)
        cublasLtMatmulDescDestroy(p->op);
    if (p->w)
        cublasLtMatrixLayoutDestroy(p->w);
    if (p->in)
        cublasLtMatrixLayoutDestroy(p->in);
    if (p->y)
        cublasLtMatrixLayoutDestroy(p->y);
}

/* The best algorithm as cuBLASLt guesses it. */
static bool find_algorithm(struct kern_device *d, const struct product *p, struct gemm_plan *plan)
{
    cublasLtMatmulPreference_t wish = NULL;
    cublasLtMatmulHeuristicResult_t found = {};
    size_t workspace = WORKSPACE;
    uint32_t aligned = plan->aligned ? ALIGNED : 4, inputs = ALIGNED;
    int count = 0;
    bool ok = cublasLtMatmulPreferenceCreate(&wish) == CUBLAS_STATUS_SUCCESS;
    ok = ok && cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                    sizeof workspace) == CUBLAS_STATUS_SUCCESS;
    const cublasLtMatmulPreferenceAttributes_t pointers[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (int i = 0; i < 4 && ok; i++)
        ok = cublasLtMatmulPreferenceSetAttribute(wish, pointers[i], i < 2 ? &inputs : &aligned, sizeof aligned) ==
             CUBLAS_STATUS_SUCCESS;
    ok = ok && cublasLtMatmulAlgoGetHeuristic(d->blas, p->op, p->w, p->in, p->y, p->y, wish, 1, &found, &count) ==
                   CUBLAS_STATUS_SUCCESS;
    if (wish)
        cublasLtMatmulPreferenceDestroy(wish);
    plan->algo = found.algo;
    return ok && count == 1 && found.state == CUBLAS_STATUS_SUCCESS;
}

static bool same_shape(const struct gemm_plan *a, const struct gemm_plan *b)
{
    return a->rows == b->rows && a->n == b->n && a->k == b->k && a->w_stride == b->w_stride &&
           a->in_stride == b->in_stride && a->y_stride == b->y_stride && a->aligned == b->aligned;
}

static struct gemm_plan *plan_of(struct kern_device *d, const struct gemm_plan *shape)
{
    unsigned hash = 0;
    const int numbers[] = {shape->rows, shape->n, shape->k, shape->y_stride, shape->aligned};
    for (int number : numbers)
        hash = (hash ^ (unsigned)number) * 2654435761u;
    return &d->plan[hash >> 16 & (GEMM_PLANS - 1)];
}

void cuda_gemm(struct kern_device *d, float *y, int y_stride, const struct kern_device_rows *w,
               const struct kern_device_rows *in, int rows, bool add)
{
    struct gemm_plan shape = {
        rows, w->rows, w->cols, w->stride, in->stride, y_stride, (size_t)y % ALIGNED == 0 && y_stride % 4 == 0, {}};
    struct gemm_plan *plan = plan_of(d, &shape);
    struct product p = {};
    const float one = 1, addend = add ? 1.0f : 0.0f;
    if (rows == 0 || bridge_error(d->bridge))
        return;
    bool ok = describe(&p, &shape, d->exact);
    if (ok && !same_shape(plan, &shape)) {
        ok = find_algorithm(d, &p, &shape);
        if (ok)
            *plan = shape;
    }
    ok = ok && cublasLtMatmul(d->blas, p.op, &one, w->data, p.w, in->data, p.in, &addend, y, p.y, y, p.y, &plan->algo,
                              d->workspace, WORKSPACE, d->stream) == CUBLAS_STATUS_SUCCESS;
    if (!ok)
        bridge_note(d->bridge, (int)cudaErrorUnknown, "cuBLASLt refuses a product");
    forget(&p);
}
