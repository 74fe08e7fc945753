#include "engine/crew.h"

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/pool.h"

struct crew {
    atomic_uint_fast64_t done;
    atomic_bool failed;
    bool (*work)(void *ctx, uint64_t i);
    void (*tick)(void *ctx, uint64_t done);
    void *ctx;
    pthread_t caller;
};

static void part(void *ctx, int i)
{
    struct crew *c = ctx;
    if (atomic_load(&c->failed))
        return;
    if (!c->work(c->ctx, (uint64_t)i)) {
        atomic_store(&c->failed, true);
        return;
    }
    uint64_t done = atomic_fetch_add(&c->done, 1) + 1;
    if (c->tick && pthread_equal(pthread_self(), c->caller))
        c->tick(c->ctx, done);
}

bool engine_crew(uint64_t count, bool (*work)(void *ctx, uint64_t i), void (*tick)(void *ctx, uint64_t done), void *ctx)
{
    struct crew c = {.work = work, .tick = tick, .ctx = ctx, .caller = pthread_self()};
    if (count > KERN_POOL_TASKS_MAX)
        return false;
    struct kern_pool *pool = kern_pool_open(count > 1 ? 0 : 1);
    if (!pool) /* threads are short: this one does it all */
        pool = kern_pool_open(1);
    if (!pool)
        return false;
    kern_pool_run(pool, part, &c, (int)count);
    kern_pool_close(pool);
    bool good = !atomic_load(&c.failed);
    if (good && tick)
        tick(ctx, count);
    return good;
}
