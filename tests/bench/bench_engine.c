/* bench_engine.c - one figure of the engine's forward pass on this machine, for bench_engine.sh and for people.
 *   bench_engine --model FILE [--threads N] --case machine | decodeN | prefillN | all
 * decodeN: N sequences, one token each a step, after 16 of context; prefillN: one prompt of N tokens. Prints tokens a
 * second, the median of several runs. machine: flags, read bandwidth and int8 rate; all: a table with the memory floor,
 * which is the time to read every weight once at that bandwidth. */
#include "engine/model.h"
#include "kernels/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SEQUENCES_MAX 64
#define TABLE 64 /* blocks of a sequence */
#define RUNS 7
#define READ_BYTES ((size_t)512 << 20)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

/* --- the machine ----------------------------------------------------------------------------------- */

struct area {
    const uint64_t *data;
    size_t words;
    int parts;
    volatile uint64_t sink;
};

static void read_part(void *ctx, int index)
{
    struct area *a = ctx;
    size_t part = a->words / (size_t)a->parts / 8 * 8;
    const uint64_t *p = a->data + (size_t)index * part;
    uint64_t s[8] = {0};
    for (size_t i = 0; i < part; i += 8)
        for (int j = 0; j < 8; j++)
            s[j] ^= p[i + (size_t)j];
    a->sink = s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
}

/* Bytes a second that all threads read together, one plain stream each. */
static double read_bandwidth(struct kern_pool *pool)
{
    void *memory = mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    double v[RUNS];
    if (memory == MAP_FAILED)
        return 0;
    madvise(memory, READ_BYTES, MADV_HUGEPAGE);
    memset(memory, 1, READ_BYTES);
    struct area a = {.data = memory, .words = READ_BYTES / 8, .parts = kern_pool_threads(pool)};
    for (int i = 0; i < RUNS; i++) {
        double start = now();
        kern_pool_run(pool, read_part, &a, a.parts);
        v[i] = (double)READ_BYTES / (now() - start);
    }
    munmap(memory, READ_BYTES);
    return median(v, RUNS);
}

#if defined(__x86_64__)
#define DOTS 20000000

__attribute__((target("avx512f,avx512vnni"))) static void dot_part(void *ctx, int index)
{
    struct area *a = ctx;
    __m512i s[12], x = _mm512_set1_epi8((char)(index + 1));
    for (int j = 0; j < 12; j++)
        s[j] = _mm512_setzero_si512();
    for (int i = 0; i < DOTS / 12; i++)
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++)
            s[j] = _mm512_dpbusd_epi32(s[j], x, x);
    for (int j = 1; j < 12; j++)
        s[0] = _mm512_xor_si512(s[0], s[j]);
    a->sink = (uint64_t)_mm512_reduce_add_epi32(s[0]);
}

/* Operations (multiply and add are two) a second from registers; 0 without VNNI. */
static double int8_rate(struct kern_pool *pool)
{
    struct area a = {.parts = kern_pool_threads(pool)};
    double v[RUNS];
    if (!__builtin_cpu_supports("avx512vnni"))
        return 0;
    for (int i = 0; i < RUNS; i++) {
        double start = now();
        kern_pool_run(pool, dot_part, &a, a.parts);
        v[i] = 128.0 * DOTS * a.parts / (now() - start);
    }
    return median(v, RUNS);
}

static void print_flags(void)
{
    static const char *const names[] = {"avx2", "fma", "avx512f", "avx512bw", "avx512vnni", "avx512bf16"};
    const bool has[] = {__builtin_cpu_supports("avx2"),       __builtin_cpu_supports("fma"),
                        __builtin_cpu_supports("avx512f"),    __builtin_cpu_supports("avx512bw"),
                        __builtin_cpu_supports("avx512vnni"), __builtin_cpu_supports("avx512bf16")};
    printf("flags:");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (has[i])
            printf(" %s", names[i]);
    printf("\n");
}
#else
static double int8_rate(struct kern_pool *pool)
{
    (void)pool;
    return 0;
}

static void print_flags(void)
{
    printf("flags: not x86-64\n");
}
#endif

static void print_machine(struct kern_pool *pool)
{
    print_flags();
    printf("threads: %d\nread: %.1f GB/s\nint8: %.2f TOP/s\n", kern_pool_threads(pool), read_bandwidth(pool) / 1e9,
           int8_rate(pool) / 1e12);
}

/* --- the engine ------------------------------------------------------------------------------------ */

struct bench {
    struct engine_model *model;
    struct engine_kv *kv;
    const struct engine_model_info *info;
    float *logits;
    int32_t table[SEQUENCES_MAX][TABLE];
};

static bool bench_open(struct bench *b, const char *path, int threads)
{
    static const int blocks[ENGINE_KV_GROUPS] = {SEQUENCES_MAX * TABLE, SEQUENCES_MAX * TABLE};
    struct engine_model_options options = {.threads = threads, .context_max = TABLE * 16};
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_files files;
    if (!engine_files_load(&files, path, &why) || !(b->model = engine_model_open(&files, true, &options, &why)) ||
        !(b->kv = engine_kv_open(b->model, 16, blocks, &why))) {
        fprintf(stderr, "bench_engine: %s\n", why.text);
        return false;
    }
    b->info = engine_model_info(b->model);
    b->logits = malloc((size_t)SEQUENCES_MAX * (size_t)b->info->vocab * sizeof *b->logits);
    for (int s = 0; s < SEQUENCES_MAX; s++)
        for (int i = 0; i < TABLE; i++)
            b->table[s][i] = s * TABLE + i;
    return b->logits != NULL;
}

static struct engine_step_seq sequence(struct bench *b, int s, const int32_t *tokens, int pos, int count)
{
    return (struct engine_step_seq){tokens, count, pos, {b->table[s], b->table[s]}, ENGINE_LOGITS_LAST};
}

static double step(struct bench *b, const struct engine_step_seq *seqs, int n)
{
    double start = now();
    if (engine_model_step(b->model, b->kv, seqs, n, b->logits) != ENGINE_OK) {
        fprintf(stderr, "bench_engine: a step was refused\n");
        exit(1);
    }
    return now() - start;
}

static double prefill(struct bench *b, int tokens)
{
    int32_t ids[TABLE * 16];
    double v[RUNS];
    for (int i = 0; i < tokens; i++)
        ids[i] = (i * 7919 + 13) % b->info->vocab;
    for (int run = 0; run < RUNS; run++) {
        struct engine_step_seq seq = sequence(b, 0, ids, 0, tokens);
        v[run] = tokens / step(b, &seq, 1);
    }
    return median(v, RUNS);
}

/* Median time of a step over 64 steps: a step that lost its processor to somebody does not count. */
static double decode(struct bench *b, int sequences)
{
    enum { STEPS = 64, CONTEXT = 16 };
    struct engine_step_seq seqs[SEQUENCES_MAX];
    int32_t ids[SEQUENCES_MAX][CONTEXT];
    double v[STEPS];
    for (int s = 0; s < sequences; s++) {
        for (int i = 0; i < CONTEXT; i++)
            ids[s][i] = (s * 101 + i * 7919) % b->info->vocab;
        seqs[s] = sequence(b, s, ids[s], 0, CONTEXT);
    }
    step(b, seqs, sequences);
    for (int i = 0; i < STEPS; i++) {
        for (int s = 0; s < sequences; s++)
            seqs[s] = sequence(b, s, &ids[s][i % CONTEXT], CONTEXT + i, 1);
        v[i] = step(b, seqs, sequences);
    }
    return sequences / median(v, STEPS);
}

static void print_all(struct bench *b, double bandwidth)
{
    static const int counts[] = {1, 2, 4, 8, 16, 32};
    printf("kernels: %s, weights: %.1f MB, floor: %.2f ms a step\n", b->info->kernels,
           (double)b->info->weight_bytes / 1e6, 1e3 * (double)b->info->weight_bytes / bandwidth);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        double rate = decode(b, counts[i]), floor = bandwidth / (double)b->info->weight_bytes * counts[i];
        printf("decode %2d: %8.1f tok/s, %5.1f %% of the memory floor\n", counts[i], rate, 100 * rate / floor);
    }
    printf("prefill 512: %.1f tok/s\n", prefill(b, 512));
}

static int run_case(struct bench *b, const char *name, struct kern_pool *pool)
{
    int n = 0;
    if (strcmp(name, "all") == 0) {
        print_machine(pool);
        print_all(b, read_bandwidth(pool));
    } else if (sscanf(name, "decode%d", &n) == 1 && n >= 1 && n <= SEQUENCES_MAX) {
        printf("%.1f\n", decode(b, n));
    } else if (sscanf(name, "prefill%d", &n) == 1 && n >= 1 && n <= TABLE * 16) {
        printf("%.1f\n", prefill(b, n));
    } else {
        fprintf(stderr, "bench_engine: no case is called \"%s\"\n", name);
        return 2;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *model = NULL, *name = "all";
    int threads = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--model") == 0)
            model = argv[i + 1];
        else if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--case") == 0)
            name = argv[i + 1];
    }
    struct kern_pool *pool = kern_pool_open(threads);
    static struct bench b;
    if (pool && strcmp(name, "machine") == 0) {
        print_machine(pool);
        return 0;
    }
    if (!pool || !model || !bench_open(&b, model, threads)) {
        fprintf(stderr, "usage: bench_engine --model FILE [--threads N] --case machine|decodeN|prefillN|all\n");
        return 2;
    }
    int code = run_case(&b, name, pool);
    engine_kv_close(b.kv);
    engine_model_close(b.model);
    free(b.logits);
    kern_pool_close(pool);
    return code;
}
