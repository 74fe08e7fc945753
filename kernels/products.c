/* products.c - which thread computes which tiles. */
#include "kernels/kernels.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PRODUCTS_MAX 4
#define ROWS_LEAST 64     /* activation rows of a task, when there are so many; more share what is read of W, */
#define ROWS_MOST 256     /* as long as they stay in the second-level cache, */
#define ROWS_BYTES 655360 /* of 1 MiB */
#define TASKS_A_THREAD 10 /* enough to even out a thread that lost its CPU for a while */
#define TASK_BYTES 524288 /* of W, where few rows wait for memory: each task starts its streams anew */
#define ROWS_INLINE 4     /* up to so many rows are quantized by the caller: waking others costs more */
#define STRIDE_EXTRA 64   /* the same column of many rows must not fall into one set of the first-level cache */

/* Whole tiles of rows, so that every array starts on a line of the cache. */
static size_t acts_elements(const struct kern_acts *a)
{
    return (size_t)((a->rows + KERN_TILE - 1) / KERN_TILE * KERN_TILE) * (size_t)a->stride;
}

static size_t acts_bytes(const struct kern_acts *a)
{
    size_t n = acts_elements(a);
    return n * (sizeof *a->x + sizeof *a->q + sizeof *a->brain) +
           n / 32 * (sizeof *a->scale + sizeof *a->sum + sizeof *a->neg + 2 * (sizeof *a->half + sizeof *a->neg_half));
}

bool kern_acts_init(struct kern_acts *a, int rows, int cols)
{
    *a = (struct kern_acts){.rows = rows, .cols = cols};
    a->stride = (cols + KERN_COLS_ROUND - 1) / KERN_COLS_ROUND * KERN_COLS_ROUND + STRIDE_EXTRA;
    size_t n = acts_elements(a), bytes = acts_bytes(a);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    madvise(memory, bytes, MADV_DONTDUMP);
    a->x = memory;
    a->scale = a->x + n;
    a->sum = a->scale + n / 32;
    a->half = a->sum + n / 32;
    a->neg = (int32_t *)(a->half + n / 16);
    a->neg_half = a->neg + n / 32;
    a->brain = (uint16_t *)(a->neg_half + n / 16);
    a->q = (int8_t *)(a->brain + n);
    return true;
}

void kern_acts_release(struct kern_acts *a)
{
    if (a->x) {
        size_t bytes = acts_bytes(a);
        explicit_bzero(a->x, bytes);
        munmap(a->x, bytes);
    }
    *a = (struct kern_acts){.rows = 0};
}

struct job {
    const struct kern_ops *ops;
    const struct kern_product *product;
    int count, rows;
    struct kern_acts *acts;
    const struct kern_source *from;
    bool integer, brain;     /* what the activations must be there as */
    int tiles[PRODUCTS_MAX]; /* of each product */
    int tiles_total, tiles_a_task, tile_tasks;
    int rows_a_task, row_tasks;
};

static void prepare_task(void *ctx, int row)
{
    const struct job *job = ctx;
    if (job->from)
        job->from->row(job->from->ctx, row);
    if (job->integer)
        job->ops->quantize(job->acts, row);
    if (job->brain)
        job->ops->round(job->acts, row);
}

static void product_task(void *ctx, int index)
{
    const struct job *job = ctx;
    struct kern_piece piece = {.first = index / job->tile_tasks * job->rows_a_task};
    int tile = index % job->tile_tasks * job->tiles_a_task, end = tile + job->tiles_a_task;

    piece.count = job->rows - piece.first < job->rows_a_task ? job->rows - piece.first : job->rows_a_task;
    for (int which = 0, base = 0; which < job->count; base += job->tiles[which++]) {
        int from = tile - base, to = end - base;
        piece.tile = from > 0 ? from : 0;
        piece.tiles = (to < job->tiles[which] ? to : job->tiles[which]) - piece.tile;
        if (piece.tiles > 0)
            job->ops->product(&job->product[which], job->acts, &piece);
    }
}

/* The same number for each thread: with two tasks for one of them and one for the other, half of the time is lost. */
static int tasks_wanted(const struct job *job, int threads)
{
    size_t bytes = 0, least = TASK_BYTES * (size_t)threads;
    for (int i = 0; i < job->count; i++)
        bytes += kern_matrix_bytes(job->product[i].w);
    if (job->rows > ROWS_INLINE || bytes >= TASKS_A_THREAD * least)
        return TASKS_A_THREAD * threads;
    return bytes < least ? threads : (int)(bytes / least) * threads;
}

/* Tasks of rows and tiles, about `wanted` when the matrices are large enough. */
static void split(struct job *job, int wanted)
{
    size_t row_bytes = (size_t)job->acts->stride * (job->integer ? sizeof *job->acts->q : sizeof *job->acts->brain);
    job->rows_a_task = ROWS_MOST;
    for (;; job->rows_a_task /= 2) {
        job->row_tasks = (job->rows + job->rows_a_task - 1) / job->rows_a_task;
        if (job->rows_a_task <= ROWS_LEAST ||
            ((size_t)job->rows_a_task * row_bytes <= ROWS_BYTES && job->tiles_total / 2 * job->row_tasks >= wanted))
            break;
    }
    job->tiles_a_task = (job->tiles_total * job->row_tasks + wanted - 1) / wanted;
    job->tiles_a_task += job->tiles_a_task % 2; /* fast products take two tiles at once */
    if (job->tiles_a_task < 1)
        job->tiles_a_task = 1;
    job->tile_tasks = (job->tiles_total + job->tiles_a_task - 1) / job->tiles_a_task;
}

void kern_products(struct kern_pool *pool, const struct kern_ops *ops, const struct kern_product *product, int count,
                   struct kern_acts *a, int rows, const struct kern_source *from)
{
    struct job job = {.ops = ops, .product = product, .count = count, .rows = rows, .acts = a, .from = from};

    for (int i = 0; i < count; i++) {
        job.integer |= kern_form_info(product[i].w->form)->integer;
        job.brain |= product[i].w->form == KERN_FORM_BF16 && ops->round;
        job.tiles[i] = (product[i].w->rows + KERN_TILE - 1) / KERN_TILE;
        job.tiles_total += job.tiles[i];
    }
    bool prepare = from || job.integer || job.brain;
    if (prepare && rows > ROWS_INLINE)
        kern_pool_run(pool, prepare_task, &job, rows);
    for (int row = 0; prepare && rows <= ROWS_INLINE && row < rows; row++)
        prepare_task(&job, row);
    split(&job, tasks_wanted(&job, kern_pool_threads(pool)));
    kern_pool_run(pool, product_task, &job, job.tile_tasks * job.row_tasks);
}
