/* tokenizer.c - a vocabulary opened (checked, copied, indexed) and what is asked of it. */
#include "engine/tokenizer.h"

#include <math.h>
#include <stdlib.h>

#include "engine/tokenizer_internal.h"
#include "engine/tokenizer_split.h"
#include "verifier/base/secret.h"
#include "verifier/base/utf8.h"

#define ARENA_MAX (32u << 20) /* bytes of all pieces */

/* --- opening ------------------------------------------------------------------------------------- */

/* Bytes 33-126, 161-172 and 174-255 stand for themselves in a byte-level piece; the others, in order, are U+0100 and
 * up (GPT-2, encoder.py, bytes_to_unicode). -1: no byte. */
static int byte_of_char(int32_t c)
{
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255))
        return c;
    if (c >= 256 && c <= 288)
        return c - 256;
    if (c >= 289 && c <= 322)
        return c - 289 + 127;
    return c == 323 ? 173 : -1;
}

static bool decode_byte_level(struct span name, uint8_t *out, size_t *len)
{
    *len = 0;
    for (size_t at = 0, step; at < name.len; at += step) {
        int byte = byte_of_char(tokenizer_char(name, at, &step));
        if (byte < 0)
            return false;
        out[(*len)++] = (uint8_t)byte;
    }
    return true;
}

static size_t decode_spaces(struct span name, uint8_t *out)
{
    size_t n = 0;
    for (size_t at = 0; at < name.len;) {
        bool space =
            name.len - at >= TOKENIZER_SPACE_LEN && memcmp(name.data + at, TOKENIZER_SPACE, TOKENIZER_SPACE_LEN) == 0;
        out[n++] = space ? ' ' : name.data[at];
        at += space ? TOKENIZER_SPACE_LEN : 1;
    }
    return n;
}

/* The other way. GGUF files write the spaces of user-defined pieces as spaces; text is searched with U+2581 in it. */
static size_t encode_spaces(struct span name, uint8_t *out)
{
    size_t n = 0;
    for (size_t at = 0; at < name.len; at++) {
        if (name.data[at] != ' ') {
            out[n++] = name.data[at];
            continue;
        }
        memcpy(out + n, TOKENIZER_SPACE, TOKENIZER_SPACE_LEN);
        n += TOKENIZER_SPACE_LEN;
    }
    return n;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* <0x0A> */
static int byte_of_name(struct span name)
{
    if (name.len != 6 || memcmp(name.data, "<0x", 3) != 0 || name.data[5] != '>')
        return -1;
    int high = hex_digit(name.data[3]), low = hex_digit(name.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Text is made of these by merging. */
static bool is_text(uint8_t type)
{
    return type == ENGINE_TOKEN_NORMAL || type == ENGINE_TOKEN_USER;
}

static bool check_sizes(const struct engine_vocab *v, struct engine_problem *why)
{
    size_t total = 0;
    if (v->count == 0 || v->count > ENGINE_VOCAB_MAX || v->merge_count > ENGINE_MERGES_MAX ||
        v->end_count > ENGINE_VOCAB_MAX) {
        engine_problem_set(why, ENGINE_E_LIMIT, "tokenizer: %zu tokens and %zu merges; 1 to %u and at most %u are read",
                           v->count, v->merge_count, ENGINE_VOCAB_MAX, ENGINE_MERGES_MAX);
        return false;
    }
    for (size_t i = 0; i < v->count; i++) {
        total += v->pieces[i].len;
        if (v->pieces[i].len > ENGINE_PIECE_MAX || total > ARENA_MAX || !utf8_is_valid(v->pieces[i]) ||
            v->types[i] < ENGINE_TOKEN_NORMAL || v->types[i] > ENGINE_TOKEN_BYTE ||
            (v->family == ENGINE_VOCAB_SPM && !isfinite(v->scores[i]))) {
            engine_problem_set(why, ENGINE_E_RANGE,
                               "tokenizer: token %zu is too long, not UTF-8, of an unknown type or without a score", i);
            return false;
        }
    }
    return true;
}

static bool check_ids(const struct engine_vocab *v, struct engine_problem *why)
{
    bool good = v->bos < (int64_t)v->count && v->eos < (int64_t)v->count && v->unknown < (int64_t)v->count;
    for (size_t i = 0; i < v->end_count; i++)
        good = good && v->ends[i] >= 0 && v->ends[i] < (int64_t)v->count;
    if (!good || (v->add_bos && v->bos < 0) || (v->add_eos && v->eos < 0))
        engine_problem_set(why, ENGINE_E_MISMATCH,
                           "tokenizer: a bos, eos, unknown or end token id is outside the vocabulary");
    return good && (!v->add_bos || v->bos >= 0) && (!v->add_eos || v->eos >= 0);
}

/* Copies names and works out what each piece adds to the output. `arena` holds four times the names' bytes. */
static bool copy_pieces(struct engine_tokenizer *t, const struct engine_vocab *v, struct engine_problem *why)
{
    uint8_t *to = t->arena;
    for (size_t i = 0; i < v->count; i++) {
        struct span name = v->pieces[i];
        size_t len = name.len;
        t->types[i] = v->types[i];
        if (v->family != ENGINE_VOCAB_BPE)
            len = encode_spaces(name, to);
        else if (len > 0)
            memcpy(to, name.data, len);
        t->names[i] = name = span_of(to, len);
        to += len;
        if (v->types[i] == ENGINE_TOKEN_BYTE) {
            int byte = byte_of_name(name);
            if (byte < 0) {
                engine_problem_set(why, ENGINE_E_FORMAT, "tokenizer: token %zu has type byte but is not called <0xNN>",
                                   i);
                return false;
            }
            *to = (uint8_t)byte;
            len = 1;
        } else if (v->family != ENGINE_VOCAB_BPE) {
            len = decode_spaces(name, to);
        } else if (v->types[i] != ENGINE_TOKEN_NORMAL || !decode_byte_level(name, to, &len)) {
            len = name.len;
            if (len > 0)
                memcpy(to, name.data, len);
        }
        t->bytes[i] = span_of(to, len);
        to += len;
        t->longest = name.len > t->longest ? name.len : t->longest;
    }
    t->chat_template = span_of(to, v->chat_template.len);
    if (v->chat_template.len > 0)
        memcpy(to, v->chat_template.data, v->chat_template.len);
    return true;
}

/* SPM: after which characters a space may stand inside a piece. Everywhere else a text is cut before its spaces. */
static void note_spaces_inside(struct engine_tokenizer *t, struct span name)
{
    for (size_t at = 0, len, next; at < name.len; at += len) {
        int32_t c = tokenizer_char(name, at, &len);
        if (tokenizer_char(name, at + len, &next) != 0x2581 || c == 0x2581)
            continue;
        if (c < 0x80)
            t->space_inside[c] = 1;
        else
            t->space_inside_other = true;
    }
}

static bool index_pieces(struct engine_tokenizer *t, struct engine_problem *why)
{
    const struct span *texts = t->family == ENGINE_VOCAB_BPE ? t->bytes : t->names;
    memset(t->byte_ids, 0xff, sizeof t->byte_ids);
    for (int32_t id = 0; id < t->count; id++) {
        if (t->names[id].len == 0)
            continue;
        if (!text_index_add(&t->by_name, t->names, id)) {
            engine_problem_set(why, ENGINE_E_DUPLICATE, "tokenizer: token %d is there twice", (int)id);
            return false;
        }
        bool text = is_text(t->types[id]);
        if (t->bytes[id].len == 1 && (t->family == ENGINE_VOCAB_BPE ? text : t->types[id] == ENGINE_TOKEN_BYTE))
            t->byte_ids[t->bytes[id].data[0]] = id;
        if (text && texts[id].len > 0)
            (void)text_index_add(&t->by_text, texts, id);
        if (text && t->family != ENGINE_VOCAB_BPE)
            note_spaces_inside(t, t->names[id]);
    }
    return true;
}

static bool index_merges(struct engine_tokenizer *t, const struct engine_vocab *v, struct engine_problem *why)
{
    uint8_t joined[2 * ENGINE_PIECE_MAX];
    for (size_t i = 0; i < v->merge_count; i++) {
        struct span m = v->merges[i];
        const uint8_t *space = m.len > 0 ? memchr(m.data, ' ', m.len) : NULL;
        int32_t left = -1, right = -1, result = -1;
        if (space && m.len <= sizeof joined) {
            size_t at = (size_t)(space - m.data);
            memcpy(joined, m.data, at);
            memcpy(joined + at, space + 1, m.len - at - 1);
            left = text_index_find(&t->by_name, t->names, span_of(m.data, at));
            right = text_index_find(&t->by_name, t->names, span_of(space + 1, m.len - at - 1));
            result = text_index_find(&t->by_name, t->names, span_of(joined, m.len - 1));
        }
        if (left < 0 || right < 0 || result < 0) {
            engine_problem_set(why, ENGINE_E_MISMATCH,
                               "tokenizer.ggml.merges: merge %zu is not two tokens whose concatenation is a token", i);
            return false;
        }
        if (!pair_index_add(&t->pairs, (struct pair){left, right, result, (uint32_t)i})) {
            engine_problem_set(why, ENGINE_E_MEMORY, "tokenizer: too little memory");
            return false;
        }
    }
    return true;
}

struct scored {
    float score;
    int32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

#define SPLITS_AT_ONCE 16

struct split {
    struct span left, right;
    uint64_t left_hash, right_hash;
};

static bool add_splits(struct engine_tokenizer *t, const struct split *split, int count, int32_t id, uint32_t rank)
{
    for (int i = 0; i < count; i++) {
        const struct split *s = &split[i];
        int32_t left = text_index_finish(&t->by_text, t->names, s->left, s->left_hash);
        int32_t right = left < 0 ? -1 : text_index_finish(&t->by_text, t->names, s->right, s->right_hash);
        if (right >= 0 && !pair_index_add(&t->pairs, (struct pair){left, right, id, rank}))
            return false;
    }
    return true;
}

/* Every way to split a piece into two pieces is a merge, as good as the piece's score. */
static bool index_splits(struct engine_tokenizer *t, int32_t id, uint32_t rank)
{
    struct span name = t->names[id];
    struct split split[SPLITS_AT_ONCE];
    size_t at = 0, len;
    int count = 0;
    for (tokenizer_char(name, 0, &len), at = len; at < name.len; at += len) {
        struct split *s = &split[count++];
        *s = (struct split){.left = span_of(name.data, at), .right = span_of(name.data + at, name.len - at)};
        s->left_hash = text_index_start(&t->by_text, s->left);
        s->right_hash = text_index_start(&t->by_text, s->right);
        if (count == SPLITS_AT_ONCE) {
            if (!add_splits(t, split, count, id, rank))
                return false;
            count = 0;
        }
        (void)tokenizer_char(name, at, &len);
    }
    return add_splits(t, split, count, id, rank);
}

static bool index_scores(struct engine_tokenizer *t, const struct engine_vocab *v, struct engine_problem *why)
{
    struct scored *order = malloc(v->count * sizeof *order);
    bool good = order != NULL;
    uint32_t rank = 0;
    for (size_t i = 0; good && i < v->count; i++)
        order[i] = (struct scored){v->scores[i], (int32_t)i};
    if (good)
        qsort(order, v->count, sizeof *order, by_score);
    for (size_t i = 0; good && i < v->count; i++) {
        rank += i > 0 && order[i].score != order[i - 1].score;
        if (is_text(t->types[order[i].id]))
            good = index_splits(t, order[i].id, rank);
    }
    free(order);
    if (!good)
        engine_problem_set(why, ENGINE_E_MEMORY, "tokenizer: too little memory");
    return good;
}

static int by_special_text(const void *a, const void *b)
{
    const struct special *x = a, *y = b;
    size_t len = x->text.len < y->text.len ? x->text.len : y->text.len;
    int order = memcmp(x->text.data, y->text.data, len);
    return order != 0 ? order : x->text.len < y->text.len ? -1 : x->text.len > y->text.len;
}

static void list_special(struct engine_tokenizer *t)
{
    for (int32_t id = 0; id < t->count; id++) {
        bool control = t->types[id] == ENGINE_TOKEN_CONTROL || id == t->unknown;
        if ((!control && t->types[id] != ENGINE_TOKEN_USER) || t->names[id].len == 0)
            continue;
        t->special[t->special_count++] = (struct special){t->names[id], id, control};
        t->special_first[t->names[id].data[0]] = 1;
    }
    qsort(t->special, t->special_count, sizeof *t->special, by_special_text);
}

/* Tokens that end a turn in chat formats, by name: files name only one of them. Harmony's <|end|> ends a message, not
 * the turn, where <|return|> exists. */
static void mark_ends(struct engine_tokenizer *t, const struct engine_vocab *v)
{
    static const char *const names[] = {"<|endoftext|>",   "<|im_end|>",    "<|eot_id|>", "<|eom_id|>",
                                        "<|end_of_text|>", "<end_of_turn>", "<turn|>",    "<|return|>",
                                        "<|call|>",        "<|end|>",       "<|eot|>",    "<｜end▁of▁sentence｜>"};
    if (t->eos >= 0)
        t->ends[t->eos] = 1;
    for (size_t i = 0; i < v->end_count; i++)
        t->ends[v->ends[i]] = 1;
    bool harmony = engine_tokenizer_find(t, span_str("<|return|>")) >= 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int32_t id = engine_tokenizer_find(t, span_str(names[i]));
        if (id >= 0 && t->types[id] == ENGINE_TOKEN_CONTROL && !(harmony && strcmp(names[i], "<|end|>") == 0))
            t->ends[id] = 1;
    }
}

static bool allocate(struct engine_tokenizer *t, const struct engine_vocab *v)
{
    size_t bytes = v->chat_template.len + 1;
    for (size_t i = 0; i < v->count; i++)
        bytes += 4 * v->pieces[i].len;
    t->arena = malloc(bytes);
    t->names = calloc(v->count, sizeof *t->names);
    t->bytes = calloc(v->count, sizeof *t->bytes);
    t->types = calloc(v->count, 1);
    t->ends = calloc(v->count, 1);
    t->whole = calloc(v->count, sizeof *t->whole);
    t->special = calloc(v->count, sizeof *t->special);
    return t->arena && t->names && t->bytes && t->types && t->ends && t->whole && t->special &&
           text_index_init(&t->by_name, v->count) && text_index_init(&t->by_text, v->count) &&
           pair_index_init(&t->pairs, v->merge_count ? v->merge_count : v->count);
}

static bool fill(struct engine_tokenizer *t, const struct engine_vocab *v, struct engine_problem *why)
{
    if (!allocate(t, v)) {
        engine_problem_set(why, ENGINE_E_MEMORY, "tokenizer: too little memory");
        return false;
    }
    if (!copy_pieces(t, v, why) || !index_pieces(t, why))
        return false;
    if (v->family == ENGINE_VOCAB_SPM ? !index_scores(t, v, why) : !index_merges(t, v, why))
        return false;
    list_special(t);
    mark_ends(t, v);
    return true;
}

struct engine_tokenizer *engine_tokenizer_open(const struct engine_vocab *v, struct engine_problem *why)
{
    if (!check_sizes(v, why) || !check_ids(v, why))
        return NULL;
    if (v->chat_template.len > ARENA_MAX) {
        engine_problem_set(why, ENGINE_E_LIMIT, "tokenizer.chat_template: longer than %u bytes", ARENA_MAX);
        return NULL;
    }
    struct engine_tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        engine_problem_set(why, ENGINE_E_MEMORY, "tokenizer: too little memory");
        return NULL;
    }
    t->family = v->family;
    t->pre = v->pre;
    t->count = (int32_t)v->count;
    t->bos = v->bos;
    t->eos = v->eos;
    t->unknown = v->unknown;
    t->add_bos = v->add_bos;
    t->add_eos = v->add_eos;
    t->space_prefix = v->space_prefix;
    t->whole_first = v->whole_first;
    t->compose = v->compose;
    t->control_strips = v->control_strips;
    if (fill(t, v, why))
        return t;
    engine_tokenizer_close(t);
    return NULL;
}

void engine_tokenizer_close(struct engine_tokenizer *t)
{
    if (!t)
        return;
    free(t->arena);
    free(t->names);
    free(t->bytes);
    free(t->types);
    free(t->ends);
    free(t->whole);
    free(t->special);
    free(t->by_name.slots);
    free(t->by_text.slots);
    free(t->pairs.slots);
    free(t);
}

/* --- ids ----------------------------------------------------------------------------------------- */

void engine_tokens_release(struct engine_tokens *tokens)
{
    if (tokens->ids)
        secret_wipe(tokens->ids, tokens->cap * sizeof *tokens->ids);
    free(tokens->ids);
    *tokens = (struct engine_tokens){.max = tokens->max};
}

enum engine_err engine_tokens_add(struct engine_tokens *tokens, int32_t id)
{
    if (tokens->count >= tokens->max)
        return ENGINE_E_LIMIT;
    if (tokens->count == tokens->cap) {
        size_t cap = tokens->cap ? 2 * tokens->cap : 16;
        int32_t *grown = malloc(cap * sizeof *grown);
        if (!grown)
            return ENGINE_E_MEMORY;
        if (tokens->ids) {
            memcpy(grown, tokens->ids, tokens->count * sizeof *grown);
            secret_wipe(tokens->ids, tokens->cap * sizeof *grown);
        }
        free(tokens->ids);
        tokens->ids = grown;
        tokens->cap = cap;
    }
    tokens->ids[tokens->count++] = id;
    return ENGINE_OK;
}

/* --- questions ----------------------------------------------------------------------------------- */

static bool known(const struct engine_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->count;
}

struct span engine_tokenizer_piece(const struct engine_tokenizer *t, int32_t id, bool special)
{
    if (!known(t, id) || (engine_tokenizer_is_special(t, id) && !special))
        return span_of(NULL, 0);
    return t->bytes[id];
}

bool engine_tokenizer_leading_space(const struct engine_tokenizer *t)
{
    return t->space_prefix && t->family != ENGINE_VOCAB_BPE;
}

bool engine_tokenizer_is_end(const struct engine_tokenizer *t, int32_t id)
{
    return known(t, id) && t->ends[id];
}

bool engine_tokenizer_is_special(const struct engine_tokenizer *t, int32_t id)
{
    return known(t, id) && (t->types[id] == ENGINE_TOKEN_CONTROL || t->types[id] == ENGINE_TOKEN_UNKNOWN ||
                            t->types[id] == ENGINE_TOKEN_UNUSED);
}

int32_t engine_tokenizer_find(const struct engine_tokenizer *t, struct span piece)
{
    return piece.len == 0 ? -1 : text_index_find(&t->by_name, t->names, piece);
}

int32_t engine_tokenizer_count(const struct engine_tokenizer *t)
{
    return t->count;
}

int32_t engine_tokenizer_bos(const struct engine_tokenizer *t)
{
    return t->bos;
}

struct span engine_tokenizer_bos_text(const struct engine_tokenizer *t)
{
    return known(t, t->bos) ? t->names[t->bos] : span_of(NULL, 0);
}

struct span engine_tokenizer_eos_text(const struct engine_tokenizer *t)
{
    return known(t, t->eos) ? t->names[t->eos] : span_of(NULL, 0);
}

struct span engine_tokenizer_chat_template(const struct engine_tokenizer *t)
{
    return t->chat_template;
}
