/* problem.c - reasons and sentences. */
#include "engine/problem.h"

#include <stdarg.h>
#include <stdio.h>

const char *engine_err_name(enum engine_err code)
{
    static const char *const names[] = {
        [ENGINE_OK] = "ok",
        [ENGINE_E_IO] = "io",
        [ENGINE_E_MEMORY] = "memory",
        [ENGINE_E_TRUNCATED] = "truncated",
        [ENGINE_E_FORMAT] = "format",
        [ENGINE_E_LIMIT] = "limit",
        [ENGINE_E_MISSING] = "missing",
        [ENGINE_E_TYPE] = "type",
        [ENGINE_E_SHAPE] = "shape",
        [ENGINE_E_RANGE] = "range",
        [ENGINE_E_DUPLICATE] = "duplicate",
        [ENGINE_E_OVERLAP] = "overlap",
        [ENGINE_E_UNSUPPORTED] = "unsupported",
        [ENGINE_E_CALL] = "call",
        [ENGINE_E_MISMATCH] = "mismatch",
        [ENGINE_E_SYNTAX] = "syntax",
        [ENGINE_E_VALUE] = "value",
        [ENGINE_E_DEVICE] = "device",
        [ENGINE_E_REFUSED] = "refused",
    };
    return (size_t)code < sizeof names / sizeof *names ? names[code] : "unknown";
}

enum engine_err engine_problem_set(struct engine_problem *p, enum engine_err code, const char *format, ...)
{
    if (!p || p->code != ENGINE_OK)
        return code;
    p->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(p->text, sizeof p->text, format, args);
    va_end(args);
    for (char *c = p->text; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            *c = '?';
    return code;
}
