/* Drills of the engine on a small trained model: twice the load that it can serve, and a tenant with a clock. Both are
 * judged by order and by ratios of what is measured side by side, so that a busy machine changes nothing. AIRLOCK_LONG
 * (--long) makes the load last 10 minutes. Needs $AIRLOCK_SHARED/models (default ../shared); else skipped. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"
#include "run.h"

enum { CLIENTS = 64, PROMPT_MAX = 128, DONE_RING = 256 };

struct client {
    bool busy, refused;
    uint64_t serial; /* order of submission */
    double asked, first;
    uint8_t ids[4 * PROMPT_MAX];
};

static struct {
    struct engine *engine;
    struct engine_files files;
    pthread_mutex_t lock;
    pthread_cond_t change;
    struct client client[CLIENTS];
    uint64_t serial, done[DONE_RING], done_count; /* serials of answers in the order in which they ended */
    uint64_t overtaken_most;                      /* by requests that came later and ended before the first token */
    uint64_t tokens, refused, failed;
    uint32_t rng;
} drill = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER, .rng = 1};

static bool is_long(void)
{
    const char *word = getenv("AIRLOCK_LONG");
    return word && strcmp(word, "0") != 0 && word[0] != 0;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t draw(uint32_t below)
{
    drill.rng = drill.rng * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)drill.rng * below) >> 32);
}

static char model[600];

static bool have_model(void)
{
    const char *root = getenv("AIRLOCK_SHARED");
    snprintf(model, sizeof model, "%.400s/models/aidreams260K/aidreams260K.gguf", root ? root : "../shared");
    return access(model, R_OK) == 0;
}

static void open_engine(struct engine_options o)
{
    struct engine_problem why = {0};
    o.threads = 1;
    o.kv_bytes = 64 << 20;
    o.served[o.served_count++] = "dreams";
    ck_assert_msg(engine_files_load(&drill.files, model, &why), "%s", why.text);
    drill.engine = engine_open(&drill.files, &o, &why);
    ck_assert_msg(drill.engine != NULL, "%s", why.text);
}

static void close_engine(void)
{
    engine_close(drill.engine);
    engine_files_release(&drill.files);
}

/* --- clients ----------------------------------------------------------------------------------------- */

static void count_overtakers(const struct client *c)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < drill.done_count && i < DONE_RING; i++)
        n += drill.done[i] > c->serial;
    if (n > drill.overtaken_most)
        drill.overtaken_most = n;
}

static void on_event(void *ctx, const struct tunnel_event *ev)
{
    struct client *c = ctx;
    double at = now();
    pthread_mutex_lock(&drill.lock);
    if (ev->kind == TUNNEL_EVENT_DELTA && c->first == 0) {
        c->first = at;
        count_overtakers(c);
    }
    if (ev->kind == TUNNEL_EVENT_DELTA)
        drill.tokens += tunnel_ids_count(ev->ids);
    if (ev->kind == TUNNEL_EVENT_DONE)
        drill.done[drill.done_count++ % DONE_RING] = c->serial;
    if (ev->kind == TUNNEL_EVENT_ERROR) {
        c->refused = ev->status == 429;
        drill.refused += c->refused;
        drill.failed += !c->refused;
    }
    if (ev->kind == TUNNEL_EVENT_DONE || ev->kind == TUNNEL_EVENT_ERROR)
        c->busy = false;
    pthread_cond_signal(&drill.change);
    pthread_mutex_unlock(&drill.lock);
}

static void random_prompt(struct client *c, uint32_t count)
{
    memset(c->ids, 0, sizeof c->ids);
    for (uint32_t i = 0; i < count; i++)
        c->ids[4 * i + 3] = (uint8_t)(3 + draw(250));
}

static void ask(struct client *c, uint32_t prompt, uint32_t output, const char *salt)
{
    static const struct engine_events events = {on_event};
    static struct tunnel_request q;
    tunnel_request_defaults(&q);
    q.task = TUNNEL_COMPLETION;
    q.model = span_str("dreams");
    q.prompt_count = 1;
    q.prompt[0] = (struct tunnel_prompt){true, span_of(c->ids, 4 * (size_t)prompt)};
    q.has_max_tokens = q.ignore_eos = true;
    q.max_tokens = output;
    q.temperature = 0;
    q.salt = span_str(salt);
    pthread_mutex_lock(&drill.lock);
    c->busy = true;
    c->refused = false;
    c->first = 0;
    c->serial = ++drill.serial;
    pthread_mutex_unlock(&drill.lock);
    c->asked = now();
    ck_assert_uint_ne(engine_submit(drill.engine, &q, &events, c), 0);
}

/* Until nobody of the first `count` waits for an answer. */
static void wait_for(int count)
{
    pthread_mutex_lock(&drill.lock);
    for (int i = 0; i < count; i++)
        while (drill.client[i].busy)
            pthread_cond_wait(&drill.change, &drill.lock);
    pthread_mutex_unlock(&drill.lock);
}

static double median(double *v, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && v[k] < v[k - 1]; k--) {
            double x = v[k];
            v[k] = v[k - 1];
            v[k - 1] = x;
        }
    return v[n / 2];
}

/* --- twice the load ------------------------------------------------------------------------------------ */

enum {
    SEQS = 16,
    QUEUE = 24,
    BUSY = 32 /* clients: somebody always waits, nobody is refused */,
    LOAD_PROMPT = 32,
    LOAD_OUTPUT = 32
};

/* Who of the first `count` is free asks anew, at most `per_second` requests; tokens a second of `seconds`. */
static double load(int count, double per_second, double seconds)
{
    double begin = now(), asked = 0;
    uint64_t before = drill.tokens;
    while (now() - begin < seconds) {
        for (int i = 0; i < count && asked < (now() - begin) * per_second; i++) {
            pthread_mutex_lock(&drill.lock);
            bool is_free = !drill.client[i].busy;
            pthread_mutex_unlock(&drill.lock);
            if (!is_free)
                continue;
            random_prompt(&drill.client[i], LOAD_PROMPT);
            ask(&drill.client[i], LOAD_PROMPT, LOAD_OUTPUT, "tenant");
            asked++;
        }
        usleep(1000);
    }
    return (double)(drill.tokens - before) / (now() - begin);
}

/* Pairs of one second of as many clients as it can serve, then one of twice the requests that those had answered. */
START_TEST(twice_the_load)
{
    enum { PAIRS_MAX = 400 };
    static double ratio[PAIRS_MAX], sorted[PAIRS_MAX];
    int least = is_long() ? 300 : 8, most = is_long() ? 320 : 20, n = 0;
    double half = 0;
    open_engine((struct engine_options){.seqs_max = SEQS, .queue_max = QUEUE});
    load(BUSY, 1e9, 1); /* warm */
    while (n < least || (n < most && half < 0.95)) {
        double peak = load(BUSY, 1e9, 1);
        uint64_t refused = drill.refused;
        double rate = load(CLIENTS, 2 * peak / LOAD_OUTPUT, 1);
        ck_assert_msg(drill.refused > refused || n < 2, "pair %d was no overload", n);
        ratio[n] = rate / peak;
        memcpy(sorted, ratio, sizeof sorted);
        half = median(sorted, ++n);
    }
    wait_for(CLIENTS);
    printf("overload: %d pairs, %.2f of the peak, %llu answered, %llu refused, overtaken by %llu at most\n", n, half,
           (unsigned long long)drill.done_count, (unsigned long long)drill.refused,
           (unsigned long long)drill.overtaken_most);
    ck_assert_msg(half >= 0.95, "%.2f of the peak under overload, the median of %d pairs", half, n);
    ck_assert_uint_eq(drill.failed, 0);
    ck_assert_uint_le(drill.overtaken_most, SEQS); /* only by those that ran already, or beside it */
    close_engine();
}
END_TEST

/* --- a clock beside somebody else's cache ---------------------------------------------------------------- */

enum { TRIALS = 2000, SECRET = 112 };

/* How well the times tell the one kind from the other: 0.5 not at all, 1 always (the area under the ROC curve). */
static double area(const double *a, int count_a, const double *b, int count_b)
{
    double wins = 0;
    for (int i = 0; i < count_a; i++)
        for (int k = 0; k < count_b; k++)
            wins += a[i] < b[k] ? 1 : a[i] == b[k] ? 0.5 : 0;
    return wins / ((double)count_a * count_b);
}

/* Times of the spy's first token: [is it in the victim's tenant][did it ask the same]. */
static double times[2][2][TRIALS];
static int times_count[2][2];

/* The victim asks something; then the spy asks the same, or something else, and takes the time to its first token. */
static void spy(bool same_tenant)
{
    struct client *victim = &drill.client[0], *watcher = &drill.client[1];
    bool same = draw(2) == 0;
    random_prompt(victim, SECRET);
    ask(victim, SECRET, 1, "victim");
    wait_for(1);
    random_prompt(watcher, SECRET);
    if (same)
        memcpy(watcher->ids, victim->ids, sizeof watcher->ids);
    ask(watcher, SECRET, 1, same_tenant ? "victim" : "spy");
    wait_for(2);
    ck_assert_uint_eq(drill.failed + drill.refused, 0);
    times[same_tenant][same][times_count[same_tenant][same]++] = watcher->first - watcher->asked;
}

/* Where nothing can be told, the area of 1,000 trials of each kind has a deviation of 0.013: 0.05 is 3.9 of them. Spies
 * inside the tenant are mixed in: as long as they see nothing, the machine was too busy for the others to count. */
START_TEST(nobody_tells_by_time_what_others_cached)
{
    double salted = 0, unsalted = 0;
    open_engine((struct engine_options){0});
    for (int round = 0; round < 6 && unsalted < 0.9; round++) {
        memset(times_count, 0, sizeof times_count);
        for (int i = 0; i < TRIALS; i++) {
            spy(false);
            if (i % 8 == 0)
                spy(true);
        }
        salted = area(times[0][1], times_count[0][1], times[0][0], times_count[0][0]);
        unsalted = area(times[1][1], times_count[1][1], times[1][0], times_count[1][0]);
        printf("side channel: area %.3f between tenants (%d trials), %.3f within one\n", salted, TRIALS, unsalted);
    }
    ck_assert_msg(salted <= 0.55 && salted >= 0.45, "between tenants: %.3f", salted);
    ck_assert_msg(unsalted >= 0.9, "within one tenant: %.3f; the drill could not have seen a difference", unsalted);
    close_engine();
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_set_timeout(t, is_long() ? 1200 : 180);
    if (!have_model()) {
        printf("SKIP: no %s\n", model);
        return;
    }
    tcase_add_test(t, twice_the_load);
    tcase_add_test(t, nobody_tells_by_time_what_others_cached);
}

RUN("engine_drill", add_tests)
