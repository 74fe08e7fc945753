/* ops.h - the functions behind the table of device.h, by the file that has them. */
#ifndef KERNELS_CUDA_OPS_H
#define KERNELS_CUDA_OPS_H

#include "kernels/cuda/parts.h"

/* rows.cu */
void cuda_embed(struct kern_device *d, float *x, const struct kern_device_rows *table, const int32_t *token, int rows,
                float scale);
void cuda_angles(struct kern_device *d, float *cosine, float *sine, const int32_t *position, const double *inverse,
                 float magnitude, int rows, int pairs);
void cuda_rmsnorm(struct kern_device *d, struct kern_device_rows *out, const float *x, const float *w,
                  const int32_t *pick, int rows, float eps);
void cuda_join(struct kern_device *d, float *x, const float *branch, const float *norm, int rows, int n, float eps);
void cuda_bias(struct kern_device *d, float *y, const float *bias, int rows, int n);
void cuda_gate(struct kern_device *d, struct kern_device_rows *out, const float *x, int rows, enum kern_gate kind);
void cuda_soften(struct kern_device *d, float *x, size_t n, float cap);

/* gemm.cu */
bool cuda_gemm_open(struct kern_device *d);
void cuda_gemm_close(struct kern_device *d);
void cuda_gemm(struct kern_device *d, float *y, int y_stride, const struct kern_device_rows *w,
               const struct kern_device_rows *in, int rows, bool add);

/* attend.cu */
void cuda_place(struct kern_device *d, const struct kern_device_place *p);
void cuda_attend(struct kern_device *d, const struct kern_device_attend *a);
void cuda_kv_zero(struct kern_device *d, void *base, size_t block_elems, int32_t block);
void cuda_kv_copy(struct kern_device *d, void *base, size_t block_elems, int32_t to, int32_t from);

/* experts.cu */
void cuda_route(struct kern_device *d, const struct kern_device_routes *r, const float *scores, const float *bias);
void cuda_experts(struct kern_device *d, const struct kern_device_routes *r, float *y, const struct kern_device_rows *w,
                  const float *bias, const struct kern_device_rows *in, int share);
void cuda_combine(struct kern_device *d, const struct kern_device_routes *r, float *y, const float *x, int n);

/* pick.cu */
void cuda_pick(struct kern_device *d, struct kern_device_scored *out, int top_stride, const float *logits, float *work,
               int vocab, const struct kern_device_pick *picks, const void *staged, int rows);

#endif
