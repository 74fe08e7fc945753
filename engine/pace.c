#include "engine/pace.h"

enum {
    USUAL_PERCENT = 200,  /* of the usual step: most of a step with prompts beside decoding */
    DECODE_PERCENT = 330, /* of a step without prompts: the same */
    BESIDE_NS = 150000000,
    ALONE_NS = 600000000,
};

static size_t class_of(size_t rows)
{
    size_t c = 0;
    while (rows >>= 1)
        c++;
    return c < PACE_CLASSES ? c : PACE_CLASSES - 1;
}

/* Time of a step that decodes about `rows` rows and nothing else, else of a smaller such step, else of a larger one;
 * 0: none was seen. */
static uint64_t decode_ns(const struct pace *p, size_t rows)
{
    size_t c = class_of(rows);
    while (c > 0 && !p->decode_ns[c])
        c--;
    while (c < PACE_CLASSES - 1 && !p->decode_ns[c])
        c++;
    return p->decode_ns[c];
}

static uint32_t tokens_in(uint64_t ns, uint64_t token_ns)
{
    uint64_t tokens = token_ns ? ns / token_ns + 1 : 0;
    return tokens < UINT32_MAX ? (uint32_t)tokens : UINT32_MAX;
}

uint32_t pace_beside(const struct pace *p, size_t decoding)
{
    uint64_t decode = decode_ns(p, decoding);
    uint64_t most = (p->usual_ns > decode ? p->usual_ns : decode) * USUAL_PERCENT / 100;
    if (decode > 0 && most > decode * DECODE_PERCENT / 100)
        most = decode * DECODE_PERCENT / 100;
    most -= decode;
    return tokens_in(most && most < BESIDE_NS ? most : BESIDE_NS, p->beside_ns ? p->beside_ns : p->alone_ns);
}

uint32_t pace_alone(const struct pace *p)
{
    return tokens_in(ALONE_NS, p->alone_ns);
}

/* Move towards the time that a third of the steps do not exceed: up by a little when one does, down by twice that.
 * Slowly, over hundreds of steps: what follows a burst of prompts would count the burst itself as usual. */
static void note_usual(uint64_t *usual, uint64_t ns)
{
    if (*usual == 0)
        *usual = ns;
    else if (ns > *usual)
        *usual += *usual / 320;
    else
        *usual -= *usual / 160;
}

static void smooth(uint64_t *mean, uint64_t value)
{
    *mean = *mean ? (3 * *mean + value) / 4 : value;
}

void pace_note(struct pace *p, uint64_t ns, size_t decoding, uint32_t prompt)
{
    uint64_t without = decode_ns(p, decoding);
    if (decoding > 0)
        note_usual(&p->usual_ns, ns);
    if (prompt == 0)
        smooth(&p->decode_ns[class_of(decoding)], ns + 1);
    else if (decoding == 0)
        smooth(&p->alone_ns, ns / prompt + 1);
    else if (without)
        smooth(&p->beside_ns, (ns > without ? ns - without : 0) / prompt + 1);
}
