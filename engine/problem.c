#include "engine/problem.h"

#include <stdarg.h>
#include <stdio.h>

enum engine_err engine_problem_set(struct engine_problem *p, enum engine_err err, const char *format, ...)
{
    if (!p)
        return err;
    if (p->err != ENGINE_OK)
        return p->err;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(p->text, sizeof p->text, format, args);
    va_end(args);
    /* Names out of a model file may hold anything: one line of printable text goes to the log. */
    for (char *c = p->text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    p->err = err;
    return err;
}
