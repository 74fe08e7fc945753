/* crew.c - parts are claimed in order, one at a time. */
#include "engine/crew.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define THREADS_MAX 64

struct crew {
    atomic_uint_fast64_t next, done;
    atomic_bool failed;
    uint64_t count;
    bool (*work)(void *ctx, uint64_t i);
    void *ctx;
};

/* Returns what `tick` was told last. */
static uint64_t work(struct crew *c, void (*tick)(void *ctx, uint64_t done))
{
    uint64_t told = 0;
    for (;;) {
        uint64_t i = atomic_fetch_add(&c->next, 1);
        if (i >= c->count || atomic_load(&c->failed))
            return told;
        if (!c->work(c->ctx, i)) {
            atomic_store(&c->failed, true);
            return told;
        }
        uint64_t done = atomic_fetch_add(&c->done, 1) + 1;
        if (tick)
            tick(c->ctx, told = done);
    }
}

static void *thread_main(void *arg)
{
    (void)work(arg, NULL);
    return NULL;
}

static uint64_t cpus(void)
{
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? (uint64_t)CPU_COUNT(&allowed) : 1;
}

bool engine_crew(uint64_t count, bool (*part)(void *ctx, uint64_t i), void (*tick)(void *ctx, uint64_t done), void *ctx)
{
    struct crew c = {.count = count, .work = part, .ctx = ctx};
    pthread_t other[THREADS_MAX];
    uint64_t want = cpus(), others = 0;

    while (others < THREADS_MAX && others + 1 < want && others + 1 < count &&
           pthread_create(&other[others], NULL, thread_main, &c) == 0)
        others++;
    uint64_t told = work(&c, tick);
    for (uint64_t i = 0; i < others; i++)
        pthread_join(other[i], NULL);
    bool good = !atomic_load(&c.failed);
    if (good && tick && told < count)
        tick(ctx, count);
    return good;
}
