/* forward_attend.c - which queries meet which chunks of keys, on which thread.
 * Rows of one sequence that follow each other, times the heads that share a KV head, go through a chunk together, at
 * most KERN_QUERIES_MAX. A query's result is the merge of its chunks in order, each computed from nothing: whether the
 * chunks of one query run on one thread or on many changes no bit. */
#include "engine/forward.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#define ITEMS_A_THREAD 4 /* with fewer items than this, chunks are spread too */
#define PARTS_MAX 4096   /* partial results of a spread */
#define CHUNK_TILES (KERN_CHUNK / KERN_KV_TOKENS)

struct item { /* up to KERN_QUERIES_MAX queries that share a KV head */
    int row, rows, head, heads, kv_head;
    int chunk_first, chunks; /* that any of them sees */
};

struct forward_parts {
    struct item *item; /* [items_max] */
    int items, items_max;
    struct kern_part *part; /* [PARTS_MAX] and their outputs, for a spread: [item][chunk][query] */
    float *out;
    size_t out_floats;
    int chunks; /* stride of a spread: most chunks of any item */
    struct engine_model *m;
    const struct engine_kv *kv;
    const struct model_layer *layer;
};

bool forward_parts_open(struct engine_model *m)
{
    const struct model_spec *s = &m->spec;
    struct forward_parts *p = calloc(1, sizeof *p);
    m->work->parts = p;
    if (!p)
        return false;
    p->m = m;
    p->items_max = MODEL_PASS_ROWS * s->heads;
    p->item = calloc((size_t)p->items_max, sizeof *p->item);
    p->part = calloc(PARTS_MAX, sizeof *p->part);
    p->out_floats = (size_t)PARTS_MAX * (size_t)s->head_dim;
    p->out = mmap(NULL, p->out_floats * sizeof *p->out, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->out == MAP_FAILED)
        p->out = NULL;
    for (int i = 0; p->out && p->part && i < PARTS_MAX; i++)
        p->part[i].out = p->out + (size_t)i * (size_t)s->head_dim;
    return p->item && p->part && p->out;
}

void forward_parts_close(struct engine_model *m)
{
    struct forward_parts *p = m->work->parts;
    if (!p)
        return;
    if (p->out) {
        explicit_bzero(p->out, p->out_floats * sizeof *p->out);
        munmap(p->out, p->out_floats * sizeof *p->out);
    }
    free(p->part);
    free(p->item);
    free(p);
}

/* --- items ----------------------------------------------------------------------------------------- */

static int first_seen(const struct forward_parts *p, int position)
{
    int first = position - p->m->spec.window + 1;
    return p->layer->group == ENGINE_KV_SLIDING && first > 0 ? first : 0;
}

static void add_items(struct forward_parts *p, int row, int rows)
{
    const struct model_spec *s = &p->m->spec;
    const struct forward_row *r = &p->m->work->row[row];
    int group = s->heads / s->kv_heads;
    int heads = group < KERN_QUERIES_MAX ? group : KERN_QUERIES_MAX;
    int first = first_seen(p, r->position) / KERN_CHUNK, last = (r->position + rows - 1) / KERN_CHUNK;

    for (int h = 0; h < s->kv_heads; h++)
        for (int g = 0; g < group; g += heads)
            p->item[p->items++] = (struct item){.row = row,
                                                .rows = rows,
                                                .head = h * group + g,
                                                .heads = group - g < heads ? group - g : heads,
                                                .kv_head = h,
                                                .chunk_first = first,
                                                .chunks = last - first + 1};
    if (p->chunks < last - first + 1)
        p->chunks = last - first + 1;
}

static void plan(struct forward_parts *p)
{
    const struct model_work *w = p->m->work;
    int group = p->m->spec.heads / p->m->spec.kv_heads, together = KERN_QUERIES_MAX / group;
    p->items = 0;
    p->chunks = 1;
    if (together < 1)
        together = 1;
    for (int row = 0, rows; row < w->rows; row += rows) {
        rows = 1;
        while (rows < together && row + rows < w->rows && w->row[row + rows].seq == w->row[row].seq)
            rows++;
        add_items(p, row, rows);
    }
}

/* --- one chunk of one item ------------------------------------------------------------------------- */

static void find_tiles(const struct forward_parts *p, const struct item *it, int from, int to, const void **keys,
                       const void **values)
{
    const int32_t *blocks = p->m->work->row[it->row].seq->blocks[p->layer->group];
    for (int t = 0; t < CHUNK_TILES; t++)
        keys[t] = values[t] = NULL;
    for (int t = from / KERN_KV_TOKENS; t <= to / KERN_KV_TOKENS; t++) {
        int position = t * KERN_KV_TOKENS;
        const uint8_t *tile =
            model_kv_tile(p->kv, p->layer->group, blocks[position / p->kv->block_tokens], p->layer->kv_layer,
                          it->kv_head, position % p->kv->block_tokens / KERN_KV_TOKENS);
        keys[t % CHUNK_TILES] = tile;
        values[t % CHUNK_TILES] = tile + p->kv->tile_bytes;
    }
}

/* Query q of an item is row q / heads, head q % heads. Parts of queries that see nothing of the chunk get sum 0. */
static void attend_chunk(const struct forward_parts *p, const struct item *it, int chunk, struct kern_part *part)
{
    const struct model_spec *s = &p->m->spec;
    const struct model_work *w = p->m->work;
    const void *keys[CHUNK_TILES], *values[CHUNK_TILES];
    int start = chunk * KERN_CHUNK, end = start + KERN_CHUNK - 1, low = end, high = start;
    struct kern_attend a = {.keys = keys,
                            .values = values,
                            .exact = p->m->exact,
                            .rounded = kern_form_info(p->layer->q.form)->integer,
                            .dim = s->head_dim,
                            .position = start,
                            .softcap = s->attention_softcap};

    for (int q = 0; q < it->rows * it->heads; q++) {
        int row = it->row + q / it->heads, last = w->row[row].position, first = first_seen(p, last);
        part[q].sum = 0;
        if (first > end || last < start)
            continue;
        a.query[a.queries] = w->qkv + (size_t)row * (size_t)forward_qkv_width(s) +
                             (size_t)(it->head + q % it->heads) * (size_t)s->head_dim;
        a.first[a.queries] = first;
        a.last[a.queries] = last;
        a.part[a.queries++] = &part[q];
        low = first < low ? (first > start ? first : start) : low;
        high = last > high ? (last < end ? last : end) : high;
    }
    if (a.queries == 0)
        return;
    find_tiles(p, it, low, high, keys, values);
    p->m->ops->attend(&a);
}

/* The sink, a logit that takes weight but gives no value, joins last; then the weights are made to sum to 1. */
static void finish(const struct forward_parts *p, const struct item *it, int q, struct kern_part *total)
{
    const struct model_spec *s = &p->m->spec;
    int row = it->row + q / it->heads, head = it->head + q % it->heads;
    struct kern_acts *to = &p->m->work->attended;
    float factor = 1;

    if (p->layer->sinks) {
        float sink = p->layer->sinks[head], max = fmaxf(sink, total->max);
        factor = expf(total->max - max);
        total->sum = total->sum * factor + expf(sink - max);
    }
    p->m->ops->scale(to->x + (size_t)row * (size_t)to->stride + (size_t)head * (size_t)s->head_dim, total->out,
                     factor / total->sum, s->head_dim);
}

/* --- tasks ----------------------------------------------------------------------------------------- */

static void whole_task(void *ctx, int index)
{
    const struct forward_parts *p = ctx;
    const struct item *it = &p->item[index];
    float out[2][KERN_QUERIES_MAX][KERN_HEAD_MAX];
    struct kern_part total[KERN_QUERIES_MAX], part[KERN_QUERIES_MAX];
    int queries = it->rows * it->heads;

    for (int q = 0; q < queries; q++) {
        total[q] = (struct kern_part){.out = out[0][q]};
        part[q] = (struct kern_part){.out = out[1][q]};
    }
    for (int c = 0; c < it->chunks; c++) {
        attend_chunk(p, it, it->chunk_first + c, part);
        for (int q = 0; q < queries; q++)
            p->m->ops->merge(&total[q], &part[q], p->m->spec.head_dim);
    }
    for (int q = 0; q < queries; q++)
        finish(p, it, q, &total[q]);
}

static void spread_task(void *ctx, int index)
{
    const struct forward_parts *p = ctx;
    const struct item *it = &p->item[index / p->chunks];
    int chunk = index % p->chunks;
    if (chunk < it->chunks)
        attend_chunk(p, it, it->chunk_first + chunk, &p->part[index * KERN_QUERIES_MAX]);
}

static void gather(struct forward_parts *p, int index)
{
    const struct item *it = &p->item[index];
    float out[KERN_HEAD_MAX];
    for (int q = 0; q < it->rows * it->heads; q++) {
        struct kern_part total = {.out = out};
        for (int c = 0; c < it->chunks; c++)
            p->m->ops->merge(&total, &p->part[(index * p->chunks + c) * KERN_QUERIES_MAX + q], p->m->spec.head_dim);
        finish(p, it, q, &total);
    }
}

void forward_attend(struct engine_model *m, const struct engine_kv *kv, const struct model_layer *y)
{
    struct forward_parts *p = m->work->parts;
    p->kv = kv;
    p->layer = y;
    plan(p);
    bool few = p->items < ITEMS_A_THREAD * kern_pool_threads(m->pool);
    if (!few || p->chunks == 1 || p->items * p->chunks > PARTS_MAX / KERN_QUERIES_MAX) {
        kern_pool_run(m->pool, whole_task, p, p->items);
        return;
    }
    kern_pool_run(m->pool, spread_task, p, p->items * p->chunks);
    for (int i = 0; i < p->items; i++)
        gather(p, i);
}
