/* pool.c - embeddings: the states of a prompt's tokens as one vector. A sum runs over positions in order, in double:
 * the same bits however the prompt was cut into steps. */
#include <math.h>
#include <stdio.h>

#include "engine/job.h"
#include "engine/shards.h"
#include "verifier/base/secret.h"

enum { EVENT_FLOATS = 2048 }; /* of one event: 8 KiB (tunnel/message.h) */

/* <arch>.pooling_type of GGUF: 1 mean, 3 last; others are of models that this engine does not run. */
enum engine_pooling pool_of_files(const struct engine_files *files, const char *arch)
{
    struct engine_gguf *gguf;
    char key[64];
    uint64_t type = 0;
    snprintf(key, sizeof key, "%s.pooling_type", arch);
    bool mean = engine_shards_open(files, &gguf, NULL) && gguf && engine_gguf_u64(gguf, key, &type) && type == 1;
    engine_gguf_close(gguf);
    return mean ? ENGINE_POOLING_MEAN : ENGINE_POOLING_LAST;
}

void pool_add(const struct engine *e, struct choice *c, uint32_t pos, uint32_t count, const float *states)
{
    for (uint32_t i = 0; i < count; i++, states += c->pooled_floats) {
        bool sum = e->options.pooling == ENGINE_POOLING_MEAN && c->pooled_count > 0;
        if (e->options.pooling == ENGINE_POOLING_MEAN && pos + i != c->pooled_count)
            continue; /* taken in before a preemption */
        for (size_t k = 0; k < c->pooled_floats; k++)
            c->pooled[k] = (sum ? c->pooled[k] : 0) + (double)states[k];
        c->pooled_count++;
    }
}

static double factor_of(const struct engine *e, const struct choice *c)
{
    double squares = 0;
    for (size_t k = 0; k < c->pooled_floats; k++)
        squares += c->pooled[k] * c->pooled[k];
    if (e->options.raw_vectors)
        return 1 / (double)c->pooled_count;
    return squares > 0 ? 1 / sqrt(squares) : 0;
}

void pool_finish(struct engine *e, struct choice *c)
{
    uint8_t bytes[4 * EVENT_FLOATS];
    double factor = factor_of(e, c);
    for (size_t done = 0, n; done < c->pooled_floats; done += n) {
        n = c->pooled_floats - done < EVENT_FLOATS ? c->pooled_floats - done : EVENT_FLOATS;
        for (size_t k = 0; k < n; k++) {
            float v = (float)(c->pooled[done + k] * factor);
            uint32_t bits;
            memcpy(&bits, &v, sizeof bits);
            for (int b = 0; b < 4; b++)
                bytes[4 * k + (size_t)b] = (uint8_t)(bits >> (24 - 8 * b));
        }
        struct tunnel_event ev = {.kind = TUNNEL_EVENT_RESULT, .index = c->index, .floats = span_of(bytes, 4 * n)};
        job_send(c->job, &ev);
    }
    secret_wipe(bytes, sizeof bytes);
    choice_end(e, c);
    pthread_mutex_lock(&e->lock);
    e->stats.prompt_tokens += c->prompt_len;
    e->stats.finished_stop++;
    pthread_mutex_unlock(&e->lock);
}
