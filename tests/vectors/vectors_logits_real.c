/* Do the real models of $AIRLOCK_SHARED/vectors/logits/real (see its README) give its logits, log-probabilities and
 * greedy continuations? The files are looked for in $AIRLOCK_MODELS (default ~/.cache/airlock/models) and skipped by
 * name when absent. Twice each: f32, and the fast path, each to its stated bars. */
#include "engine/model.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCKS 80
#define STEP 256
#define GREEDY 48
#define IDS_MAX 1200

static int passed, failed, skipped;
static char models[512];

struct bars {
    double rel_l2, rel_l2_mean, kl, kl_mean;
    double logprob, logprob_mean, nll, margin;
};
static const struct bars exact_bars = {2e-5, 2e-5, 1e-8, 1e-8, 2e-3, 5e-5, 1e-4, 0.002};
static const struct bars fast_bars = {8e-2, 4e-2, 2e-2, 8e-3, INFINITY, 0.15, 0.05, 1.0};

struct run {
    struct engine_model *model;
    struct engine_kv *kv;
    const char *name;
    struct bars bars;
    int vocab;
    int32_t table[BLOCKS];
    float *logits; /* [STEP][vocab] */
    double rel_sum, kl_sum;
    int prompts;
};

static void verdict(const struct run *r, const char *prompt, const char *what, bool ok, double value)
{
    if (ok)
        passed++;
    else
        failed++;
    if (!ok || getenv("AIRLOCK_VERBOSE"))
        printf("logits_real %s %s %s: %s (%.3g)\n", r->name, prompt, what, ok ? "ok" : "FAILED", value);
}

static double number(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

static double log_sum(const float *logits, int n)
{
    double max = (double)logits[0], sum = 0;
    for (int i = 1; i < n; i++)
        max = fmax(max, (double)logits[i]);
    for (int i = 0; i < n; i++)
        sum += exp((double)logits[i] - max);
    return max + log(sum);
}

static bool step(struct run *r, const int32_t *ids, int pos, int count, enum engine_logits which)
{
    struct engine_step_seq seq = {ids, count, pos, {r->table, r->table}, which};
    return engine_model_step(r->model, r->kv, &seq, 1, r->logits) == ENGINE_OK;
}

/* The last row of logits against `top` and `fixed`. */
static void check_last(struct run *r, const char *name, const json_t *last, const json_t *fixed_ids,
                       const float *logits)
{
    const json_t *top = json_object_get(last, "top"), *fixed = json_object_get(last, "fixed");
    double difference = 0, norm = 0, kl = 0, rest_p = 1, rest_q = 1;
    double ours = log_sum(logits, r->vocab), theirs = json_number_value(json_object_get(last, "logsumexp"));

    for (size_t i = 0; i < json_array_size(top) + json_array_size(fixed); i++) {
        bool is_top = i < json_array_size(top);
        size_t j = is_top ? i : i - json_array_size(top);
        const json_t *pair = json_array_get(top, j);
        int id = (int)(is_top ? number(pair, 0) : number(fixed_ids, j));
        double b = is_top ? number(pair, 1) : number(fixed, j), a = (double)logits[id];
        difference += (a - b) * (a - b);
        norm += b * b;
        if (is_top) {
            double p = exp(b - theirs), q = exp(a - ours);
            kl += p * log(p / q);
            rest_p -= p;
            rest_q -= q;
        }
    }
    if (rest_p > 0 && rest_q > 0)
        kl += rest_p * log(rest_p / rest_q);
    double rel = sqrt(difference / norm);
    verdict(r, name, "last rel_l2", rel <= r->bars.rel_l2, rel);
    verdict(r, name, "last kl", kl <= r->bars.kl, kl);
    r->rel_sum += rel;
    r->kl_sum += kl;
    r->prompts++;
}

/* Feed the prompt in steps, comparing the log-probability of each next id. Leaves the last row in `last`. */
static bool feed(struct run *r, const char *name, const json_t *prompt, const int32_t *ids, int n, float *last)
{
    const json_t *want = json_object_get(prompt, "prompt_logprobs");
    double worst = 0, sum = 0, nll = 0;
    for (int pos = 0; pos < n; pos += STEP) {
        int count = n - pos < STEP ? n - pos : STEP;
        if (!step(r, ids + pos, pos, count, ENGINE_LOGITS_ALL))
            return false;
        for (int t = 0; t < count && pos + t + 1 < n; t++) {
            const float *row = r->logits + (size_t)t * (size_t)r->vocab;
            double got = (double)row[ids[pos + t + 1]] - log_sum(row, r->vocab);
            double off = fabs(got - number(want, (size_t)(pos + t + 1)));
            worst = fmax(worst, off);
            sum += off;
            nll -= got;
        }
        memcpy(last, r->logits + (size_t)(count - 1) * (size_t)r->vocab, (size_t)r->vocab * sizeof *last);
    }
    double off_nll = fabs(nll / (n - 1) - json_number_value(json_object_get(prompt, "mean_nll")));
    verdict(r, name, "prompt_logprobs worst", worst <= r->bars.logprob, worst);
    verdict(r, name, "prompt_logprobs mean", sum / (n - 1) <= r->bars.logprob_mean, sum / (n - 1));
    verdict(r, name, "mean_nll", off_nll <= r->bars.nll, off_nll);
    return true;
}

/* Their ids are fed; ours must be the same wherever their margin is at least the bar. */
static void check_greedy(struct run *r, const char *name, const json_t *greedy, int pos, const float *last)
{
    const json_t *ids = json_object_get(greedy, "ids"), *margins = json_object_get(greedy, "margin");
    const float *logits = last;
    double widest = 0;
    for (size_t i = 0; i < GREEDY && i < json_array_size(ids); i++) {
        int32_t id = (int32_t)number(ids, i);
        int best = 0;
        for (int v = 1; v < r->vocab; v++)
            best = logits[v] > logits[best] ? v : best;
        if (best != id)
            widest = fmax(widest, number(margins, i));
        if (!step(r, &id, pos + (int)i, 1, ENGINE_LOGITS_LAST)) {
            verdict(r, name, "greedy step", false, (double)i);
            return;
        }
        logits = r->logits;
    }
    verdict(r, name, "greedy widest margin lost", widest < r->bars.margin, widest);
}

static void run_prompt(struct run *r, const json_t *prompt, const json_t *fixed_ids, float *last)
{
    const char *name = json_string_value(json_object_get(prompt, "name"));
    const json_t *list = json_object_get(prompt, "ids");
    int n = (int)json_array_size(list);
    static int32_t ids[IDS_MAX];
    if (!name || n < 2 || n + GREEDY > IDS_MAX) {
        verdict(r, name ? name : "?", "prompt readable", false, n);
        return;
    }
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)number(list, (size_t)i);
    if (!feed(r, name, prompt, ids, n, last)) {
        verdict(r, name, "step", false, n);
        return;
    }
    check_last(r, name, json_object_get(prompt, "last"), fixed_ids, last);
    check_greedy(r, name, json_object_get(prompt, "greedy"), n, last);
}

static void run_model(const char *path, const char *name, const json_t *head, bool exact)
{
    static const int blocks[ENGINE_KV_GROUPS] = {BLOCKS, BLOCKS};
    struct engine_problem why = {ENGINE_OK, ""};
    struct engine_model_options options = {.context_max = BLOCKS * 16, .exact = exact};
    struct engine_files files;
    struct run r = {.name = name, .bars = exact ? exact_bars : fast_bars};
    char label[300];

    snprintf(label, sizeof label, "%s %s", name, exact ? "f32" : "fast");
    r.name = label;
    if (engine_files_load(&files, path, &why))
        r.model = engine_model_open(&files, true, &options, &why);
    if (r.model)
        r.kv = engine_kv_open(r.model, 16, blocks, &why);
    r.vocab = r.model ? engine_model_info(r.model)->vocab : 1;
    r.logits = malloc((size_t)STEP * (size_t)r.vocab * sizeof *r.logits);
    float *last = malloc((size_t)r.vocab * sizeof *last);
    for (int i = 0; i < BLOCKS; i++)
        r.table[i] = BLOCKS - 1 - i;
    if (!r.kv || !r.logits || !last || r.vocab != (int)json_integer_value(json_object_get(head, "vocab"))) {
        printf("logits_real %s: FAILED %s\n", label, why.text);
        failed++;
    } else {
        size_t i;
        const json_t *prompt;
        json_array_foreach(json_object_get(head, "prompts"), i, prompt)
            run_prompt(&r, prompt, json_object_get(head, "fixed_ids"), last);
        verdict(&r, "all", "mean rel_l2", r.rel_sum / r.prompts <= r.bars.rel_l2_mean, r.rel_sum / r.prompts);
        verdict(&r, "all", "mean kl", r.kl_sum / r.prompts <= r.bars.kl_mean, r.kl_sum / r.prompts);
    }
    free(last);
    free(r.logits);
    engine_kv_close(r.kv);
    engine_model_close(r.model);
    engine_files_release(&files);
}

static void run_file(const char *json_path)
{
    json_t *head = json_load_file(json_path, 0, NULL);
    const char *name = json_string_value(json_object_get(head, "file"));
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", models, name ? name : "?");
    if (!name || !json_is_array(json_object_get(head, "prompts"))) {
        printf("logits_real: %s cannot be read\n", json_path);
        failed++;
    } else if (access(path, R_OK) != 0) {
        printf("logits_real: SKIP %s is not in %s\n", name, models);
        skipped++;
    } else {
        run_model(path, name, head, true);
        run_model(path, name, head, false);
    }
    json_decref(head);
}

int main(void)
{
    const char *from = getenv("AIRLOCK_SHARED"), *kept = getenv("AIRLOCK_MODELS"), *home = getenv("HOME");
    char folder[600], path[1024];
    snprintf(folder, sizeof folder, "%s/vectors/logits/real", from ? from : "../shared");
    if (kept)
        snprintf(models, sizeof models, "%s", kept);
    else
        snprintf(models, sizeof models, "%s/.cache/airlock/models", home ? home : "");
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strstr(e->d_name, ".json")) {
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            run_file(path);
        }
    if (d)
        closedir(d);
    printf("logits_real: %d passed, %d failed, %d skipped\n", passed, failed, skipped + !d);
    return failed ? 1 : passed ? 0 : 77;
}
