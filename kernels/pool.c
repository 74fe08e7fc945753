/* pool.c - the tasks of an op are split into a stretch for each thread, and the stretches of one op after another lie
 * alike: what a thread wrote for some rows it reads again itself, from its own caches. Whoever has no task of its own
 * left takes others'. A stretch is one 64-bit word: its end and the next task. Claiming adds one and returns both, so
 * that a late thread can never take a task of one op for a task of another. */
#include "kernels/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPINS 4000 /* looks before sleeping: some tens of microseconds, longer than the serial part between two ops */

struct lane {                           /* of a thread; lane 0 is the caller's */
    _Alignas(64) _Atomic uint64_t word; /* end | next, 32 bits each */
    struct kern_pool *pool;
    pthread_t thread;
};

struct kern_pool {
    _Alignas(64) _Atomic uint32_t done; /* tasks finished of the current op */
    _Alignas(64) _Atomic uint32_t bell; /* epoch that sleepers wait on */
    _Atomic int sleepers;               /* threads in futex_wait */
    _Atomic bool caller_sleeps;         /* on `done` */
    _Atomic bool closing;
    void (*task)(void *ctx, int index); /* written before the lanes' words announce the op, as are ctx and tasks */
    void *ctx;
    uint32_t tasks;
    int threads;
    struct lane lane[KERN_POOL_THREADS_MAX];
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* The last of `tasks` wakes the caller when it has gone to sleep. */
static void finish_one(struct kern_pool *p, uint32_t tasks)
{
    if (atomic_fetch_add(&p->done, 1) + 1 == tasks && atomic_load(&p->caller_sleeps))
        futex_wake(&p->done);
}

/* A thread that lost its CPU to somebody may keep its task for milliseconds: give ours away meanwhile. */
static void wait_done(struct kern_pool *p, uint32_t tasks)
{
    uint32_t done = 0;
    for (int spins = 0; spins < SPINS; spins++) {
        if (atomic_load_explicit(&p->done, memory_order_acquire) == tasks)
            return;
        relax();
    }
    atomic_store(&p->caller_sleeps, true);
    while ((done = atomic_load(&p->done)) != tasks)
        futex_wait(&p->done, done);
    atomic_store(&p->caller_sleeps, false);
}

/* Take a lane's tasks until none is left. */
static void work_lane(struct kern_pool *p, struct lane *lane)
{
    for (;;) {
        uint64_t word = atomic_load_explicit(&lane->word, memory_order_relaxed);
        if ((uint32_t)word >= word >> 32) /* nothing to claim: do not grow the counter */
            return;
        word = atomic_fetch_add_explicit(&lane->word, 1, memory_order_acquire);
        if ((uint32_t)word >= word >> 32)
            return;
        uint32_t tasks = p->tasks;
        p->task(p->ctx, (int)(uint32_t)word);
        finish_one(p, tasks);
    }
}

/* One's own lane first. */
static void work(struct kern_pool *p, int own)
{
    for (int i = 0; i < p->threads; i++)
        work_lane(p, &p->lane[(own + i) % p->threads]);
}

static void *worker(void *arg)
{
    struct lane *lane = arg;
    struct kern_pool *p = lane->pool;
    uint32_t seen = 0;
    while (!atomic_load(&p->closing)) {
        uint32_t bell = atomic_load_explicit(&p->bell, memory_order_acquire);
        for (int i = 0; bell == seen && i < SPINS; i++) {
            relax();
            bell = atomic_load_explicit(&p->bell, memory_order_acquire);
        }
        if (bell == seen) {
            atomic_fetch_add(&p->sleepers, 1);
            if (atomic_load(&p->bell) == seen)
                futex_wait(&p->bell, seen);
            atomic_fetch_sub(&p->sleepers, 1);
            continue;
        }
        seen = bell;
        work(p, (int)(lane - p->lane));
    }
    return NULL;
}

void kern_pool_run(struct kern_pool *p, void (*task)(void *ctx, int index), void *ctx, int tasks)
{
    if (tasks <= 1 || p->threads == 1) {
        for (int i = 0; i < tasks; i++)
            task(ctx, i);
        return;
    }
    /* The old op's lanes are closed: all of them were claimed to the end before the last task returned, so any thread
     * that still looks at them leaves empty-handed. */
    p->task = task;
    p->ctx = ctx;
    p->tasks = (uint32_t)tasks;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    for (int i = 0; i < p->threads; i++) {
        uint64_t first = (uint64_t)tasks * (uint64_t)i / (uint64_t)p->threads;
        uint64_t end = (uint64_t)tasks * (uint64_t)(i + 1) / (uint64_t)p->threads;
        atomic_store_explicit(&p->lane[i].word, end << 32 | first, memory_order_release);
    }
    atomic_fetch_add(&p->bell, 1);
    if (atomic_load(&p->sleepers) > 0)
        futex_wake(&p->bell);
    work(p, 0);
    wait_done(p, (uint32_t)tasks);
}

/* The `index`-th CPU of those allowed, or -1. */
static int cpu_at(const cpu_set_t *allowed, int index)
{
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, allowed) && index-- == 0)
            return (int)cpu;
    return -1;
}

static bool start(struct kern_pool *p, int index, const cpu_set_t *allowed)
{
    pthread_attr_t attr;
    cpu_set_t one;
    int cpu = cpu_at(allowed, index);
    if (pthread_attr_init(&attr) != 0)
        return false;
    if (cpu >= 0) {
        CPU_ZERO(&one);
        CPU_SET((size_t)cpu, &one);
        pthread_attr_setaffinity_np(&attr, sizeof one, &one);
    }
    p->lane[index].pool = p;
    bool ok = pthread_create(&p->lane[index].thread, &attr, worker, &p->lane[index]) == 0;
    pthread_attr_destroy(&attr);
    return ok;
}

struct kern_pool *kern_pool_open(int threads)
{
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    int cpus = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    struct kern_pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    if (!p)
        return NULL;
    *p = (struct kern_pool){.threads = 1};
    if (threads <= 0)
        threads = cpus;
    if (threads > KERN_POOL_THREADS_MAX)
        threads = KERN_POOL_THREADS_MAX;
    for (; p->threads < threads; p->threads++)
        if (!start(p, p->threads, &allowed)) {
            kern_pool_close(p);
            return NULL;
        }
    return p;
}

void kern_pool_close(struct kern_pool *p)
{
    if (!p)
        return;
    atomic_store(&p->closing, true);
    atomic_fetch_add(&p->bell, 1);
    futex_wake(&p->bell);
    for (int i = 1; i < p->threads; i++)
        pthread_join(p->lane[i].thread, NULL);
    free(p);
}

int kern_pool_threads(const struct kern_pool *p)
{
    return p->threads;
}
