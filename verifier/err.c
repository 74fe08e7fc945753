#include "verifier/err.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
    const char *name, *remedy;
} errors[VERIFIER_ERR_COUNT] = {[VERIFIER_OK] = {"ok", ""},
#define X(id, text, advice) [VERIFIER_E_##id] = {text, advice},
                                VERIFIER_ERRORS(X)
#undef X
};

static size_t slot(enum verifier_err err)
{
    return (size_t)err < VERIFIER_ERR_COUNT ? (size_t)err : VERIFIER_E_INTERNAL;
}

const char *verifier_err_name(enum verifier_err err)
{
    return errors[slot(err)].name;
}

const char *verifier_err_remedy(enum verifier_err err)
{
    return errors[slot(err)].remedy;
}

enum verifier_err verifier_err_of_reader(enum reader_err err)
{
    switch (err) {
    case READER_OK:
        return VERIFIER_OK;
    case READER_TRUNCATED:
        return VERIFIER_E_TRUNCATED;
    case READER_TRAILING:
        return VERIFIER_E_TRAILING;
    case READER_TYPE:
        return VERIFIER_E_TYPE;
    case READER_MINIMAL:
        return VERIFIER_E_MINIMAL;
    case READER_KEY:
        return VERIFIER_E_KEY;
    case READER_SIZE:
        return VERIFIER_E_SIZE;
    case READER_RANGE:
        return VERIFIER_E_RANGE;
    case READER_TEXT:
        return VERIFIER_E_TEXT;
    case READER_VALUE:
        return VERIFIER_E_VALUE;
    case READER_DUPLICATE:
        return VERIFIER_E_DUPLICATE;
    }
    return VERIFIER_E_INTERNAL;
}

void verifier_note_observed(struct verifier_note *note, const char *format, ...)
{
    if (!note)
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(note->observed, sizeof note->observed, format, args);
    va_end(args);
}

void verifier_note_required(struct verifier_note *note, const char *format, ...)
{
    if (!note)
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(note->required, sizeof note->required, format, args);
    va_end(args);
}
