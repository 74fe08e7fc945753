/* job.h - inside the engine: one request while it lives, and what its threads share. Only engine/ includes this.
 *
 * A job belongs to one thread at a time: the caller's until engine_submit() returns, then the intake thread's, then
 * the step thread's. Others only set its atomic flags, under the engine's lock, while it is in the list of jobs. */
#ifndef ENGINE_JOB_H
#define ENGINE_JOB_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/defaults.h"
#include "engine/engine.h"
#include "engine/grammar.h"
#include "engine/pace.h"
#include "engine/sample.h"
#include "engine/sched.h"
#include "engine/stop.h"
#include "engine/template.h"
#include "engine/tokenizer.h"
#include "engine/toolcall.h"

enum { JOB_PIECE_SHOWN_MAX = 256 }; /* bytes of one token that an event shows (tunnel/message.h) */

struct job;

struct choice {
    struct sched_seq seq;
    struct job *job;
    uint32_t index;      /* prompt * n + i */
    int32_t *tokens;     /* owned: prompt, then output; room for seq.len_max + 1 */
    uint32_t prompt_len; /* ids */
    uint32_t output_max, generated;
    uint32_t released;    /* output tokens whose text was sent */
    uint32_t prompt_told; /* prompt tokens whose log-probabilities were sent */
    bool begun, finished;
    uint64_t begun_us, first_us, last_us;
    struct stop stop;
    engine_grammar_state at;       /* with a grammar: where the answer stands in it */
    struct engine_toolcall *split; /* owned: what the text is: thought, answer, calls */
    struct tunnel_event *carrier;  /* while parts are sent: ids and log-probabilities for the first of them */
    struct sample_history history;
    double
        *pooled; /* owned; embeddings: the sum over `pooled_count` positions, or the last one's state; pool_begin() */
    size_t pooled_floats; /* 0: text */
    uint32_t pooled_count;
    struct sample_result *record; /* owned ring like stop's: of output tokens not yet released */
    size_t record_count, record_cap;
};

struct prompt {
    int32_t *ids; /* owned */
    uint32_t count;
};

struct job {
    uint64_t id;
    struct engine_events events;
    void *ctx;
    uint64_t arrived_us, deadline_us; /* 0: none */
    struct writer bytes;              /* the packed request that `request` borrows from */
    struct tunnel_request *request;   /* owned; NULL: refused at the door */
    size_t prompt_count, choice_count, unfinished;
    size_t entered;        /* choices that the scheduler has or had: the first ones */
    struct prompt *prompt; /* owned */
    struct choice *choice; /* owned */
    uint64_t seed;
    uint32_t prompt_tokens, completion_tokens, cached_tokens;
    struct engine_toolcall_style style; /* of its answers */
    bool thinking;                      /* the prompt ends inside <think> */
    json_t *tools;                      /* owned; NULL: none. Read by the step thread alone once that has the job */
    struct engine_grammar *grammar;     /* owned; NULL: answers are free. The step thread's once that has the job */
    size_t grammar_bytes;               /* that count among the engine's, under its lock */
    uint32_t *allowed;                  /* owned: a bit for each id that may be chosen; NULL: all */
    struct engine_tokens bad_ids;       /* the forbidden words' ids, one word after the other */
    struct bad_word {
        uint32_t from, count;
    } bad[2 * TUNNEL_BAD_WORDS_MAX];
    size_t bad_count;
    int prompt_top; /* alternatives wanted with prompt log-probabilities; -1 none */
    bool started;   /* START was sent */
    bool stepping;  /* the step thread has it; read by that thread alone */
    atomic_bool cancelled, hold;
    struct job *next;                  /* in the intake or ready queue */
    struct job *all_before, *all_next; /* in the list of jobs */
};

struct queue {
    struct job *first, *last;
    size_t count;
};

struct engine {
    struct engine_model *model;
    struct engine_kv *kv;
    struct engine_tokenizer *tokenizer;
    struct engine_template *template;   /* NULL: the model has none */
    struct engine_toolcall_style style; /* how the model marks thoughts and calls: its template shows it */
    struct engine_model_info info;
    struct engine_options options; /* defaults filled in; pointers inside are not valid */
    char served[ENGINE_SERVED_NAMES_MAX][TUNNEL_NAME_MAX + 1];
    size_t served_count;
    char load_options[1025];
    struct engine_defaults defaults;            /* of requests that leave their sampling to the model */
    struct engine_grammar_vocab *grammar_vocab; /* the intake thread makes it for the first grammar */
    int32_t *ends;                              /* owned: ids that end a generation */
    size_t end_count;

    /* the step thread's alone */
    struct sched sched;
    struct sched_row *rows;
    struct engine_step_seq *seqs;
    float *logits; /* NULL where vectors are served */
    float *states; /* NULL where text is served */
    struct sample_scratch scratch;
    struct picked *picked;      /* NULL: logits come to the host */
    uint32_t *allowed;          /* owned scratch: a bit for each id */
    struct tunnel_event *event; /* scratch */
    struct pace pace;           /* of its steps */

    pthread_t intake_thread, step_thread;
    bool intake_runs, step_runs;
    pthread_mutex_t lock; /* all below */
    pthread_cond_t intake_wake, step_wake;
    struct queue intake, ready;
    struct job *all; /* every job that has not ended */
    size_t all_count;
    size_t waiting_seqs;  /* in the scheduler, and in part those that are to enter, after the last step */
    size_t grammar_bytes; /* of all jobs' grammars */
    uint64_t next_id;
    bool stopping, draining, broken, forget;
    struct tunnel_stats stats;
};

uint64_t engine_now_us(void); /* monotonic */

/* --- job.c --- */
/* Copies `request`; without one the job exists only to be refused. NULL when memory is short. */
struct job *job_new(const struct tunnel_request *request);
void job_free(struct job *j); /* wipes; its sequences must be out of the scheduler */
/* One choice for each prompt and each n, from `prompt`. False when memory is short. */
bool job_make_choices(struct engine *e, struct job *j);
/* Send an event of the job. */
void job_send(struct job *j, const struct tunnel_event *ev);
/* The job's last event; then the job is out of every list and freed. ERROR: `text` is a sentence for the client. */
void job_done(struct engine *e, struct job *j);
void job_fail(struct engine *e, struct job *j, uint32_t status, const char *code, const char *param, const char *format,
              ...) __attribute__((format(printf, 6, 7)));
void queue_push(struct queue *q, struct job *j);
struct job *queue_pop(struct queue *q);

/* Rules for one token; `params` borrows from the rest. */
struct choice_wish {
    struct sample_params params;
    struct sample_bias bias[TUNNEL_BIAS_MAX];
    int32_t banned[TUNNEL_STOP_IDS_MAX + 64 + 2 * TUNNEL_BAD_WORDS_MAX];
};

/* --- choice.c: what a choice says (step thread) --- */
bool choice_open_split(struct choice *c); /* false when memory is short */
/* START if it was not sent, then the echo of the prompt if that is asked for. */
void choice_begin(struct engine *e, struct choice *c);
/* Log-probabilities of the prompt from logits of positions pos .. pos+count-1, or as already `known` for each. */
void choice_prompt_logits(struct engine *e, struct choice *c, uint32_t pos, uint32_t count, const float *logits,
                          const struct sample_result *known);
/* How the next token is to be chosen; `mask` is room for a bit for each id. */
void choice_wish(const struct engine *e, const struct choice *c, struct choice_wish *w, uint32_t *mask);
/* The next token was chosen: take it in, send what it makes certain. */
void choice_take(struct engine *e, struct choice *c, const struct sample_result *r);
/* Sample the next token from `logits` (used up), send what it makes certain. */
void choice_sample(struct engine *e, struct choice *c, float *logits);
/* Nothing more comes: the rest of the text, then FINISH. */
void choice_finish(struct engine *e, struct choice *c, enum tunnel_finish why);

/* It says no more: out of the scheduler, finished. */
void choice_end(struct engine *e, struct choice *c);

/* --- pool.c: embeddings (step thread) --- */
/* Room for the sum, until pool_finish(). False when memory is short. */
bool pool_begin(struct choice *c);
/* ENGINE_POOLING_MODEL becomes what the model's files say: <arch>.pooling_type of GGUF, 1_Pooling/config.json of a
 * folder. False and `*why` for what is not served: other poolings, and modules behind them (modules.json). */
bool pool_of_files(enum engine_pooling *pooling, const struct engine_files *files, const struct engine_model_info *info,
                   struct engine_problem *why);
/* Take in the states of positions pos .. pos+count-1. */
void pool_add(const struct engine *e, struct choice *c, uint32_t pos, uint32_t count, const float *states);
/* All positions are in: send the vector. */
void pool_finish(struct engine *e, struct choice *c);

/* --- guess.c: tokens guessed from the text itself (step thread) --- */
/* Put guesses behind the choice's tokens, if there are any. */
void guess_tokens(const struct engine *e, struct choice *c);
/* Sample from the logits of a row with guesses, as long as these turn out right. */
void guess_check(struct engine *e, struct choice *c, const struct sched_row *row, float *logits);

/* --- picked.c: models on a device choose tokens there (step thread) --- */
bool picked_open(struct engine *e, size_t logit_rows); /* false when memory is short */
void picked_close(struct engine *e);                   /* wipes */
enum engine_err picked_step(struct engine *e, size_t rows);
void picked_hand_out(struct engine *e, size_t rows);

/* --- intake.c --- */
void *engine_intake_main(void *engine);
/* --- step.c --- */
void *engine_step_main(void *engine);

#endif
