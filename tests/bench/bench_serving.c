/* bench_serving.c - rows about the running engine: many clients, its memory, its start, its sampler. For
 * bench_engine.py. bench_serving --model FILE --label TEXT [--long] CASE... arrivals: 8 clients keep sending 512-token
 * prompts; between two tokens of an answer no client waits long. prefix: the same 8 clients, three quarters of every
 * prompt in common; the first token comes sooner. overload: twice the requests that it can serve, for 20 s (--long: 10
 * minutes); it keeps its pace, nobody starves. start: time until a request can be taken, and the most memory the
 * process ever held, its KV cache filled. sampling: what choosing a token costs beside the product that makes its
 * logits. admission: how many 32 K requests its blocks hold, against one contiguous stretch each. A case during which
 * others used the processors is taken again, at most twice. */
#include "engine/engine.h"
#include "engine/sample.h"
#include "engine/sched.h"
#include "machine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    CLIENTS_MAX = 64,
    POOL_IDS = 1 << 16, /* ids that prompts are cut from */
    PROMPT = 512,
    SHARED = 384,
    SAMPLES_MAX = 1 << 20,
    TRIES = 3,
    ROUNDS = 3,
};

static const char *label;
static bool is_long;

static void row(const char *name, const char *ours, const char *reference, double ratio, const char *goal, bool met)
{
    printf("engine\t%s, %s\t%s\t%s\t", label, name, ours, reference);
    if (ratio > 0)
        printf("%.2f\t%s\t%s\n", ratio, goal, met ? "met" : "short");
    else
        printf("-\t%s\t%s\n", goal, met ? "met" : "short");
    fflush(stdout);
}

static void row_busy(const char *name)
{
    printf("engine\t%s, %s\t-\t-\t-\t-\tskipped: other processes used the processors in every sample\n", label, name);
    fflush(stdout);
}

/* --- samples ----------------------------------------------------------------------------------------- */

struct samples {
    double *v;
    int count;
};

static void sample_put(struct samples *s, double x)
{
    if (!s->v)
        s->v = malloc(SAMPLES_MAX * sizeof *s->v);
    if (s->v && s->count < SAMPLES_MAX)
        s->v[s->count++] = x;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value that `share` of the samples do not exceed. */
static double percentile(struct samples *s, double share)
{
    if (s->count == 0)
        return 0;
    qsort(s->v, (size_t)s->count, sizeof *s->v, by_value);
    int at = (int)(share * (s->count - 1) + 0.5);
    return s->v[at];
}

/* --- clients ----------------------------------------------------------------------------------------- */

static struct {
    struct engine *engine;
    pthread_mutex_t lock;
    pthread_cond_t change;
    uint32_t *pool; /* ids of ordinary text */
    size_t pool_count;
    uint32_t rng;
    struct samples gap, ttft, whole; /* seconds */
    double tokens;                   /* generated */
    int refused, failed;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER, .rng = 1};

struct client {
    double asked, last;
    bool busy, record;
    int served;
    uint8_t ids[4 * 4096];
};

static struct client clients[CLIENTS_MAX];

static uint32_t draw(uint32_t below)
{
    world.rng = world.rng * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)world.rng * below) >> 32);
}

static void on_token(struct client *c, double now)
{
    if (c->last > 0 && c->record)
        sample_put(&world.gap, now - c->last);
    else if (c->record)
        sample_put(&world.ttft, now - c->asked);
    c->last = now;
}

static void on_event(void *ctx, const struct tunnel_event *ev)
{
    struct client *c = ctx;
    double now = machine_now();
    pthread_mutex_lock(&world.lock);
    if (ev->kind == TUNNEL_EVENT_DELTA && ev->ids.len > 0) {
        on_token(c, now);
        world.tokens += (double)tunnel_ids_count(ev->ids);
    } else if (ev->kind == TUNNEL_EVENT_DONE || ev->kind == TUNNEL_EVENT_ERROR) {
        if (ev->kind == TUNNEL_EVENT_ERROR && ev->status == 429)
            world.refused++;
        else if (ev->kind == TUNNEL_EVENT_ERROR && ev->status != 499)
            world.failed++;
        else if (c->record)
            sample_put(&world.whole, now - c->asked);
        c->busy = false;
        c->served += ev->kind == TUNNEL_EVENT_DONE;
        pthread_cond_signal(&world.change);
    }
    pthread_mutex_unlock(&world.lock);
}

static const struct engine_events events = {on_event};

/* A prompt of `count` ids, the first `common` always the same. */
static struct span make_prompt(struct client *c, size_t count, size_t common)
{
    size_t from = draw((uint32_t)(world.pool_count - count));
    for (size_t i = 0; i < count; i++) {
        uint32_t id = world.pool[i < common ? i : from + i];
        for (int b = 0; b < 4; b++)
            c->ids[4 * i + (size_t)b] = (uint8_t)(id >> (24 - 8 * b));
    }
    return span_of(c->ids, 4 * count);
}

static void ask(struct client *c, size_t prompt, size_t common, uint32_t output)
{
    static struct tunnel_request q;
    tunnel_request_defaults(&q);
    q.task = TUNNEL_COMPLETION;
    q.model = span_str(engine_served(world.engine, 0));
    q.prompt_count = 1;
    q.prompt[0] = (struct tunnel_prompt){true, make_prompt(c, prompt, common)};
    q.max_tokens = output;
    q.has_max_tokens = q.ignore_eos = q.stream = true;
    q.temperature = 0;
    q.salt = span_str("bench");
    c->busy = true;
    c->last = 0;
    c->asked = machine_now();
    if (engine_submit(world.engine, &q, &events, c) == 0)
        c->busy = false;
}

static void wait_idle(void)
{
    pthread_mutex_lock(&world.lock);
    for (int i = 0; i < CLIENTS_MAX; i++)
        while (clients[i].busy)
            pthread_cond_wait(&world.change, &world.lock);
    pthread_mutex_unlock(&world.lock);
}

static void forget_samples(void)
{
    world.gap.count = world.ttft.count = world.whole.count = world.refused = world.failed = 0;
    world.tokens = 0;
}

/* `count` clients that ask again as soon as they are answered, until `seconds` have passed; then the last answers.
 * What a client asks first is not recorded: all begin together, which is no steady state. */
static void crowd(int count, double seconds, size_t prompt, size_t common, uint32_t output)
{
    double end = machine_now() + seconds;
    forget_samples();
    for (int i = 0; i < count; i++) {
        clients[i].record = false;
        clients[i].served = 0;
        /* prompts spread over an answer's time, as strangers' would be */
        ask(&clients[i], prompt, common, output * (uint32_t)(i + 1) / (uint32_t)count + 1);
    }
    pthread_mutex_lock(&world.lock);
    while (machine_now() < end) {
        bool asked = false; /* with the lock open: somebody may have ended unseen */
        for (int i = 0; i < count; i++)
            if (!clients[i].busy) {
                asked = clients[i].record = true;
                pthread_mutex_unlock(&world.lock);
                ask(&clients[i], prompt, common, output);
                pthread_mutex_lock(&world.lock);
            }
        if (!asked)
            pthread_cond_wait(&world.change, &world.lock);
    }
    for (int i = 0; i < count; i++)
        clients[i].record = false; /* fewer and fewer run now */
    pthread_mutex_unlock(&world.lock);
    wait_idle();
}

/* --- the engine -------------------------------------------------------------------------------------- */

static struct engine *open_engine(const char *path, const struct engine_options *options)
{
    static struct engine_files files;
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine *e = NULL;
    if (engine_files_load(&files, path, &why))
        e = engine_open(&files, options, &why);
    if (!e) {
        fprintf(stderr, "bench_serving: %s\n", why.text);
        exit(1);
    }
    return e;
}

static void on_ids(void *ctx, const struct tunnel_event *ev)
{
    (void)ctx;
    pthread_mutex_lock(&world.lock);
    for (size_t i = 0; ev->kind == TUNNEL_EVENT_RESULT && i < tunnel_ids_count(ev->ids); i++)
        if (world.pool_count < POOL_IDS)
            world.pool[world.pool_count++] = tunnel_ids_at(ev->ids, i);
    if (ev->kind == TUNNEL_EVENT_DONE || ev->kind == TUNNEL_EVENT_ERROR)
        clients[0].busy = false;
    pthread_cond_signal(&world.change);
    pthread_mutex_unlock(&world.lock);
}

/* Ids of ordinary words: what answers them is text whose every token can be shown at once. */
static void make_pool(void)
{
    static const char *const words[] = {"the ",    "house ", "and ",     "river ", "under ",  "a ",
                                        "green ",  "light ", "went ",    "to ",    "market ", "with ",
                                        "seven ",  "old ",   "friends ", "who ",   "said ",   "that ",
                                        "winter ", "comes ", "early ",   "this ",  "year ",   "again. "};
    static char text[8000]; /* no longer than a context */
    static struct tunnel_request q;
    static const struct engine_events tokenize = {on_ids};
    world.pool = calloc(POOL_IDS, sizeof *world.pool);
    for (int i = 0; world.pool && i < 20; i++) {
        size_t len = 0;
        while (len + 16 < sizeof text) {
            const char *word = words[draw(sizeof words / sizeof *words)];
            memcpy(text + len, word, strlen(word));
            len += strlen(word);
        }
        tunnel_request_defaults(&q);
        q.task = TUNNEL_TOKENIZE;
        q.model = span_str(engine_served(world.engine, 0));
        q.prompt_count = 1;
        q.prompt[0] = (struct tunnel_prompt){false, span_of(text, len)};
        clients[0].busy = true;
        if (engine_submit(world.engine, &q, &tokenize, NULL) == 0)
            exit(1);
        wait_idle();
    }
    if (world.pool_count < 8 * PROMPT) {
        fprintf(stderr, "bench_serving: the model's tokenizer made only %zu ids\n", world.pool_count);
        exit(1);
    }
}

static void serve(const char *path)
{
    struct engine_options options = {
        .context_max = 4096, .seqs_max = 32, .kv_bytes = (uint64_t)1 << 30, .threads = 2, .queue_max = 64};
    if (world.engine)
        return;
    world.engine = open_engine(path, &options);
    make_pool();
}

/* An engine that has seen no load: what its pace has learned of one would count for another. */
static void serve_anew(const char *path)
{
    engine_close(world.engine);
    free(world.pool);
    world.engine = NULL;
    world.pool_count = 0;
    serve(path);
}

/* --- cases ------------------------------------------------------------------------------------------- */

static void arrivals(const char *path)
{
    char ours[96], reference[96];
    serve(path);
    for (int i = 0; i < TRIES; i++) {
        struct machine_watch watch;
        machine_watch(&watch);
        crowd(8, 14, PROMPT, 0, 96);
        if (machine_foreign(&watch) > MACHINE_FOREIGN_MAX)
            continue;
        double p50 = percentile(&world.gap, 0.5), p99 = percentile(&world.gap, 0.99);
        snprintf(ours, sizeof ours, "p99 %.1f ms between two tokens", 1e3 * p99);
        snprintf(reference, sizeof reference, "p50 %.1f ms (%.0f tok/s, TTFT p50 %.0f ms)", 1e3 * p50,
                 world.tokens / (machine_now() - watch.at), 1e3 * percentile(&world.ttft, 0.5));
        row("8 clients, 512-token prompts arrive", ours, reference, p50 > 0 ? p99 / p50 : 0, "<= 2 x the median",
            p50 > 0 && p99 <= 2 * p50);
        return;
    }
    row_busy("8 clients, 512-token prompts arrive");
}

struct ttft {
    double shared, apart; /* medians */
};

static int by_ratio(const void *a, const void *b)
{
    const struct ttft *x = a, *y = b;
    double left = x->shared * y->apart, right = y->shared * x->apart;
    return (left > right) - (left < right);
}

static double ttft_of(const char *path, size_t common)
{
    serve_anew(path);
    crowd(8, 8, PROMPT, common, 96);
    return percentile(&world.ttft, 0.5);
}

static bool prefix_round(const char *path, struct ttft *out)
{
    for (int i = 0; i < TRIES; i++) {
        struct machine_watch watch;
        machine_watch(&watch);
        out->apart = ttft_of(path, 0);
        out->shared = ttft_of(path, SHARED);
        if (machine_foreign(&watch) <= MACHINE_FOREIGN_MAX)
            return true;
    }
    return false;
}

/* How the clients come to lie to each other, which lasts for a whole round, is chance. */
static void prefix(const char *path)
{
    static const char name[] = "8 clients, 75 % of the prompt shared";
    struct ttft round[ROUNDS], *middle = &round[ROUNDS / 2];
    char ours[96], reference[96];
    for (int i = 0; i < ROUNDS; i++)
        if (!prefix_round(path, &round[i])) {
            row_busy(name);
            return;
        }
    qsort(round, ROUNDS, sizeof *round, by_ratio);
    snprintf(ours, sizeof ours, "TTFT p50 %.0f ms", 1e3 * middle->shared);
    snprintf(reference, sizeof reference, "%.0f ms with nothing in common (%.2f to %.2f x in %d rounds)",
             1e3 * middle->apart, round[0].shared / round[0].apart, round[ROUNDS - 1].shared / round[ROUNDS - 1].apart,
             ROUNDS);
    row(name, ours, reference, middle->shared / middle->apart, "<= 0.40 x", middle->shared <= 0.4 * middle->apart);
}

/* Requests at a fixed pace, whoever is free asks; where nobody is free the request is lost before it is made. */
static void flood(double per_second, double seconds, size_t prompt, uint32_t output)
{
    double begin = machine_now();
    forget_samples();
    for (long k = 0; machine_now() - begin < seconds; k++) {
        double due = begin + (double)k / per_second, wait = due - machine_now();
        if (wait > 0) {
            struct timespec t = {(time_t)wait, (long)((wait - (double)(time_t)wait) * 1e9)};
            nanosleep(&t, NULL);
        }
        for (int i = 0; i < CLIENTS_MAX; i++) {
            pthread_mutex_lock(&world.lock);
            bool free_one = !clients[i].busy;
            clients[i].record = true;
            pthread_mutex_unlock(&world.lock);
            if (free_one) {
                ask(&clients[i], prompt, 0, output);
                break;
            }
        }
    }
}

static void overload(const char *path)
{
    enum { LOAD_PROMPT = 64, LOAD_OUTPUT = 32 };
    char ours[96], reference[96];
    double seconds = is_long ? 600 : 20;
    serve(path);
    for (int i = 0; i < TRIES; i++) {
        struct machine_watch watch;
        machine_watch(&watch);
        double begin = machine_now();
        crowd(32, 10, LOAD_PROMPT, 0, LOAD_OUTPUT);
        double peak = world.tokens / (machine_now() - begin);
        begin = machine_now();
        flood(2 * peak / LOAD_OUTPUT, seconds, LOAD_PROMPT, LOAD_OUTPUT);
        double rate = world.tokens / (machine_now() - begin);
        wait_idle();
        double p50 = percentile(&world.whole, 0.5), most = percentile(&world.whole, 1);
        if (machine_foreign(&watch) > MACHINE_FOREIGN_MAX)
            continue;
        snprintf(ours, sizeof ours, "%.0f tok/s; slowest answer %.1f s, median %.1f s", rate, most, p50);
        snprintf(reference, sizeof reference, "%.0f tok/s at 32 clients", peak);
        row(is_long ? "twice as much as it can serve, 10 minutes" : "twice as much as it can serve, 20 s", ours,
            reference, rate / peak, ">= 0.95 x, slowest <= 3 x the median, none fails",
            rate >= 0.95 * peak && most <= 3 * p50 && world.failed == 0);
        return;
    }
    row_busy("twice as much as it can serve");
}

static double status_bytes(const char *field)
{
    char text[256];
    unsigned long long kb = 0;
    size_t len = strlen(field);
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(text, sizeof text, f))
        if (strncmp(text, field, len) == 0 && sscanf(text + len, ": %llu", &kb) == 1)
            break;
    if (f)
        fclose(f);
    return 1024.0 * (double)kb;
}

/* In a process of its own: nothing else may have raised its peak. The file is in the page cache, and the host of a
 * virtual machine has given the memory before: how fast either comes is not the engine's doing. */
static void start(const char *path)
{
    enum { KV = 64 << 20 };
    struct stat info;
    struct machine machine;
    char ours[96], reference[128];
    struct engine_options options = {.context_max = 4096, .kv_bytes = KV, .threads = 2};
    if (stat(path, &info) != 0)
        exit(1);
    double got = machine_warm(path, (size_t)info.st_size * 23 / 20 + KV + (200 << 20));
    struct machine_watch watch;
    machine_watch(&watch);
    world.engine = open_engine(path, &options);
    double ready = machine_now() - watch.at;
    bool busy = machine_foreign(&watch) > 2 * MACHINE_FOREIGN_MAX; /* a short time: hundredths of a second count */
    make_pool();
    const size_t *token = engine_info(world.engine)->kv_bytes_per_token;
    size_t prompts = KV / (token[0] + token[1]) / PROMPT + 1;
    crowd(prompts < 32 ? (int)prompts : 32, 0, PROMPT, 0, 4); /* every block of the cache has been used */
    double peak = status_bytes("VmHWM"), weights = (double)engine_info(world.engine)->weight_bytes;
    struct kern_pool *pool = kern_pool_open(2);
    if (!pool || !machine_measure(&machine, pool))
        exit(1);
    double floor = (double)info.st_size / machine.read;
    snprintf(ours, sizeof ours, "%.2f s", ready);
    snprintf(reference, sizeof reference,
             "%.2f s to read its %.0f MB at %.0f GB/s; the host gave memory before, in %.1f s", floor,
             (double)info.st_size / 1e6, machine.read / 1e9, got);
    if (busy)
        row_busy("ready");
    else
        row("ready", ours, reference, 0, "<= that + 1 s", ready <= floor + 1);
    double limit = weights * 1.15 + KV + 200e6;
    snprintf(ours, sizeof ours, "%.0f MB at most", peak / 1e6);
    snprintf(reference, sizeof reference, "%.0f MB weights, %.0f MB KV", weights / 1e6, KV / 1e6);
    row("memory", ours, reference, peak / (weights + KV), "<= 1.15 x weights + KV + 200 MB", peak <= limit);
    kern_pool_close(pool);
    machine_release();
}

/* --- sampling ---------------------------------------------------------------------------------------- */

struct head {
    struct engine_model *model;
    struct engine_kv *kv;
    float *logits, *copy;
    size_t vocab;
    struct sample_scratch scratch;
};

static double step_seconds(struct head *h, int sequences, enum engine_logits logits)
{
    enum { RUNS = 15 };
    static const int32_t token[1] = {5};
    static int32_t table[32][1];
    struct engine_step_seq seqs[32];
    double v[RUNS];
    for (int s = 0; s < sequences; s++) {
        table[s][0] = s;
        seqs[s] = (struct engine_step_seq){token, 1, 0, {table[s], table[s]}, logits};
    }
    for (int i = 0; i < RUNS; i++) {
        double begin = machine_now();
        if (engine_model_step(h->model, h->kv, seqs, sequences, h->logits) != ENGINE_OK)
            exit(1);
        v[i] = machine_now() - begin;
    }
    return machine_median(v, RUNS);
}

/* Choosing from fresh logits, which lie where the product left them. */
static double pick_seconds(struct head *h, const struct sample_params *p)
{
    enum { RUNS = 31 };
    struct sample_history history = {0};
    double v[RUNS];
    for (int i = 0; i < 200; i++)
        if (!sample_history_add(&history, i * 37, true))
            exit(1);
    for (int i = 0; i < RUNS; i++) {
        struct sample_result r;
        memcpy(h->copy, h->logits, h->vocab * sizeof *h->copy);
        double begin = machine_now();
        sample_pick(&r, p, &history, h->copy, h->vocab, &h->scratch);
        v[i] = machine_now() - begin;
    }
    sample_history_release(&history);
    return machine_median(v, RUNS);
}

static void sampling(const char *path)
{
    static const int blocks[ENGINE_KV_GROUPS] = {64, 64};
    static const struct {
        const char *name, *goal;
        struct sample_params p;
        double most;
    } kinds[] = {
        {"greedy", "<= 5 %", {.temperature = 0, .top_p = 1, .repetition = 1, .top = -1}, 0.05},
        {"temperature, top-p, top-k, min-p, penalties",
         "<= 25 %",
         {.temperature = 0.8f,
          .top_p = 0.9f,
          .top_k = 50,
          .min_p = 0.02f,
          .repetition = 1.1f,
          .presence = 0.1f,
          .frequency = 0.1f,
          .seed = 7,
          .top = -1},
         0.25},
        {"temperature, top-p 0.95",
         "<= 25 %",
         {.temperature = 1, .top_p = 0.95f, .repetition = 1, .seed = 7, .top = -1},
         0.25},
    };
    struct engine_model_options options = {.threads = 2, .context_max = 64};
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_files files;
    struct head h = {0};
    char name[128], ours[96], reference[96];
    if (!engine_files_load(&files, path, &why) || !(h.model = engine_model_open(&files, true, &options, &why)) ||
        !(h.kv = engine_kv_open(h.model, 16, blocks, &why))) {
        fprintf(stderr, "bench_serving: %s\n", why.text);
        exit(1);
    }
    h.vocab = (size_t)engine_model_info(h.model)->vocab;
    h.logits = calloc(32 * h.vocab, sizeof *h.logits);
    h.copy = calloc(h.vocab, sizeof *h.copy);
    if (!h.logits || !h.copy || !sample_scratch_init(&h.scratch, h.vocab))
        exit(1);
    double product = step_seconds(&h, 1, ENGINE_LOGITS_LAST) - step_seconds(&h, 1, ENGINE_LOGITS_NONE);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        double pick = pick_seconds(&h, &kinds[i].p);
        snprintf(name, sizeof name, "choosing from %zu: %s", h.vocab, kinds[i].name);
        snprintf(ours, sizeof ours, "%.3f ms", 1e3 * pick);
        snprintf(reference, sizeof reference, "%.3f ms output matrix product", 1e3 * product);
        row(name, ours, reference, pick / product, kinds[i].goal, pick <= kinds[i].most * product);
    }
    sample_scratch_release(&h.scratch);
    free(h.logits);
    free(h.copy);
    engine_kv_close(h.kv);
    engine_model_close(h.model);
}

/* --- admission --------------------------------------------------------------------------------------- */

/* How many requests of `length` tokens are all there at once, before one has to wait or be preempted. */
static int admitted(const struct sched_config *config, uint32_t length)
{
    enum { MOST = 512 };
    static struct sched_seq seq[MOST];
    static struct sched_row rows[MOST];
    int32_t *ids = calloc(length, sizeof *ids);
    struct sched s;
    int most = 0;
    if (!ids || !sched_init(&s, config))
        exit(1);
    memset(seq, 0, sizeof seq);
    for (int i = 0; i < MOST; i++) {
        seq[i] = (struct sched_seq){.tokens = ids, .len = length - 1, .len_max = length, .forget = true};
        seq[i].root.byte[0] = (uint8_t)i, seq[i].root.byte[1] = (uint8_t)(i >> 8);
        if (sched_add(&s, &seq[i]) != SCHED_OK)
            exit(1);
    }
    for (int idle = 0; idle < 2;) {
        size_t n = sched_plan(&s, rows, 0, 0);
        sched_commit(&s, rows, n);
        idle = n == 0 ? idle + 1 : 0;
    }
    for (int i = 0; i < MOST; i++)
        most += seq[i].state == SCHED_RUNNING && seq[i].computed == seq[i].len;
    if (s.counts.preemptions > 0)
        most = 0;
    for (int i = 0; i < MOST; i++)
        sched_remove(&s, &seq[i]);
    sched_release(&s);
    free(ids);
    return most;
}

static void admission(const char *path)
{
    enum { LENGTH = 32768 };
    uint64_t bytes = (uint64_t)4 << 30;
    struct engine_options options = {.context_max = LENGTH, .kv_bytes = bytes, .threads = 2, .seqs_max = 64};
    struct engine *e = open_engine(path, &options);
    const struct engine_model_info *info = engine_info(e);
    struct sched_config c = {.block_tokens = 16,
                             .context_max = LENGTH,
                             .seqs_max = 64,
                             .step_tokens = 2048,
                             .step_logits = 128,
                             .queue_max = 1024};
    const char *at = strstr(engine_load_options(e), "kv-blocks=");
    char ours[96], reference[96];
    if (!at || sscanf(at, "kv-blocks=%u+%u", &c.group[0].blocks, &c.group[1].blocks) != 2)
        exit(1);
    c.group[1].window = (uint32_t)info->window;
    c.watermark = c.group[0].blocks / 100 + 1;
    size_t token = info->kv_bytes_per_token[0] + info->kv_bytes_per_token[1];
    int apart = (int)(bytes / (token * LENGTH)), paged = admitted(&c, LENGTH);
    snprintf(ours, sizeof ours, "%d at once in 4 GiB", paged);
    snprintf(reference, sizeof reference, "%d as contiguous stretches of %zu bytes a token", apart, token);
    row("requests of 32 K tokens", ours, reference, (double)paged / apart, ">= 5 x", paged >= 5 * apart);
    engine_close(e);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(const char *path);
    } cases[] = {{"arrivals", arrivals}, {"prefix", prefix},     {"overload", overload},
                 {"start", start},       {"sampling", sampling}, {"admission", admission}};
    const char *path = NULL;
    bool ran = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--model") == 0 && i + 1 < argc)
            path = argv[++i];
        else if (strcmp(argv[i], "--label") == 0 && i + 1 < argc)
            label = argv[++i];
        else if (strcmp(argv[i], "--long") == 0)
            is_long = true;
        for (size_t k = 0; path && label && k < sizeof cases / sizeof *cases; k++)
            if (strcmp(argv[i], cases[k].name) == 0) {
                cases[k].run(path);
                ran = true;
            }
    }
    engine_close(world.engine);
    if (!ran)
        fprintf(stderr, "usage: bench_serving --model FILE --label TEXT [--long] "
                        "arrivals|prefix|overload|start|sampling|admission...\n");
    return ran ? 0 : 2;
}
