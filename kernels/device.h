/* device.h - the ops of the forward pass on a device of its own memory, over whole batches of rows.
 *
 * The counterpart of kernels.h for a GPU: the engine's forward pass calls these in order, they are queued on one
 * stream and run later. kern_device_find() gives the table; a binary without CUDA has none. Pointers named "device"
 * below are addresses in device memory (from take(), or staged) and are never read here. Sizes are elements.
 *
 * Weights and the inputs of products are bf16, with sums in f32; keys and values are f16; everything else (the residual
 * stream, scores, logits) is f32. An `exact` device keeps all of them in f32: for checking. A stored matrix of any type
 * is decoded to that once, at load: 2 bytes an element (4 when exact) whatever the file has.
 *
 * Every op but gemm gives a row the same bits whatever else is in the batch; cuBLASLt may choose another order of
 * additions for another number of rows.
 * One thread at a time. Nothing fails loudly: the first failure stays in bridge_error() and later calls do nothing. */
#ifndef KERNELS_DEVICE_H
#define KERNELS_DEVICE_H

#include "kernels/bridge.h"

#ifdef __cplusplus
extern "C" {
#endif
#include "kernels/kernels.h" /* plain C */

struct kern_device;

/* Rows of bf16 (f32 when exact): a weight matrix, or the input of a product. */
struct kern_device_rows {
    void *data; /* device: [rows][stride] */
    int rows, cols, stride;
};
#define KERN_DEVICE_STRIDE 64 /* strides are multiples of it; elements between cols and stride are zeros */

/* Which positions a row has and where its sequence's blocks are; all device. */
struct kern_device_where {
    const int32_t *position; /* [rows] */
    const int32_t *sequence; /* [rows]: index into `table` */
    const int32_t *table;    /* [sequences]: where in `blocks` the sequence's block of position 0 would be */
    const int32_t *blocks;   /* block ids */
};

/* Keys and values of one layer. A block holds, for each layer of its group and each KV head, tiles of 16 positions:
 * keys [dim][16], then values [16][dim]. */
struct kern_device_kv {
    void *base;         /* device: f16, or f32 when exact */
    size_t block_elems; /* of a block, all layers */
    int block_tokens;   /* a multiple of KERN_KV_TOKENS */
    int layer;
};

struct kern_device_heads {
    int heads, kv_heads, dim; /* dim: at most KERN_HEAD_MAX, a multiple of 16 */
};

/* What becomes of the product with q, k and v: biases, norms per head, rotation, scale of the queries (in place), keys
 * and values to their blocks. */
struct kern_device_place {
    struct kern_device_heads of;
    float *qkv;                          /* device: [rows][(heads + 2 kv_heads) * dim] */
    const float *bias, *q_norm, *k_norm; /* device: [(heads + 2 kv_heads) * dim], [dim], [dim]; or NULL */
    const float *cosine, *sine;          /* device: [rows][pairs] */
    int rows, pairs;
    float eps, scale;
    struct kern_device_kv kv;
    struct kern_device_where where;
};

struct kern_device_attend {
    struct kern_device_heads of;
    const float *qkv;             /* device: queries scaled */
    const float *sinks;           /* device: [heads], or NULL */
    struct kern_device_rows *out; /* [rows][heads * dim] */
    int rows;
    int window;    /* positions that a row sees, its own included; 0: all */
    float softcap; /* 0: none */
    struct kern_device_kv kv;
    struct kern_device_where where;
};

/* Rows sorted by expert, so that an expert's weights are read once for up to KERN_DEVICE_TILE of them. A slot is
 * row * used + choice. */
#define KERN_DEVICE_TILE 8
struct kern_device_routes {
    int rows, experts, used; /* at most 1024 experts, 64 used */
    bool normalized;         /* weights of the chosen sum to 1 */
    int32_t *chosen;         /* device: [rows * used]; from here on what route() fills */
    float *weight;           /* device: [rows * used] */
    int32_t *order;          /* device: [rows * used] slots by expert */
    int32_t *tile;           /* device: [rows * used / KERN_DEVICE_TILE + experts][3]: expert, first, count */
    int32_t *tiles;          /* device: how many */
};

/* One row of logits and what is to be made of it: the choice of sample.h, or log-probabilities of a given id. */
#define KERN_DEVICE_TOP_MAX 20
struct kern_device_pick {
    int32_t id; /* -1: choose one; else that one's log-probability is wanted */
    float temperature, top_p, min_p, repetition, presence, frequency;
    uint32_t top_k;
    int32_t top; /* log-probabilities beside it: 0 .. KERN_DEVICE_TOP_MAX; -1: none at all */
    uint32_t choice, position;
    uint64_t seed;
    /* Offsets in bytes from the staged start; counts of 0 and `allowed` of 0: none. */
    uint32_t allowed;              /* a bit for each id */
    uint32_t bias, bias_count;     /* struct kern_device_scored */
    uint32_t banned, banned_count; /* int32 ids */
    uint32_t seen, seen_count;     /* struct kern_device_seen, distinct ids */
};
struct kern_device_seen {
    int32_t id;
    uint32_t produced; /* times in the output; 0: only in the prompt */
};
struct kern_device_scored {
    int32_t id; /* -1: no such */
    float value;
};
/* What comes out for a row: the chosen id (-1: none is allowed) and its log-probability, then `top_stride` most likely
 * ids with theirs, descending. */

struct kern_device_config {
    int ordinal;
    bool exact;
};

struct kern_device_ops {
    const char *name; /* "cuda"; "cuda, emulated" in tests */
    struct kern_device *(*open)(const struct kern_device_config *config, char why[BRIDGE_WHY_MAX]);
    void (*close)(struct kern_device *d); /* wipes and frees everything taken; NULL is fine */
    struct bridge *(*bridge)(struct kern_device *d);

    /* bridge.h */
    const char *(*error)(struct bridge *b);
    const char *(*device_name)(struct bridge *b);
    size_t (*device_free)(struct bridge *b);
    void *(*take)(struct bridge *b, size_t bytes);
    void (*give)(struct bridge *b, void *memory);
    bool (*send)(struct bridge *b, enum bridge_class class_, void *dst, const void *src, size_t n);
    bool (*recv)(struct bridge *b, enum bridge_class class_, void *dst, const void *src, size_t n);
    void (*step_begin)(struct bridge *b);
    void *(*stage)(struct bridge *b, size_t n, size_t *at);
    const void *(*step_commit)(struct bridge *b);
    bool (*drain_submit)(struct bridge *b, enum bridge_class class_, const void *src, size_t n);
    const void *(*drain_wait)(struct bridge *b);
    void (*stats)(const struct bridge *b, struct bridge_stats *out);

    /* x[r] = scale * table[token[r]] */
    void (*embed)(struct kern_device *d, float *x, const struct kern_device_rows *table, const int32_t *token, int rows,
                  float scale);
    /* cosine and sine of position * inverse[pair], times magnitude: [rows][pairs] */
    void (*angles)(struct kern_device *d, float *cosine, float *sine, const int32_t *position, const double *inverse,
                   float magnitude, int rows, int pairs);
    /* out[r] = x[pick ? pick[r] : r] * w / sqrt(mean(x^2) + eps), over out->cols; x is [..][out->cols] */
    void (*rmsnorm)(struct kern_device *d, struct kern_device_rows *out, const float *x, const float *w,
                    const int32_t *pick, int rows, float eps);
    /* x += branch, where `norm` is there rmsnorm(branch) * norm; both [rows][n] */
    void (*join)(struct kern_device *d, float *x, const float *branch, const float *norm, int rows, int n, float eps);
    void (*bias)(struct kern_device *d, float *y, const float *bias, int rows, int n); /* y[r] += bias */
    /* y[r] (+)= w * in[r], for the first `rows` rows of `in`; y is [rows][y_stride] */
    void (*gemm)(struct kern_device *d, float *y, int y_stride, const struct kern_device_rows *w,
                 const struct kern_device_rows *in, int rows, bool add);
    void (*place)(struct kern_device *d, const struct kern_device_place *p);
    void (*attend)(struct kern_device *d, const struct kern_device_attend *a);
    /* out[r][i] = gate(x[r][i], x[r][out->cols + i]); x is [rows][2 * out->cols] */
    void (*gate)(struct kern_device *d, struct kern_device_rows *out, const float *x, int rows, enum kern_gate kind);
    /* The `used` greatest scores of each row, the lower index first among equals; softmax weights; slots by expert. */
    void (*route)(struct kern_device *d, const struct kern_device_routes *r, const float *scores, const float *bias);
    /* y[slot] = w[expert of slot] * in[slot / share] + bias[expert of slot]. `w` holds the experts' matrices one after
     * the other, w->rows / experts rows each; bias is [w->rows] or NULL; y is [slots][that]. */
    void (*experts)(struct kern_device *d, const struct kern_device_routes *r, float *y,
                    const struct kern_device_rows *w, const float *bias, const struct kern_device_rows *in, int share);
    /* y[r] = sum over its choices, in order, of weight * x[slot]: [rows][n] */
    void (*combine)(struct kern_device *d, const struct kern_device_routes *r, float *y, const float *x, int n);
    void (*soften)(struct kern_device *d, float *x, size_t n, float cap); /* x = cap * tanh(x / cap) */
    /* Rows of logits [rows][vocab] to `out` [rows][1 + top_stride]; `work` is scratch like logits, which stay. */
    void (*pick)(struct kern_device *d, struct kern_device_scored *out, int top_stride, const float *logits,
                 float *work, int vocab, const struct kern_device_pick *picks, const void *staged, int rows);
    void (*kv_zero)(struct kern_device *d, void *base, size_t block_elems, int32_t block);
    void (*kv_copy)(struct kern_device *d, void *base, size_t block_elems, int32_t to, int32_t from);
};

/* The table of the device called `name` ("cuda"), or NULL with the reason. */
const struct kern_device_ops *kern_device_find(const char *name, const char **why);

extern const struct kern_device_ops kern_device_cuda; /* only in programs built with CUDA */

#ifdef __cplusplus
}
#endif
#endif
