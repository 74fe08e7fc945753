/* bench_streams.c - our engine as one that answers batches, for bench_vllm.py; peer_vllm.py answers the same lines.
 * bench_streams --model FILE|DIR. A line of standard input: TOKENS STREAMS LENGTH and then STREAMS times LENGTH ids,
 * the prompts. All of them are asked for at once, greedily and beyond every end, TOKENS new tokens each; when the last
 * is there, the answer is one line: the new ids, TOKENS of each stream in turn. It stops at the end of its input. */
#include "engine/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    STREAMS_MAX = 32,
    LENGTH_MAX = 2048, /* of a prompt, and of an answer */
};

struct stream {
    uint8_t prompt[4 * LENGTH_MAX];
    uint32_t answer[LENGTH_MAX];
    size_t count;
};

static struct stream streams[STREAMS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;
static size_t running;

static void fail(const char *what)
{
    fprintf(stderr, "bench_streams: %s\n", what);
    exit(1);
}

static void on_event(void *ctx, const struct tunnel_event *ev)
{
    struct stream *s = ctx;
    if (ev->kind == TUNNEL_EVENT_ERROR)
        fail("a request failed");
    for (size_t i = 0; ev->kind == TUNNEL_EVENT_DELTA && i < tunnel_ids_count(ev->ids); i++)
        if (s->count < LENGTH_MAX)
            s->answer[s->count++] = tunnel_ids_at(ev->ids, i);
    if (ev->kind != TUNNEL_EVENT_DONE)
        return;
    pthread_mutex_lock(&lock);
    running--;
    pthread_cond_signal(&change);
    pthread_mutex_unlock(&lock);
}

static void ask(struct engine *e, struct stream *s, size_t length, uint32_t tokens)
{
    static const struct engine_events events = {on_event};
    static struct tunnel_request q;
    tunnel_request_defaults(&q);
    q.task = TUNNEL_COMPLETION;
    q.model = span_str(engine_served(e, 0));
    q.prompt_count = 1;
    q.prompt[0] = (struct tunnel_prompt){true, span_of(s->prompt, 4 * length)};
    q.max_tokens = tokens;
    q.has_max_tokens = q.ignore_eos = q.stream = true;
    q.return_ids = true; /* all of them: text may leave some out */
    q.temperature = 0;
    s->count = 0;
    if (engine_submit(e, &q, &events, s) == 0)
        fail("a request was not taken");
}

/* The next number of the line; the pointer moves behind it. */
static uint32_t number(char **at, uint32_t most)
{
    char *end = *at;
    unsigned long value = strtoul(*at, &end, 10);
    if (end == *at || value > most)
        fail("a line is not a batch");
    *at = end;
    return (uint32_t)value;
}

static void answer(struct engine *e, char *line)
{
    uint32_t tokens = number(&line, LENGTH_MAX), count = number(&line, STREAMS_MAX);
    uint32_t length = number(&line, LENGTH_MAX);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < length; k++) {
            uint32_t id = number(&line, UINT32_MAX);
            for (uint32_t b = 0; b < 4; b++)
                streams[i].prompt[4 * k + b] = (uint8_t)(id >> (24 - 8 * b));
        }
    running = count;
    for (uint32_t i = 0; i < count; i++)
        ask(e, &streams[i], length, tokens);
    pthread_mutex_lock(&lock);
    while (running > 0)
        pthread_cond_wait(&change, &lock);
    pthread_mutex_unlock(&lock);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < tokens; k++)
            printf("%u ", k < streams[i].count ? streams[i].answer[k] : UINT32_MAX);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct engine_files files;
    struct engine_options options = {
        .context_max = 4096, .seqs_max = STREAMS_MAX, .kv_bytes = (uint64_t)1 << 30, .threads = 2};
    struct engine_problem why = {ENGINE_OK, ""};
    if (argc != 3 || strcmp(argv[1], "--model") != 0) {
        fprintf(stderr, "usage: bench_streams --model FILE|DIR\n");
        return 2;
    }
    struct engine *e = engine_files_load(&files, argv[2], &why) ? engine_open(&files, &options, &why) : NULL;
    if (!e)
        fail(why.text);
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0)
        answer(e, line);
    free(line);
    engine_close(e);
    return 0;
}
