/* grammar.c - an answer's way through the automaton. A state is a set of places: a node and the nodes to return to (a
 * stack, shared as a tree). States are found once, numbered and kept with their steps by byte class, so that the
 * automaton turns into a plain table where answers really go. A mask walks the vocabulary in byte order: pieces with a
 * common beginning share its steps. */
#include "engine/grammar.h"

#include <stdlib.h>

#include "engine/grammar_internal.h"
#include "engine/tokenizer.h"
#include "verifier/base/utf8.h"

#define STATES_MAX (1u << 17)
#define STEPS_MAX (4u << 20)  /* entries of the table */
#define PLACES_MAX 512u       /* of one state */
#define POOL_MAX (1u << 20)   /* places of all states */
#define STACKS_MAX (1u << 18) /* nodes of the stack tree */
#define STACK_DEPTH_MAX 512u
#define MASKS_KEPT 64u
#define WORK_MAX (64u << 20) /* places and edges looked at in all, for all of a request's answers */

enum { UNKNOWN = -2, DEAD = -1 };

struct engine_grammar_vocab {
    const struct engine_tokenizer *tokenizer;
    int32_t *ids;        /* owned: tokens that are text, in the order of their bytes */
    struct tail {        /* owned: what each adds to the one before */
        uint32_t at;     /* its own bytes, in `bytes` */
        uint16_t common; /* bytes shared with the token before */
        uint16_t len;    /* all bytes: at most ENGINE_PIECE_MAX */
    } * tails;
    uint8_t *bytes; /* owned */
    size_t count, words;
    uint32_t *ends; /* owned: mask of the end tokens */
};

struct place {
    int32_t node, stack; /* stack 0: empty */
};

struct stack {
    int32_t back, below; /* return to node `back` over stack `below` */
    uint32_t depth;
};

struct known_state {
    uint32_t places, count; /* in the pool */
    bool may_end;
};

/* Open addressing by hash: number + 1, 0 free; at most half full. */
struct slots {
    uint32_t *at; /* owned */
    size_t mask;
};

struct kept_mask {
    int32_t state; /* that it belongs to, with `words` */
    uint32_t *words;
};

struct engine_grammar {
    const struct engine_grammar_vocab *vocab;
    struct automaton a;
    struct place *pool; /* owned */
    size_t pool_count, pool_cap;
    struct known_state *states; /* owned */
    int32_t *steps;             /* owned: [state][class] */
    size_t state_count, state_cap;
    struct slots state_slots, stack_slots;
    struct stack *stacks; /* owned; [0] is the empty one */
    size_t stack_count, stack_cap;
    struct place work[PLACES_MAX]; /* a state in the making */
    size_t work_count;
    struct found { /* where a place is in `work`: open addressing; other rounds' entries are free */
        uint32_t round, at;
    } found[2 * PLACES_MAX];
    uint32_t round, looked_at;
    bool work_ends, full; /* full: a limit was reached, nothing new is found any more */
    struct kept_mask masks[MASKS_KEPT];
    int32_t start;
};

/* --- vocabulary ---------------------------------------------------------------------------------- */

static struct span bytes_of(const struct engine_tokenizer *t, int32_t id)
{
    return engine_tokenizer_piece(t, id, false);
}

static int by_bytes(const void *a, const void *b, void *tokenizer)
{
    struct span x = bytes_of(tokenizer, *(const int32_t *)a), y = bytes_of(tokenizer, *(const int32_t *)b);
    int order = memcmp(x.data, y.data, x.len < y.len ? x.len : y.len);
    return order ? order : x.len < y.len ? -1 : x.len > y.len;
}

/* Lays the tokens' bytes out in the order of a walk, without what they share. */
static bool lay_out(struct engine_grammar_vocab *v)
{
    struct span before = span_of(NULL, 0);
    size_t total = 0, used = 0;
    for (size_t i = 0; i < v->count; i++)
        total += bytes_of(v->tokenizer, v->ids[i]).len;
    v->bytes = malloc(total + 1);
    for (size_t i = 0; v->bytes && i < v->count; i++) {
        struct span own = bytes_of(v->tokenizer, v->ids[i]);
        size_t n = 0;
        while (n < before.len && n < own.len && before.data[n] == own.data[n])
            n++;
        v->tails[i] = (struct tail){(uint32_t)used, (uint16_t)n, (uint16_t)own.len};
        memcpy(v->bytes + used, own.data + n, own.len - n);
        used += own.len - n;
        before = own;
    }
    return v->bytes != NULL;
}

struct engine_grammar_vocab *engine_grammar_vocab_open(const struct engine_tokenizer *t)
{
    size_t count = (size_t)engine_tokenizer_count(t);
    struct engine_grammar_vocab *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->tokenizer = t;
    v->words = (count + 31) / 32;
    v->ids = calloc(count, sizeof *v->ids);
    v->tails = calloc(count, sizeof *v->tails);
    v->ends = calloc(v->words, sizeof *v->ends);
    if (!v->ids || !v->tails || !v->ends) {
        engine_grammar_vocab_close(v);
        return NULL;
    }
    for (int32_t id = 0; id < (int32_t)count; id++) {
        if (engine_tokenizer_is_end(t, id))
            v->ends[id / 32] |= 1u << (id % 32);
        else if (bytes_of(t, id).len > 0)
            v->ids[v->count++] = id;
    }
    qsort_r(v->ids, v->count, sizeof *v->ids, by_bytes, (void *)(uintptr_t)t);
    if (lay_out(v))
        return v;
    engine_grammar_vocab_close(v);
    return NULL;
}

void engine_grammar_vocab_close(struct engine_grammar_vocab *v)
{
    if (!v)
        return;
    free(v->ids);
    free(v->tails);
    free(v->bytes);
    free(v->ends);
    free(v);
}

/* --- growing ------------------------------------------------------------------------------------- */

static bool grow(struct engine_grammar *g, void **array, size_t *cap, size_t need, size_t most, size_t size)
{
    if (need <= *cap)
        return true;
    size_t wanted = *cap ? 2 * *cap : 256;
    wanted = wanted < need ? need : wanted > most ? most : wanted;
    void *more = need > most ? NULL : realloc(*array, wanted * size);
    if (!more) {
        g->full = true;
        return false;
    }
    *array = more;
    *cap = wanted;
    return true;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

static uint64_t stack_hash(const struct engine_grammar *g, size_t i)
{
    return mix((uint64_t)(uint32_t)g->stacks[i].back << 32 | (uint32_t)g->stacks[i].below);
}

static uint64_t places_hash(const struct place *p, size_t count, bool may_end)
{
    uint64_t h = may_end;
    for (size_t i = 0; i < count; i++)
        h = mix(h ^ ((uint64_t)(uint32_t)p[i].node << 32 | (uint32_t)p[i].stack));
    return h;
}

static uint64_t state_hash(const struct engine_grammar *g, size_t i)
{
    const struct known_state *s = &g->states[i];
    return places_hash(g->pool + s->places, s->count, s->may_end);
}

/* Room for one more than the `count` that are there. */
static bool slots_reserve(struct engine_grammar *g, struct slots *s, size_t count,
                          uint64_t (*hash)(const struct engine_grammar *, size_t))
{
    size_t size = s->at ? 2 * (s->mask + 1) : 256;
    if (s->at && 2 * (count + 1) <= s->mask + 1)
        return true;
    uint32_t *more = calloc(size, sizeof *more);
    if (!more) {
        g->full = true;
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        size_t slot = hash(g, i) & (size - 1);
        while (more[slot])
            slot = (slot + 1) & (size - 1);
        more[slot] = (uint32_t)i + 1;
    }
    free(s->at);
    *s = (struct slots){more, size - 1};
    return true;
}

/* The stack `below` with `back` on top; -1 past a limit. */
static int32_t push(struct engine_grammar *g, int32_t back, int32_t below)
{
    if (!slots_reserve(g, &g->stack_slots, g->stack_count, stack_hash))
        return -1;
    size_t mask = g->stack_slots.mask, i = mix((uint64_t)(uint32_t)back << 32 | (uint32_t)below) & mask;
    for (; g->stack_slots.at[i]; i = (i + 1) & mask) {
        int32_t found = (int32_t)g->stack_slots.at[i] - 1;
        if (g->stacks[found].back == back && g->stacks[found].below == below)
            return found;
    }
    if (g->stacks[below].depth >= STACK_DEPTH_MAX ||
        !grow(g, (void **)&g->stacks, &g->stack_cap, g->stack_count + 1, STACKS_MAX, sizeof *g->stacks))
        return -1;
    g->stacks[g->stack_count] = (struct stack){back, below, g->stacks[below].depth + 1};
    g->stack_slots.at[i] = (uint32_t)g->stack_count + 1;
    return (int32_t)g->stack_count++;
}

/* --- states -------------------------------------------------------------------------------------- */

/* One step of the search for states. What a stranger's grammar may cost the thread that everybody shares ends here. */
static void look(struct engine_grammar *g)
{
    if (++g->looked_at >= WORK_MAX)
        g->full = true;
}

/* An empty state to be made. */
static void begin_state(struct engine_grammar *g)
{
    g->round++; /* at most one for WORK_MAX looks: it never comes again */
    g->work_count = 0;
    g->work_ends = false;
    look(g);
}

static void reach(struct engine_grammar *g, int32_t node, int32_t stack)
{
    size_t mask = 2 * PLACES_MAX - 1, i = mix((uint64_t)(uint32_t)node << 32 | (uint32_t)stack) & mask;
    for (look(g); g->found[i].round == g->round; i = (i + 1) & mask) {
        const struct place *p = &g->work[g->found[i].at];
        if (p->node == node && p->stack == stack)
            return;
    }
    if (g->work_count == PLACES_MAX) {
        g->full = true;
        return;
    }
    g->found[i] = (struct found){g->round, (uint32_t)g->work_count};
    g->work[g->work_count++] = (struct place){node, stack};
}

/* All that can be reached from the places in the making without reading a byte. The list grows while it is read. */
static void close_over(struct engine_grammar *g)
{
    for (size_t i = 0; i < g->work_count && !g->full; i++) {
        struct place p = g->work[i];
        for (int32_t e = g->a.first[p.node]; e >= 0 && !g->full; e = g->a.edges[e].next) {
            const struct edge *edge = &g->a.edges[e];
            look(g);
            if (edge->kind == E_FREE) {
                reach(g, edge->to, p.stack);
            } else if (edge->kind == E_CALL) {
                /* A call that is a rule's last step returns where the rule does: lists do not pile up. */
                bool last = g->a.is_end[edge->to] && g->a.first[edge->to] < 0;
                int32_t stack = last ? p.stack : push(g, edge->to, p.stack);
                if (stack >= 0)
                    reach(g, edge->callee, stack);
            }
        }
        if (!g->a.is_end[p.node])
            continue;
        if (p.stack == 0)
            g->work_ends = true;
        else
            reach(g, g->stacks[p.stack].back, g->stacks[p.stack].below);
    }
}

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->stack < y->stack ? -1 : x->stack > y->stack;
}

/* Only places that read bytes tell states apart. */
static void keep_reading_places(struct engine_grammar *g)
{
    size_t kept = 0;
    for (size_t i = 0; i < g->work_count; i++) {
        bool reads = false;
        for (int32_t e = g->a.first[g->work[i].node]; e >= 0 && !reads; e = g->a.edges[e].next)
            reads = g->a.edges[e].kind == E_BYTES;
        if (reads)
            g->work[kept++] = g->work[i];
    }
    g->work_count = kept;
    qsort(g->work, kept, sizeof *g->work, by_place);
}

static int32_t new_state(struct engine_grammar *g, size_t slot)
{
    size_t classes = g->a.class_count, old_cap = g->state_cap, cap = old_cap;
    size_t most = STEPS_MAX / classes < STATES_MAX ? STEPS_MAX / classes : STATES_MAX;
    if (!grow(g, (void **)&g->pool, &g->pool_cap, g->pool_count + g->work_count, POOL_MAX, sizeof *g->pool) ||
        !grow(g, (void **)&g->states, &cap, g->state_count + 1, most, sizeof *g->states) ||
        !grow(g, (void **)&g->steps, &old_cap, g->state_count + 1, most, classes * sizeof *g->steps))
        return DEAD;
    g->state_cap = cap;
    if (g->work_count > 0)
        memcpy(g->pool + g->pool_count, g->work, g->work_count * sizeof *g->work);
    for (size_t i = 0; i < classes; i++)
        g->steps[g->state_count * classes + i] = UNKNOWN;
    g->states[g->state_count] = (struct known_state){(uint32_t)g->pool_count, (uint32_t)g->work_count, g->work_ends};
    g->pool_count += g->work_count;
    g->state_slots.at[slot] = (uint32_t)g->state_count + 1;
    return (int32_t)g->state_count++;
}

/* The number of the state made of the places in the making. */
static int32_t number_of(struct engine_grammar *g)
{
    close_over(g);
    keep_reading_places(g);
    if (g->full || (g->work_count == 0 && !g->work_ends) ||
        !slots_reserve(g, &g->state_slots, g->state_count, state_hash))
        return DEAD;
    size_t mask = g->state_slots.mask, slot = places_hash(g->work, g->work_count, g->work_ends) & mask;
    for (; g->state_slots.at[slot]; slot = (slot + 1) & mask) {
        const struct known_state *s = &g->states[g->state_slots.at[slot] - 1];
        if (s->count == g->work_count && s->may_end == g->work_ends &&
            (s->count == 0 || memcmp(g->pool + s->places, g->work, s->count * sizeof *g->work) == 0))
            return (int32_t)g->state_slots.at[slot] - 1;
    }
    return new_state(g, slot);
}

static int32_t find_step(struct engine_grammar *g, int32_t state, unsigned class)
{
    struct known_state s = g->states[state];
    uint8_t byte = g->a.byte_of[class];
    if (g->full)
        return DEAD;
    begin_state(g);
    for (uint32_t i = 0; i < s.count; i++) {
        struct place p = g->pool[s.places + i];
        for (int32_t e = g->a.first[p.node]; e >= 0 && !g->full; e = g->a.edges[e].next) {
            const struct edge *edge = &g->a.edges[e];
            look(g);
            if (edge->kind == E_BYTES && edge->low <= byte && byte <= edge->high)
                reach(g, edge->to, p.stack);
        }
    }
    int32_t to = number_of(g);
    g->steps[(size_t)state * g->a.class_count + class] = to;
    return to;
}

static inline int32_t step(struct engine_grammar *g, int32_t state, uint8_t byte)
{
    unsigned class = g->a.class_of[byte];
    int32_t to = g->steps[(size_t)state * g->a.class_count + class];
    return to != UNKNOWN ? to : find_step(g, state, class);
}

/* --- compiling ----------------------------------------------------------------------------------- */

static void read_text(struct grammar_text *t, enum engine_grammar_kind kind, struct span text)
{
    switch (kind) {
    case ENGINE_GRAMMAR_JSON:
        grammar_from_json(t);
        break;
    case ENGINE_GRAMMAR_SCHEMA:
        grammar_from_schema(t, text);
        break;
    case ENGINE_GRAMMAR_REGEX:
        grammar_from_regex(t, text);
        break;
    case ENGINE_GRAMMAR_EBNF:
        grammar_from_ebnf(t, text);
        break;
    case ENGINE_GRAMMAR_CHOICE:
        grammar_from_choices(t, text);
        break;
    }
}

static bool open_states(struct engine_grammar *g, struct engine_problem *why)
{
    if (!grow(g, (void **)&g->stacks, &g->stack_cap, 1, STACKS_MAX, sizeof *g->stacks)) {
        engine_problem_set(why, ENGINE_E_MEMORY, "grammar: too little memory");
        return false;
    }
    g->stacks[g->stack_count++] = (struct stack){-1, 0, 0};
    begin_state(g);
    reach(g, g->a.start, 0);
    g->start = number_of(g);
    if (g->start < 0)
        engine_problem_set(why, ENGINE_E_LIMIT, "grammar: too many ways to begin, or none");
    return g->start >= 0;
}

/* Takes what `t` holds. */
static struct engine_grammar *finish(struct grammar_text *t, const struct engine_grammar_vocab *v)
{
    struct engine_grammar *g = t->failed ? NULL : calloc(1, sizeof *g);
    bool good = false;
    if (g) {
        g->vocab = v;
        good = automaton_build(&g->a, t) && open_states(g, t->why);
    } else {
        grammar_fail(t, ENGINE_E_MEMORY, "too little memory");
    }
    free(t->rules);
    arena_release(&t->arena);
    if (good)
        return g;
    engine_grammar_close(g);
    return NULL;
}

struct engine_grammar *engine_grammar_compile(enum engine_grammar_kind kind, struct span text,
                                              const struct engine_grammar_vocab *v, struct engine_problem *why)
{
    struct grammar_text t = {.arena.max = GRAMMAR_MEMORY_MAX, .why = why};
    if (text.len > ENGINE_GRAMMAR_TEXT_MAX)
        grammar_fail(&t, ENGINE_E_LIMIT, "longer than %u bytes", ENGINE_GRAMMAR_TEXT_MAX);
    else
        read_text(&t, kind, text);
    return finish(&t, v);
}

/* Does a tool that may be called want its schema kept to the letter? */
static bool one_is_strict(const json_t *tools, struct span only)
{
    const json_t *tool;
    size_t i;
    json_array_foreach(tools, i, tool)
    {
        const json_t *function = json_object_get(tool, "function"), *name = json_object_get(function, "name");
        struct span named = span_of(json_string_value(name), json_string_length(name));
        if ((only.len == 0 || span_equal(named, only)) && json_is_true(json_object_get(function, "strict")))
            return true;
    }
    return false;
}

struct engine_grammar *engine_grammar_compile_tools(const json_t *tools, struct span only,
                                                    enum engine_grammar_calls form, bool many,
                                                    const struct engine_grammar_vocab *v, struct engine_problem *why)
{
    struct grammar_tools how = {.list = tools, .only = only, .form = form, .many = many};
    struct engine_problem first = {0};
    for (;;) {
        struct grammar_text t = {.arena.max = GRAMMAR_MEMORY_MAX, .why = how.loose ? why : &first};
        grammar_from_tools(&t, &how);
        struct engine_grammar *g = finish(&t, v);
        if (g || how.loose)
            return g;
        if (one_is_strict(tools, only)) {
            if (why)
                *why = first;
            return NULL;
        }
        how.loose = true;
    }
}

void engine_grammar_close(struct engine_grammar *g)
{
    if (!g)
        return;
    automaton_release(&g->a);
    free(g->pool);
    free(g->states);
    free(g->steps);
    free(g->state_slots.at);
    free(g->stacks);
    free(g->stack_slots.at);
    for (size_t i = 0; i < MASKS_KEPT; i++)
        free(g->masks[i].words);
    free(g);
}

size_t engine_grammar_bytes(const struct engine_grammar *g)
{
    const struct automaton *a = &g->a;
    return sizeof *g + a->edge_cap * sizeof *a->edges + a->node_cap * (sizeof *a->first + sizeof *a->is_end);
}

/* --- answering ----------------------------------------------------------------------------------- */

engine_grammar_state engine_grammar_start(const struct engine_grammar *g)
{
    return g->start;
}

bool engine_grammar_may_end(const struct engine_grammar *g, engine_grammar_state s)
{
    return s >= 0 && g->states[s].may_end;
}

engine_grammar_state engine_grammar_advance(struct engine_grammar *g, engine_grammar_state s, int32_t token)
{
    if (engine_tokenizer_is_end(g->vocab->tokenizer, token))
        return engine_grammar_may_end(g, s) ? s : DEAD;
    struct span bytes = bytes_of(g->vocab->tokenizer, token);
    if (bytes.len == 0)
        return DEAD;
    for (size_t i = 0; i < bytes.len && s >= 0; i++)
        s = step(g, s, bytes.data[i]);
    return s;
}

/* Sets the bit of every token whose bytes lead from `s` to somewhere. */
static void walk(struct engine_grammar *g, engine_grammar_state s, uint32_t *words)
{
    const struct engine_grammar_vocab *v = g->vocab;
    int32_t at[ENGINE_PIECE_MAX + 1] = {s};
    for (size_t i = 0; i < v->count;) {
        struct tail t = v->tails[i];
        const uint8_t *bytes = v->bytes + t.at;
        size_t k = t.common;
        for (; k < t.len; k++) {
            int32_t to = step(g, at[k], *bytes++);
            if (to < 0)
                break;
            at[k + 1] = to;
        }
        if (k == t.len)
            words[v->ids[i] / 32] |= 1u << (v->ids[i] % 32);
        i++;
        if (k < t.len) /* nothing that begins like this fits */
            while (i < v->count && v->tails[i].common > k)
                i++;
    }
}

void engine_grammar_mask(struct engine_grammar *g, engine_grammar_state s, uint32_t *words)
{
    const struct engine_grammar_vocab *v = g->vocab;
    size_t size = v->words * sizeof *words;
    struct kept_mask *kept = &g->masks[(uint32_t)s % MASKS_KEPT];
    uint32_t any = 0;
    if (s < 0) {
        memcpy(words, v->ends, size);
        return;
    }
    if (kept->words && kept->state == s) {
        memcpy(words, kept->words, size);
        return;
    }
    memset(words, 0, size);
    walk(g, s, words);
    for (size_t i = 0; i < v->words; i++)
        any |= words[i];
    if (any == 0 || g->states[s].may_end)
        for (size_t i = 0; i < v->words; i++)
            words[i] |= v->ends[i];
    if (!kept->words)
        kept->words = malloc(size);
    if (kept->words) {
        kept->state = s;
        memcpy(kept->words, words, size);
    }
}

/* The one byte that may follow `s`, or -1. */
static int only_byte(struct engine_grammar *g, engine_grammar_state s)
{
    int only = -1;
    if (g->states[s].may_end)
        return -1;
    for (unsigned class = 0; class < g->a.class_count; class ++) {
        unsigned byte = g->a.byte_of[class], next = class + 1 < g->a.class_count ? g->a.byte_of[class + 1] : 256;
        if (step(g, s, (uint8_t)byte) < 0)
            continue;
        if (only >= 0 || next != byte + 1)
            return -1;
        only = (int)byte;
    }
    return only;
}

void engine_grammar_forced(struct engine_grammar *g, engine_grammar_state s, struct writer *out)
{
    size_t begin = out->len;
    for (int byte; s >= 0 && out->len < out->max && (byte = only_byte(g, s)) >= 0; s = step(g, s, (uint8_t)byte))
        writer_u8(out, (uint8_t)byte);
    if (writer_ok(out) && out->len > begin) /* whole characters only: they are tokenized next */
        out->len -= utf8_tail(span_of(out->data + begin, out->len - begin));
}
