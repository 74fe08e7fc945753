/* guess.c - n-gram speculation: where the text's last tokens stood before, what followed then may follow again.
 *
 * Guesses are computed in one row with the last known token, and each position is then sampled exactly as it would be
 * without them: same logits (model.h promises equal bits), same counter-based draw, same grammar, penalties and stops.
 * A guess that equals the token drawn saves a step, any other is forgotten. For a proposal that is certain of itself
 * this is rejection sampling (Leviathan et al. 2023): a guess x passes with probability p(x), and what is drawn
 * instead has the distribution of p without x. So not only the distribution but the very tokens stay the same. */
#include "engine/job.h"

/* How many tokens before `at` equal those before `len`; at most `most`. */
static uint32_t match_length(const int32_t *tokens, uint32_t at, uint32_t len, uint32_t most)
{
    uint32_t n = 0;
    while (n < most && n < at && tokens[at - 1 - n] == tokens[len - 1 - n])
        n++;
    return n;
}

void guess_tokens(const struct engine *e, struct choice *c)
{
    const struct engine_ngram *g = &e->options.ngram;
    uint32_t len = c->seq.len, best = 0, best_at = 0, room = c->output_max - c->generated;
    c->seq.drafts = 0;
    if (g->tokens == 0 || c->finished || len - c->seq.computed != 1 || room < 2)
        return;
    for (uint32_t at = len - 1; at > 0 && best < g->longest; at--) { /* the latest of the longest matches */
        uint32_t n = c->tokens[at - 1] == c->tokens[len - 1] ? match_length(c->tokens, at, len, g->longest) : 0;
        if (n > best) {
            best = n;
            best_at = at;
        }
    }
    if (best < g->least)
        return;
    uint32_t count = g->tokens < room - 1 ? g->tokens : room - 1;
    for (uint32_t i = 0; i < count; i++) /* a match that reaches the end goes on with its own guesses */
        c->tokens[len + i] = c->tokens[best_at + i];
    c->seq.drafts = count;
}

void guess_check(struct engine *e, struct choice *c, const struct sched_row *row, float *logits)
{
    int32_t guess[ENGINE_GUESSES_MAX];
    uint32_t right = 0, at = 0;
    memcpy(guess, c->tokens + row->pos + 1, row->drafts * sizeof *guess); /* sampled tokens go where they stand */
    while (at <= right) {
        choice_sample(e, c, logits + (size_t)at * (size_t)e->info.vocab);
        while (right < row->drafts && row->pos + 1 + right < c->seq.len &&
               c->tokens[row->pos + 1 + right] == guess[right])
            right++;
        if (c->finished)
            break;
        at = c->seq.len - 1 - row->pos; /* a grammar may have added more than one */
    }
    if (!c->finished)
        sched_accept(&e->sched, &c->seq, right);
    pthread_mutex_lock(&e->lock);
    e->stats.spec_drafts++;
    e->stats.spec_draft_tokens += row->drafts;
    e->stats.spec_accepted += right;
    pthread_mutex_unlock(&e->lock);
}
