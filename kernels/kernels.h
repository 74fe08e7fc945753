/* kernels.h - the ops of the forward pass, one table a kind of machine.
 * kern_ops_find() picks the best this machine runs, or the one that the environment variable AIRLOCK_CPU names (see
 * README.md). kernels/ref/ is the slow twin of each op and the oracle of its tests.
 * Every op gives each output in an order of additions that depends on its own inputs' shape alone: never on how many
 * rows come along, on the thread or on alignment. Sizes are elements, floats are f32 unless said. Nothing allocates,
 * nothing fails. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "kernels/matrix.h"
#include "kernels/pool.h"

/* Rows of activations as a product wants them. Columns are padded to a multiple of KERN_COLS_ROUND with zeros. */
struct kern_acts {
    int rows, cols, stride; /* stride: padded columns */
    float *x;               /* [rows][stride] */
    /* Quantized in blocks of 32: x ~ scale * q, q in -127..127; sums of scale * q over each 32 and each 16. */
    int8_t *q;    /* [rows][stride] */
    float *scale; /* [rows][stride / 32] */
    float *sum;   /* [rows][stride / 32] */
    float *half;  /* [rows][stride / 16] */
    /* Minus the sum of q over each 32 and each 16. */
    int32_t *neg;      /* [rows][stride / 32] */
    int32_t *neg_half; /* [rows][stride / 16] */
    /* x rounded to bf16: to nearest, ties to even; what f32 holds below 2^-126 is zero. */
    uint16_t *brain; /* [rows][stride] */
};
/* Zeroed; false when memory is short. */
bool kern_acts_init(struct kern_acts *a, int rows, int cols);
void kern_acts_release(struct kern_acts *a); /* wipes: activations are prompts */

enum kern_gate {
    KERN_GATE_SILU,    /* silu(g) * u */
    KERN_GATE_GELU,    /* gelu(g) * u, tanh form */
    KERN_GATE_CLAMPED, /* g' = min(g, 7), u' = clamp(u, -7, 7): g' * sigmoid(1.702 g') * (u' + 1) (GPT-OSS) */
};

#define KERN_KV_TOKENS 16  /* positions of a tile of keys and values */
#define KERN_CHUNK 256     /* positions whose softmax is taken at once; chunks start at multiples of it */
#define KERN_QUERIES_MAX 8 /* query vectors of one kern_attend call */
#define KERN_HEAD_MAX 512  /* elements of a head */

/* Keys and values of one layer and one KV head over one chunk. A tile of keys is [dim][16 positions], of values
 * [16 positions][dim], in f16 (or f32 when `exact`). */
struct kern_attend {
    const void *const *keys; /* per tile of the chunk: its address, NULL where no query looks */
    const void *const *values;
    bool exact;
    bool rounded;  /* weights and values may be rounded to bf16: they came from activations rounded to int8 */
    int dim;       /* of a head, a multiple of 16 */
    int position;  /* of the chunk's first key, a multiple of KERN_CHUNK */
    int queries;   /* 1 .. KERN_QUERIES_MAX */
    float softcap; /* 0: none; else scores are softcap * tanh(score / softcap) */
    /* Per query: its vector, already scaled; the first and last position that it sees (first <= last; both may lie
     * outside of the chunk, but each query must see some position of it); where the result goes. */
    const float *query[KERN_QUERIES_MAX];
    int first[KERN_QUERIES_MAX], last[KERN_QUERIES_MAX];
    struct kern_part *part[KERN_QUERIES_MAX];
};

/* Softmax over a part of the positions: sum of exp(score - max) * value, that sum of weights, and max. */
struct kern_part {
    float max, sum;
    float *out; /* [dim] */
};

#define KERN_STRETCH 256 /* ids whose weights are summed in f32; the sums are added up in f64 */

/* Logits to weights: e^((x - most) * inverse), relative error below 3e-7; 0 where x is less than `least` or NaN and
 * where the exponent is below -87. */
struct kern_weigh {
    float most, inverse, least; /* no x is greater than `most` */
};

/* One of several products that share their input: output rows of `y_stride` floats. */
struct kern_product {
    const struct kern_matrix *w;
    const float *bias; /* [rows of w] or NULL */
    float *y;
    size_t y_stride;
    bool add;
};
struct kern_piece { /* of a product: rows of W in tiles, rows of activations */
    int tile, tiles;
    int first, count;
};

struct kern_ops {
    const char *name;
    bool integer; /* has products for the integer forms; else matrices are laid out as F32 */
    /* y[i] = x[i] * w[i] / sqrt(mean(x^2) + eps); y may be x. */
    void (*rmsnorm)(float *y, const float *x, const float *w, int n, float eps);
    /* Fill q, scale, sum, half, neg and neg_half of row `row` from its x. */
    void (*quantize)(struct kern_acts *a, int row);
    /* Fill `brain` of row `row`; NULL: BF16 products read x. */
    void (*round)(struct kern_acts *a, int row);
    /* y[m * y_stride + r] (+)= sum of x[m] * W[r] (+ bias[r]) for the rows r of W that the piece's tiles have, and its
     * activation rows m. */
    void (*product)(const struct kern_product *p, const struct kern_acts *a, const struct kern_piece *piece);
    /* y[i] = gate(g[i], u[i]); y may be g or u. */
    void (*gate)(float *y, const float *g, const float *u, int n, enum kern_gate kind);
    /* Rotate pairs (x[i], x[i + pairs]), i < pairs, by angles whose cosines and sines are given. */
    void (*rope)(float *x, const float *cosine, const float *sine, int pairs);
    /* One position into its tile of keys and values: `slot` is position mod 16. */
    void (*kv_store)(void *keys, void *values, const float *k, const float *v, int dim, int slot, bool exact);
    void (*attend)(const struct kern_attend *a);
    /* `into` becomes the softmax over both parts. A part with sum 0 saw nothing. */
    void (*merge)(struct kern_part *into, const struct kern_part *other, int dim);
    void (*add)(float *y, const float *x, int n);            /* y += x */
    void (*scale)(float *y, const float *x, float f, int n); /* y = x * f; y may be x */
    /* Of n logits, for choosing one. peak[i] and sum[i] are of stretch i, x[KERN_STRETCH * i ..]; the last may be
     * short. The greatest of each stretch, minus infinity where nothing is greater than that; NaN is passed over. */
    void (*peaks)(float *peak, const float *x, int n);
    void (*weigh)(float *weight, float *sum, const float *x, int n, const struct kern_weigh *by);
    /* Of the weights that are `least` or more: their sums, and themselves in their order. `to` has room for n rounded
     * up to a multiple of KERN_STRETCH; returns how many. */
    void (*sums)(float *sum, const float *weight, int n, float least);
    int (*gather)(float *to, const float *weight, int n, float least);
};

/* The table named by AIRLOCK_CPU, or the best; NULL when the named one does not exist or cannot run here. */
const struct kern_ops *kern_ops_find(const char *name /* NULL: AIRLOCK_CPU, else the best */);
extern const struct kern_ops kern_ops_ref;

/* Where rows of activations come from: row(ctx, i), called on any thread, writes row i of x. */
struct kern_source {
    void (*row)(void *ctx, int row);
    void *ctx;
};

/* All `count` (1 .. 4) products of the first `rows` rows of `a`, split over the pool. The rows are written by `from`
 * (NULL: they are there), and quantized or rounded while they are in the first-level cache, when one of the matrices
 * wants that. */
void kern_products(struct kern_pool *pool, const struct kern_ops *ops, const struct kern_product *product, int count,
                   struct kern_acts *a, int rows, const struct kern_source *from);

#endif
