/* tokenizer_json.c - the vocabulary of a Hugging Face folder: tokenizer.json of type BPE, byte-level or with byte
 * fallback. Regular expressions are not run: the ones that models ship are known by their text, any other is refused.
 */
#include <jansson.h>
#include <stdlib.h>

#include "engine/files.h"
#include "engine/tokenizer.h"
#include "verifier/base/writer.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define NO_LETTER "[^\\r\\n\\p{L}\\p{N}]?"
#define REST(digits, tail) "|" digits "| ?[^\\s\\p{L}\\p{N}]+[" tail "]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct {
    const char *regex;
    enum engine_pretokenizer pre;
} regexes[] = {
    {CONTRACTIONS "|" NO_LETTER "\\p{L}+" REST("\\p{N}{1,3}", "\\r\\n"), ENGINE_PRE_LLAMA3},
    {CONTRACTIONS "|" NO_LETTER "\\p{L}+" REST("\\p{N}", "\\r\\n"), ENGINE_PRE_QWEN2},
    {NO_LETTER UPPER "*" LOWER "+" CONTRACTIONS "?|" NO_LETTER UPPER "+" LOWER "*" CONTRACTIONS
                     "?" REST("\\p{N}{1,3}", "\\r\\n/"),
     ENGINE_PRE_O200K},
    {NO_LETTER UPPER "*" LOWER "+|" NO_LETTER UPPER "+" LOWER "*" REST("\\p{N}", "\\r\\n/"), ENGINE_PRE_TEKKEN},
};

struct source {
    json_t *root, *config, *generation; /* owned; config and generation may be NULL */
    struct span *pieces, *merges;       /* owned arrays over strings of the JSON and of `joined` */
    uint8_t *types;
    int32_t *ends;
    struct writer joined; /* merges written as pairs */
};

static bool refuse(struct engine_problem *why, enum engine_err err, const char *what)
{
    engine_problem_set(why, err, "tokenizer.json: %s", what);
    return false;
}

static struct span text_of(const json_t *v)
{
    return json_is_string(v) ? span_of(json_string_value(v), json_string_length(v)) : span_of(NULL, 0);
}

static const char *type_of(const json_t *v)
{
    const char *type = json_string_value(json_object_get(v, "type"));
    return type ? type : "";
}

static bool is_true(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

/* The steps of a normalizer, pre-tokenizer or post-processor: the members of a Sequence, or the thing alone. */
static size_t step_count(const json_t *v, const char *members)
{
    if (strcmp(type_of(v), "Sequence") == 0)
        return json_array_size(json_object_get(v, members));
    return json_is_object(v) ? 1 : 0;
}

static const json_t *step_at(const json_t *v, const char *members, size_t i)
{
    return strcmp(type_of(v), "Sequence") == 0 ? json_array_get(json_object_get(v, members), i) : v;
}

/* --- what kind ----------------------------------------------------------------------------------- */

static bool read_normalizer(struct engine_vocab *v, const json_t *normalizer, struct engine_problem *why)
{
    for (size_t i = 0; i < step_count(normalizer, "normalizers"); i++) {
        const json_t *step = step_at(normalizer, "normalizers", i);
        const char *type = type_of(step);
        if (strcmp(type, "NFC") == 0)
            v->compose = true;
        else if (strcmp(type, "Prepend") == 0)
            v->space_prefix = true;
        else if (strcmp(type, "Replace") != 0 || !span_is(text_of(json_object_get(step, "content")), "\xe2\x96\x81"))
            return refuse(why, ENGINE_E_UNSUPPORTED, "a normalizer that is not known here");
    }
    return true;
}

static bool read_split(struct engine_vocab *v, const json_t *step, bool *known)
{
    const json_t *pattern = json_object_get(step, "pattern");
    struct span regex = text_of(json_object_get(pattern, "Regex"));
    if (span_is(text_of(json_object_get(pattern, "String")), " "))
        return true; /* Gemma: no space is left when it runs */
    for (size_t i = 0; i < sizeof regexes / sizeof *regexes; i++)
        if (span_is(regex, regexes[i].regex)) {
            v->pre = regexes[i].pre;
            return *known = true;
        }
    return false;
}

static bool read_pre_tokenizer(struct engine_vocab *v, const json_t *pre, struct engine_problem *why)
{
    bool known = false, digits = false, byte_level = false, good = true;
    for (size_t i = 0; i < step_count(pre, "pretokenizers") && good; i++) {
        const json_t *step = step_at(pre, "pretokenizers", i);
        const char *type = type_of(step);
        if (strcmp(type, "Split") == 0) {
            good = read_split(v, step, &known);
        } else if (strcmp(type, "Digits") == 0) {
            digits = good = is_true(step, "individual_digits");
        } else if (strcmp(type, "ByteLevel") == 0) {
            byte_level = true;
            good = !is_true(step, "add_prefix_space");
            if (!known && !json_is_false(json_object_get(step, "use_regex"))) {
                v->pre = digits ? ENGINE_PRE_DIGITS : ENGINE_PRE_GPT2;
                known = true;
            }
        } else if (strcmp(type, "Metaspace") == 0) {
            const json_t *scheme = json_object_get(step, "prepend_scheme");
            v->space_prefix = scheme ? !span_is(text_of(scheme), "never") : is_true(step, "add_prefix_space");
        } else {
            good = false;
        }
    }
    v->family = byte_level ? ENGINE_VOCAB_BPE : ENGINE_VOCAB_SPM_RANKED;
    if (!good || (byte_level && !known))
        return refuse(why, ENGINE_E_UNSUPPORTED, "a pre_tokenizer that is not known here");
    return true;
}

/* --- pieces -------------------------------------------------------------------------------------- */

static bool put_piece(struct source *s, size_t count, json_int_t id, struct span text, uint8_t type,
                      struct engine_problem *why)
{
    if (id < 0 || (size_t)id >= count)
        return refuse(why, ENGINE_E_RANGE, "an id outside the vocabulary");
    if (s->types[id] != 0 && !span_equal(s->pieces[id], text))
        return refuse(why, ENGINE_E_DUPLICATE, "one id for two tokens");
    s->pieces[id] = text;
    s->types[id] = type;
    return true;
}

static size_t highest_id(const json_t *vocab, const json_t *added)
{
    size_t count = 0, i;
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)vocab, key,
                        item) if (json_is_integer(item) && json_integer_value(item) >= (json_int_t)count) count =
        (size_t)json_integer_value(item) + 1;
    json_array_foreach(added, i, item)
    {
        json_int_t id = json_integer_value(json_object_get(item, "id"));
        if (id >= (json_int_t)count)
            count = (size_t)id + 1;
    }
    return count;
}

static bool is_byte_name(struct span s)
{
    return s.len == 6 && memcmp(s.data, "<0x", 3) == 0 && s.data[5] == '>';
}

static bool read_pieces(struct engine_vocab *v, struct source *s, struct engine_problem *why)
{
    json_t *vocab = json_object_get(json_object_get(s->root, "model"), "vocab"), *item;
    const json_t *added = json_object_get(s->root, "added_tokens");
    const char *key;
    size_t i, key_len;
    if (!json_is_object(vocab))
        return refuse(why, ENGINE_E_MISSING, "model.vocab is not there or not an object");
    v->count = highest_id(vocab, added);
    if (v->count == 0 || v->count > ENGINE_VOCAB_MAX)
        return refuse(why, ENGINE_E_LIMIT, "too many tokens, or none");
    s->pieces = calloc(v->count, sizeof *s->pieces);
    s->types = calloc(v->count, 1);
    if (!s->pieces || !s->types)
        return refuse(why, ENGINE_E_MEMORY, "too little memory");
    json_object_keylen_foreach(vocab, key, key_len, item)
    {
        struct span name = span_of(key, key_len);
        bool byte = v->family != ENGINE_VOCAB_BPE && is_byte_name(name);
        if (!json_is_integer(item))
            return refuse(why, ENGINE_E_TYPE, "an id in model.vocab is not a number");
        if (!put_piece(s, v->count, json_integer_value(item), name, byte ? ENGINE_TOKEN_BYTE : ENGINE_TOKEN_NORMAL,
                       why))
            return false;
    }
    json_array_foreach(added, i, item)
    {
        const json_t *id = json_object_get(item, "id");
        if (!json_is_integer(id) || !json_is_string(json_object_get(item, "content")))
            return refuse(why, ENGINE_E_TYPE, "an added token without id or content");
        if (!put_piece(s, v->count, json_integer_value(id), text_of(json_object_get(item, "content")),
                       is_true(item, "special") ? ENGINE_TOKEN_CONTROL : ENGINE_TOKEN_USER, why))
            return false;
        v->control_strips = v->control_strips || (is_true(item, "special") && is_true(item, "rstrip"));
    }
    for (i = 0; i < v->count; i++)
        if (s->types[i] == 0)
            s->types[i] = ENGINE_TOKEN_UNUSED; /* a hole between ids: a piece without text */
    v->pieces = s->pieces;
    v->types = s->types;
    return true;
}

static bool read_merges(struct engine_vocab *v, struct source *s, struct engine_problem *why)
{
    const json_t *merges = json_object_get(json_object_get(s->root, "model"), "merges"), *item;
    size_t i;
    v->merge_count = json_array_size(merges);
    if (v->merge_count > ENGINE_MERGES_MAX)
        return refuse(why, ENGINE_E_LIMIT, "too many merges");
    s->merges = calloc(v->merge_count + 1, sizeof *s->merges);
    if (!s->merges)
        return refuse(why, ENGINE_E_MEMORY, "too little memory");
    json_array_foreach(merges, i, item)
    {
        s->merges[i] = text_of(item);
        if (!json_is_array(item))
            continue;
        size_t begin = s->joined.len;
        writer_bytes(&s->joined, text_of(json_array_get(item, 0)));
        writer_u8(&s->joined, ' ');
        writer_bytes(&s->joined, text_of(json_array_get(item, 1)));
        s->merges[i] = span_of(NULL, s->joined.len - begin); /* placed below: the writer may still move */
    }
    if (!writer_ok(&s->joined))
        return refuse(why, ENGINE_E_LIMIT, "merges too long");
    const uint8_t *at = s->joined.data;
    for (i = 0; i < v->merge_count; i++)
        if (!s->merges[i].data && s->merges[i].len > 0) {
            s->merges[i].data = at;
            at += s->merges[i].len;
        }
    v->merges = s->merges;
    return true;
}

/* --- special tokens ------------------------------------------------------------------------------ */

static int32_t id_of(const struct source *s, size_t count, struct span name)
{
    for (size_t i = 0; name.len > 0 && i < count; i++)
        if (span_equal(s->pieces[i], name))
            return (int32_t)i;
    return -1;
}

/* "name" or {"content": "name"}. */
static struct span token_name(const json_t *config, const char *key)
{
    const json_t *v = json_object_get(config, key);
    return text_of(json_is_object(v) ? json_object_get(v, "content") : v);
}

/* The token that a TemplateProcessing post-processor puts before a text: Llama 3 says only here that it has a BOS. */
static struct span first_by_post_processor(const json_t *post)
{
    for (size_t i = 0; i < step_count(post, "processors"); i++) {
        const json_t *single = json_object_get(step_at(post, "processors", i), "single");
        const json_t *first = json_object_get(json_array_get(single, 0), "SpecialToken");
        if (first)
            return text_of(json_object_get(first, "id"));
    }
    return span_of(NULL, 0);
}

static bool read_ends(struct engine_vocab *v, struct source *s, struct engine_problem *why)
{
    const json_t *ids = json_object_get(s->generation, "eos_token_id");
    size_t count = json_is_array(ids) ? json_array_size(ids) : json_is_integer(ids) ? 1 : 0;
    if (count > 64)
        return refuse(why, ENGINE_E_LIMIT, "too many end tokens in generation_config.json");
    s->ends = calloc(count + 1, sizeof *s->ends);
    if (!s->ends)
        return refuse(why, ENGINE_E_MEMORY, "too little memory");
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_is_array(ids) ? json_array_get(ids, i) : ids;
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= (json_int_t)v->count)
            return refuse(why, ENGINE_E_RANGE, "generation_config.json: eos_token_id is not the id of a token");
        s->ends[v->end_count++] = (int32_t)json_integer_value(id);
    }
    v->ends = s->ends;
    return true;
}

static bool read_special(struct engine_vocab *v, struct source *s, struct engine_problem *why)
{
    struct span first = first_by_post_processor(json_object_get(s->root, "post_processor"));
    struct span bos = token_name(s->config, "bos_token");
    const json_t *add_bos = json_object_get(s->config, "add_bos_token");
    v->bos = id_of(s, v->count, bos.len > 0 ? bos : first);
    v->eos = id_of(s, v->count, token_name(s->config, "eos_token"));
    v->unknown = id_of(s, v->count, text_of(json_object_get(json_object_get(s->root, "model"), "unk_token")));
    v->add_bos = v->bos >= 0 && (json_is_boolean(add_bos) ? json_is_true(add_bos) : first.len > 0);
    v->add_eos = v->eos >= 0 && is_true(s->config, "add_eos_token");
    return read_ends(v, s, why);
}

static void read_chat_template(struct engine_vocab *v, const struct source *s, struct span text)
{
    const json_t *chat = json_object_get(s->config, "chat_template"), *item;
    size_t i;
    v->chat_template = text.len > 0 ? text : text_of(chat);
    if (text.len == 0)
        json_array_foreach(chat, i, item) if (v->chat_template.len == 0 ||
                                              span_is(text_of(json_object_get(item, "name")), "default"))
            v->chat_template = text_of(json_object_get(item, "template"));
}

static json_t *parse(struct span text, const char *file, struct engine_problem *why)
{
    json_error_t error;
    json_t *v = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(v)) {
        engine_problem_set(why, ENGINE_E_FORMAT, "%s: not a JSON object (line %d)", file, error.line);
        json_decref(v);
        return NULL;
    }
    return v;
}

static bool read_all(struct engine_vocab *v, struct source *s, const struct engine_tokenizer_texts *texts,
                     struct engine_problem *why)
{
    if (!(s->root = parse(texts->tokenizer, "tokenizer.json", why)) ||
        (texts->config.len > 0 && !(s->config = parse(texts->config, "tokenizer_config.json", why))) ||
        (texts->generation.len > 0 && !(s->generation = parse(texts->generation, "generation_config.json", why))))
        return false;
    const json_t *model = json_object_get(s->root, "model");
    if (strcmp(type_of(model), "BPE") != 0)
        return refuse(why, ENGINE_E_UNSUPPORTED, "model.type is not BPE");
    v->whole_first = is_true(model, "ignore_merges");
    if (!read_normalizer(v, json_object_get(s->root, "normalizer"), why) ||
        !read_pre_tokenizer(v, json_object_get(s->root, "pre_tokenizer"), why) || !read_pieces(v, s, why) ||
        !read_merges(v, s, why) || !read_special(v, s, why))
        return false;
    read_chat_template(v, s, texts->chat_template);
    return true;
}

struct engine_tokenizer *engine_tokenizer_open_json(const struct engine_tokenizer_texts *texts,
                                                    struct engine_problem *why)
{
    struct engine_vocab v = {.bos = -1, .eos = -1, .unknown = -1};
    struct source s = {.joined = writer_with_max((size_t)256 << 20)};
    struct engine_tokenizer *t = read_all(&v, &s, texts, why) ? engine_tokenizer_open(&v, why) : NULL;
    json_decref(s.root);
    json_decref(s.config);
    json_decref(s.generation);
    free(s.pieces);
    free(s.merges);
    free(s.types);
    free(s.ends);
    writer_release(&s.joined);
    return t;
}
