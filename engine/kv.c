/* kv.c - the memory behind block tables. A block holds, for every layer of its group and every KV head, tiles of 16
 * positions: keys [dim][16], then values [16][dim], as kernels.h wants them. */
#include "engine/model_parts.h"

#include <stdlib.h>
#include <sys/mman.h>

#define BLOCK_TOKENS_MAX 256

static bool map_group(struct engine_kv *kv, int group, int blocks, struct engine_problem *why)
{
    const struct engine_model *m = kv->model;
    size_t tiles = (size_t)kv->block_tokens / KERN_KV_TOKENS;
    kv->block_bytes[group] = (size_t)m->group_layers[group] * (size_t)m->spec.kv_heads * tiles * 2 * kv->tile_bytes;
    if (kv->block_bytes[group] == 0 || blocks <= 0)
        return true;
    if ((size_t)blocks > (SIZE_MAX >> 8) / kv->block_bytes[group]) {
        engine_problem_set(why, ENGINE_E_LIMIT, "%d blocks of keys and values are too many", blocks);
        return false;
    }
    size_t bytes = (size_t)blocks * kv->block_bytes[group];
    if (m->device) {
        kv->base[group] = model_device_kv_take(m, bytes);
        kv->blocks[group] = blocks;
        if (!kv->base[group])
            engine_problem_set(why, ENGINE_E_MEMORY, "no memory on the device for %d blocks of keys and values",
                               blocks);
        return kv->base[group];
    }
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        engine_problem_set(why, ENGINE_E_MEMORY, "no memory for %d blocks of keys and values (%zu bytes)", blocks,
                           bytes);
        return false;
    }
    madvise(memory, bytes, MADV_DONTDUMP);
    kv->base[group] = memory;
    kv->blocks[group] = blocks;
    return true;
}

struct engine_kv *engine_kv_open(const struct engine_model *m, int block_tokens, const int blocks[ENGINE_KV_GROUPS],
                                 struct engine_problem *why)
{
    if (block_tokens < KERN_KV_TOKENS || block_tokens > BLOCK_TOKENS_MAX || KERN_CHUNK % block_tokens != 0) {
        engine_problem_set(why, ENGINE_E_RANGE, "blocks of %d tokens: 16, 32, 64, 128 or 256 are supported",
                           block_tokens);
        return NULL;
    }
    struct engine_kv *kv = calloc(1, sizeof *kv);
    if (!kv) {
        engine_problem_set(why, ENGINE_E_MEMORY, "no memory for keys and values");
        return NULL;
    }
    kv->model = m;
    kv->block_tokens = block_tokens;
    kv->tile_bytes = (size_t)m->spec.head_dim * KERN_KV_TOKENS * (m->exact ? sizeof(float) : sizeof(uint16_t));
    for (int g = 0; g < ENGINE_KV_GROUPS; g++)
        if (!map_group(kv, g, blocks[g], why)) {
            engine_kv_close(kv);
            return NULL;
        }
    return kv;
}

void engine_kv_close(struct engine_kv *kv)
{
    for (int g = 0; kv && g < ENGINE_KV_GROUPS; g++)
        if (kv->base[g] && kv->model->device) {
            model_device_kv_give(kv->model, kv->base[g]);
        } else if (kv->base[g]) {
            size_t bytes = (size_t)kv->blocks[g] * kv->block_bytes[g];
            madvise(kv->base[g], bytes, MADV_DONTNEED); /* pages go back to the kernel, which clears them */
            munmap(kv->base[g], bytes);
        }
    free(kv);
}

void engine_kv_zero(struct engine_kv *kv, int group, int32_t block)
{
    if (group < 0 || group >= ENGINE_KV_GROUPS || block < 0 || block >= kv->blocks[group])
        return;
    if (kv->model->device)
        model_device_kv_zero(kv, group, block);
    else
        explicit_bzero(kv->base[group] + (size_t)block * kv->block_bytes[group], kv->block_bytes[group]);
}

void engine_kv_copy(struct engine_kv *kv, int group, int32_t to, int32_t from)
{
    if (group < 0 || group >= ENGINE_KV_GROUPS || to < 0 || from < 0 || to >= kv->blocks[group] ||
        from >= kv->blocks[group] || to == from)
        return;
    if (kv->model->device) {
        model_device_kv_copy(kv, group, to, from);
        return;
    }
    memcpy(kv->base[group] + (size_t)to * kv->block_bytes[group],
           kv->base[group] + (size_t)from * kv->block_bytes[group], kv->block_bytes[group]);
}
