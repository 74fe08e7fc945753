/* picked.c - the step of a model on a device: what each row's logits are for is said before, so that only the chosen
 * ids and the log-probabilities asked for come back. A choice's rules depend on what it said so far and not on the
 * step, so they are known before it. */
#include <stdlib.h>

#include "engine/job.h"
#include "verifier/base/secret.h"

struct picked {
    size_t rows, logit_rows, words; /* most; of a mask */
    struct choice_wish *wish;       /* owned: [rows] */
    uint32_t *mask;                 /* owned: [rows][words] */
    struct engine_pick *pick;       /* owned: [logit_rows] */
    struct sample_result *result;   /* owned: [logit_rows] */
};

bool picked_open(struct engine *e, size_t logit_rows)
{
    struct picked *p = e->picked = calloc(1, sizeof *p);
    if (!p)
        return false;
    p->rows = e->options.seqs_max;
    p->logit_rows = logit_rows;
    p->words = ((size_t)e->info.vocab + 31) / 32;
    p->wish = calloc(p->rows, sizeof *p->wish);
    p->mask = calloc(p->rows * p->words, sizeof *p->mask);
    p->pick = calloc(logit_rows, sizeof *p->pick);
    p->result = calloc(logit_rows, sizeof *p->result);
    return p->wish && p->mask && p->pick && p->result;
}

static void wipe(void *memory, size_t bytes)
{
    if (memory)
        secret_wipe(memory, bytes);
    free(memory);
}

void picked_close(struct engine *e)
{
    struct picked *p = e->picked;
    if (!p)
        return;
    wipe(p->wish, p->rows * sizeof *p->wish);
    wipe(p->mask, p->rows * p->words * sizeof *p->mask);
    wipe(p->pick, p->logit_rows * sizeof *p->pick);
    wipe(p->result, p->logit_rows * sizeof *p->result);
    free(p);
    e->picked = NULL;
}

/* Is the row's last position where the choice goes on? */
static bool goes_on(const struct sched_row *r, const struct choice *c)
{
    return r->pos + r->count == r->seq->len && c->output_max > 0;
}

static uint32_t logit_rows(const struct sched_row *r)
{
    return r->logits == SCHED_LOGITS_ALL ? r->count : r->logits == SCHED_LOGITS_LAST ? 1 : 0;
}

/* Position `at` of the sequence: the log-probability of what follows there. */
static struct engine_pick known_token(const struct choice *c, uint32_t at)
{
    bool follows = at + 1 < c->seq.len;
    return (struct engine_pick){.id = follows ? c->tokens[at + 1] : 0, .top = follows ? c->job->prompt_top : 0};
}

enum engine_err picked_step(struct engine *e, size_t rows)
{
    struct picked *p = e->picked;
    size_t n = 0;
    for (size_t i = 0; i < rows; i++) {
        const struct sched_row *r = &e->rows[i];
        struct choice *c = (struct choice *)r->seq; /* its first member */
        uint32_t count = logit_rows(r);
        for (uint32_t k = 0; k < count && n < p->logit_rows; k++, n++) {
            if (k + 1 == count && goes_on(r, c)) {
                choice_wish(e, c, &p->wish[i], p->mask + i * p->words);
                p->pick[n] = (struct engine_pick){.params = &p->wish[i].params, .history = &c->history};
            } else {
                p->pick[n] = known_token(c, r->pos + r->count - count + k);
            }
            p->pick[n].out = &p->result[n];
        }
    }
    return engine_model_step_pick(e->model, e->kv, e->seqs, (int)rows, p->pick);
}

void picked_hand_out(struct engine *e, size_t rows)
{
    const struct sample_result *known = e->picked->result;
    for (size_t i = 0; i < rows; i++) {
        const struct sched_row *r = &e->rows[i];
        struct choice *c = (struct choice *)r->seq;
        uint32_t count = logit_rows(r);
        bool whole = r->pos + r->count == r->seq->len, chosen = goes_on(r, c);
        choice_begin(e, c);
        if (r->logits == SCHED_LOGITS_ALL)
            choice_prompt_logits(e, c, r->pos, r->count, NULL, known);
        known += count;
        if (chosen)
            choice_take(e, c, known - 1);
        else if (whole)
            choice_finish(e, c, TUNNEL_FINISH_LENGTH);
    }
}
