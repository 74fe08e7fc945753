#include "machine.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define RUNS 5
#define READ_BYTES ((size_t)512 << 20)

double machine_now(void)
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

double machine_median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

/* --- who else computes ----------------------------------------------------------------------------- */

/* Seconds that all processors were busy or stolen, less our own. */
static double others_seconds(void)
{
    unsigned long long t[8] = {0};
    struct rusage own;
    FILE *f = fopen("/proc/stat", "r");
    if (!f || fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6],
                     &t[7]) != 8)
        memset(t, 0, sizeof t);
    if (f)
        fclose(f);
    getrusage(RUSAGE_SELF, &own);
    double busy = (double)(t[0] + t[1] + t[2] + t[5] + t[6] + t[7]) / (double)sysconf(_SC_CLK_TCK);
    return busy - (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) -
           1e-6 * (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec);
}

void machine_watch(struct machine_watch *w)
{
    *w = (struct machine_watch){machine_now(), others_seconds()};
}

double machine_foreign(const struct machine_watch *w)
{
    double share = (others_seconds() - w->others) / (machine_now() - w->at);
    return share > 0 ? share : 0;
}

/* --- a machine whose host has nothing left to do ------------------------------------------------------- */

static void touch(size_t bytes)
{
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        _exit(1);
    madvise(memory, bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < bytes; i += 4096)
        memory[i] = 1;
    _exit(0);
}

double machine_warm(const char *path, size_t bytes)
{
    enum { TOUCHERS = 2 };
    static uint8_t buf[1 << 20];
    pid_t child[TOUCHERS];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && read(fd, buf, sizeof buf) > 0)
        ;
    if (fd >= 0)
        close(fd);
    double begin = machine_now();
    for (int i = 0; i < TOUCHERS; i++)
        if ((child[i] = fork()) == 0)
            touch(bytes / TOUCHERS);
    for (int i = 0; i < TOUCHERS; i++)
        if (child[i] > 0)
            waitpid(child[i], NULL, 0);
    return machine_now() - begin;
}

/* --- memory ------------------------------------------------------------------------------------------ */

typedef uint64_t line __attribute__((vector_size(64)));

static struct area {
    line *data;
    size_t lines;
    int parts, streams, ahead; /* lines */
    volatile uint64_t sink;
} area;

static void *map_area(void)
{
    void *memory = mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, READ_BYTES, MADV_HUGEPAGE);
    memset(memory, 1, READ_BYTES);
    return memory;
}

/* One thread's share, as `streams` parts that are read side by side. */
static inline __attribute__((always_inline)) void read_streams(const struct area *a, int index, int streams, line *sum)
{
    size_t share = a->lines / (size_t)a->parts, part = share / (size_t)streams, ahead = (size_t)a->ahead;
    const line *p = a->data + (size_t)index * share;
    for (size_t i = 0; i < part; i++)
        for (int s = 0; s < streams; s++) {
            const line *at = p + (size_t)s * part + i;
            if (ahead)
                __builtin_prefetch(at + ahead, 0, 3);
            sum[s] ^= *at;
        }
}

#if defined(__x86_64__)
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif

WIDEST static void read_part(void *ctx, int index)
{
    struct area *a = ctx;
    line sum[4] = {{0}};
    if (a->streams == 1)
        read_streams(a, index, 1, sum);
    else if (a->streams == 2)
        read_streams(a, index, 2, sum);
    else
        read_streams(a, index, 4, sum);
    sum[0] ^= sum[1] ^ sum[2] ^ sum[3];
    a->sink = sum[0][0] ^ sum[0][7];
}

static double read_once(struct kern_pool *pool, int streams, int ahead)
{
    area.lines = READ_BYTES / sizeof(line);
    area.parts = kern_pool_threads(pool);
    area.streams = streams;
    area.ahead = ahead / (int)sizeof(line);
    double start = machine_now();
    kern_pool_run(pool, read_part, &area, area.parts);
    return (double)READ_BYTES / (machine_now() - start);
}

double machine_read(const struct machine *m, struct kern_pool *pool)
{
    double v[3];
    for (int i = 0; i < 3; i++)
        v[i] = read_once(pool, m->streams, m->ahead);
    return machine_median(v, 3);
}

static void find_read(struct machine *m, struct kern_pool *pool)
{
    static const int streams[] = {1, 2, 4}, ahead[] = {0, 512, 1024};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        for (size_t j = 0; j < sizeof ahead / sizeof *ahead; j++) {
            double v[RUNS];
            for (int r = 0; r < RUNS; r++)
                v[r] = read_once(pool, streams[i], ahead[j]);
            double rate = machine_median(v, RUNS);
            if (rate > m->read)
                m->read = rate, m->streams = streams[i], m->ahead = ahead[j];
        }
}

void machine_release(void)
{
    if (area.data)
        munmap(area.data, READ_BYTES);
    area.data = NULL;
}

/* --- arithmetic from registers ----------------------------------------------------------------------- */

#if defined(__x86_64__)

#define DOTS 12000000 /* instructions of a run */

/* One instruction over twelve sums that do not depend on each other. */
#define DOT_LOOP(NAME, TARGET, SUM, ZERO, X, DOT)                                                                      \
    __attribute__((target(TARGET))) static void NAME(void *ctx, int index)                                             \
    {                                                                                                                  \
        (void)index;                                                                                                   \
        SUM s[12], x = X, total = ZERO;                                                                                \
        for (int j = 0; j < 12; j++)                                                                                   \
            s[j] = ZERO;                                                                                               \
        for (int i = 0; i < DOTS / 12; i++)                                                                            \
            _Pragma("GCC unroll 12") for (int j = 0; j < 12; j++) s[j] = DOT;                                          \
        for (int j = 0; j < 12; j++)                                                                                   \
            total += s[j];                                                                                             \
        uint64_t word;                                                                                                 \
        memcpy(&word, &total, sizeof word);                                                                            \
        ((struct area *)ctx)->sink = word;                                                                             \
    }

DOT_LOOP(dot_vnni512, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), _mm512_set1_epi8(3),
         _mm512_dpbusd_epi32(s[j], x, x))
DOT_LOOP(dot_vnni256, "avx2,avxvnni", __m256i, _mm256_setzero_si256(), _mm256_set1_epi8(3),
         _mm256_dpbusd_avx_epi32(s[j], x, x))
DOT_LOOP(dot_avx2, "avx2", __m256i, _mm256_setzero_si256(), _mm256_set1_epi8(3),
         _mm256_add_epi32(s[j], _mm256_madd_epi16(_mm256_maddubs_epi16(x, s[j]), x)))
DOT_LOOP(dot_bf16, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(), _mm512_set1_ps(1.0f),
         _mm512_dpbf16_ps(s[j], (__m512bh)x, (__m512bh)x))
DOT_LOOP(dot_f32_512, "avx512f", __m512, _mm512_setzero_ps(), _mm512_set1_ps(1.0f), _mm512_fmadd_ps(x, x, s[j]))
DOT_LOOP(dot_f32_256, "avx2,fma", __m256, _mm256_setzero_ps(), _mm256_set1_ps(1.0f), _mm256_fmadd_ps(x, x, s[j]))

/* AMX: four sums from two tiles each way. The store of the configuration must not be dropped (gcc 12 does). */
struct tile_config {
    uint8_t palette, start, zero[14];
    uint16_t columns[16];
    uint8_t rows[16];
};

__attribute__((target("amx-tile"))) static void set_tiles(void)
{
    struct tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++)
        c.columns[i] = 64, c.rows[i] = 16;
    __asm__ volatile("ldtilecfg %0" ::"m"(c) : "memory");
    static uint8_t ones[16][64];
    memset(ones, 1, sizeof ones);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, ones, 64);
    _tile_loadd(5, ones, 64);
    _tile_loadd(6, ones, 64);
    _tile_loadd(7, ones, 64);
}

__attribute__((target("amx-tile,amx-int8"))) static void dot_amx_int8(void *ctx, int index)
{
    (void)ctx, (void)index;
    set_tiles();
    for (int i = 0; i < DOTS / 32 / 4; i++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
}

__attribute__((target("amx-tile,amx-bf16"))) static void dot_amx_bf16(void *ctx, int index)
{
    (void)ctx, (void)index;
    set_tiles();
    for (int i = 0; i < DOTS / 32 / 4; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
}

/* The kernel gives tile data on request; threads that exist already share the answer. */
static bool amx_is_granted(void)
{
    return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18) == 0;
}

static double rate_of(struct kern_pool *pool, void (*part)(void *, int), double operations)
{
    double v[RUNS];
    int parts = kern_pool_threads(pool);
    for (int i = 0; i < RUNS; i++) {
        double start = machine_now();
        kern_pool_run(pool, part, &area, parts);
        v[i] = operations * parts / (machine_now() - start);
    }
    return machine_median(v, RUNS);
}

#define HAS(feature) (__builtin_cpu_supports(feature) != 0)

static bool flag_in_cpuinfo(const char *flag)
{
    char text[8192];
    FILE *f = fopen("/proc/cpuinfo", "r");
    bool found = false;
    while (f && !found && fgets(text, sizeof text, f))
        if (strncmp(text, "flags", 5) == 0) {
            for (char *word = strtok(text, " \t\n"); word && !found; word = strtok(NULL, " \t\n"))
                found = strcmp(word, flag) == 0;
            break;
        }
    if (f)
        fclose(f);
    return found;
}

static void find_arithmetic(struct machine *m, struct kern_pool *pool)
{
    const struct {
        bool usable, bf16;
        const char *how;
        void (*part)(void *, int);
        double operations; /* of a run */
    } ways[] = {
        {flag_in_cpuinfo("amx_int8") && amx_is_granted(), false, "amx", dot_amx_int8, DOTS / 32 * 32768.0},
        {HAS("avx512vnni"), false, "avx512 vnni", dot_vnni512, DOTS * 128.0},
        {flag_in_cpuinfo("avx_vnni"), false, "avx vnni", dot_vnni256, DOTS * 64.0},
        {HAS("avx2"), false, "avx2", dot_avx2, DOTS * 64.0},
        {flag_in_cpuinfo("amx_bf16") && amx_is_granted(), true, "amx", dot_amx_bf16, DOTS / 32 * 16384.0},
        {HAS("avx512bf16"), true, "avx512 bf16", dot_bf16, DOTS * 64.0},
        {HAS("avx512f"), true, "avx512 f32", dot_f32_512, DOTS * 32.0},
        {HAS("avx2") && HAS("fma"), true, "avx2 f32", dot_f32_256, DOTS * 16.0},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        double rate = ways[i].usable ? rate_of(pool, ways[i].part, ways[i].operations) : 0;
        double *best = ways[i].bf16 ? &m->bf16 : &m->int8;
        if (rate > *best) {
            *best = rate;
            *(ways[i].bf16 ? &m->bf16_how : &m->int8_how) = ways[i].how;
        }
    }
}

void machine_print_flags(void)
{
    static const char *const names[] = {"avx2",        "fma",         "f16c",     "avx_vnni", "avx512f", "avx512bw",
                                        "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"};
    printf("flags:");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (flag_in_cpuinfo(names[i]))
            printf(" %s", names[i]);
    printf("\n");
}

#else

static void find_arithmetic(struct machine *m, struct kern_pool *pool)
{
    (void)m, (void)pool;
}

void machine_print_flags(void)
{
    printf("flags: not x86-64\n");
}

#endif

bool machine_measure(struct machine *m, struct kern_pool *pool)
{
    *m = (struct machine){.streams = 1, .int8_how = "not measured", .bf16_how = "not measured"};
    if (!area.data && !(area.data = map_area()))
        return false;
    find_read(m, pool);
    find_arithmetic(m, pool);
    return true;
}
