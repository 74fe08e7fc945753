/* products.c - which thread computes which tiles. */
#include "kernels/kernels.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PRODUCTS_MAX 4
#define ROWS_A_TASK 64   /* activation rows of a task: their int8 stays in the second-level cache */
#define TASKS_A_THREAD 6 /* enough to even out a thread that lost its CPU for a while */
#define ROWS_INLINE 4    /* up to so many rows are quantized by the caller: waking others costs more */

static size_t acts_bytes(int rows, int stride)
{
    size_t n = (size_t)rows * (size_t)stride;
    return n * sizeof(float) + n + n / 32 * 2 * sizeof(float) + n / 16 * sizeof(float);
}

bool kern_acts_init(struct kern_acts *a, int rows, int cols)
{
    int stride = (cols + KERN_COLS_ROUND - 1) / KERN_COLS_ROUND * KERN_COLS_ROUND;
    size_t n = (size_t)rows * (size_t)stride;
    void *memory = mmap(NULL, acts_bytes(rows, stride), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    *a = (struct kern_acts){.rows = rows, .cols = cols, .stride = stride};
    if (memory == MAP_FAILED)
        return false;
    madvise(memory, acts_bytes(rows, stride), MADV_DONTDUMP);
    a->x = memory;
    a->scale = a->x + n;
    a->sum = a->scale + n / 32;
    a->half = a->sum + n / 32;
    a->q = (int8_t *)(a->half + n / 16);
    return true;
}

void kern_acts_release(struct kern_acts *a)
{
    if (a->x) {
        explicit_bzero(a->x, acts_bytes(a->rows, a->stride));
        munmap(a->x, acts_bytes(a->rows, a->stride));
    }
    *a = (struct kern_acts){.rows = 0};
}

struct job {
    const struct kern_ops *ops;
    const struct kern_product *product;
    int count, rows;
    struct kern_acts *acts;
    int tiles[PRODUCTS_MAX]; /* of each product */
    int tiles_total, tiles_a_task, tile_tasks;
};

static void quantize_task(void *ctx, int index)
{
    const struct job *job = ctx;
    job->ops->quantize(job->acts, index);
}

static void product_task(void *ctx, int index)
{
    const struct job *job = ctx;
    int first = index / job->tile_tasks * ROWS_A_TASK;
    int rows = job->rows - first < ROWS_A_TASK ? job->rows - first : ROWS_A_TASK;
    int tile = index % job->tile_tasks * job->tiles_a_task, end = tile + job->tiles_a_task, which = 0;

    if (end > job->tiles_total)
        end = job->tiles_total;
    for (int base = 0; tile < end; tile++) {
        while (tile - base >= job->tiles[which])
            base += job->tiles[which++];
        const struct kern_product *p = &job->product[which];
        int t = tile - base;
        job->ops->product(p->w, t, job->acts, first, rows, p->y + (size_t)first * p->y_stride + (size_t)t * KERN_TILE,
                          p->y_stride, p->bias, p->add);
    }
}

void kern_products(struct kern_pool *pool, const struct kern_ops *ops, const struct kern_product *product, int count,
                   struct kern_acts *a, int rows)
{
    struct job job = {.ops = ops, .product = product, .count = count, .rows = rows, .acts = a};
    bool integer = false;

    for (int i = 0; i < count; i++) {
        integer |= kern_form_info(product[i].w->form)->integer;
        job.tiles[i] = (product[i].w->rows + KERN_TILE - 1) / KERN_TILE;
        job.tiles_total += job.tiles[i];
    }
    for (int row = 0; integer && rows <= ROWS_INLINE && row < rows; row++)
        ops->quantize(a, row);
    if (integer && rows > ROWS_INLINE)
        kern_pool_run(pool, quantize_task, &job, rows);
    int row_tasks = (rows + ROWS_A_TASK - 1) / ROWS_A_TASK;
    int wanted = kern_pool_threads(pool) * TASKS_A_THREAD;
    job.tiles_a_task = (job.tiles_total * row_tasks + wanted - 1) / wanted;
    if (job.tiles_a_task < 1)
        job.tiles_a_task = 1;
    job.tile_tasks = (job.tiles_total + job.tiles_a_task - 1) / job.tiles_a_task;
    kern_pool_run(pool, product_task, &job, job.tile_tasks * row_tasks);
}
