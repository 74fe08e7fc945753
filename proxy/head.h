/* head.h - is this HTTP/1.1 request head one that no two parsers could read differently?
 * A pure check over the raw bytes, stricter than the server library's own parser: framing that could hide a second
 * request, bare line feeds, folded lines and doubled Host or length fields are refused by name.
 * Source: RFC 9112 § 3.2, 5, 6.3; specs/openai-api § 1. No allocation, no I/O. */
#ifndef PROXY_HEAD_H
#define PROXY_HEAD_H

#include "verifier/base/span.h"

enum head_err {
    HEAD_OK = 0,
    HEAD_INCOMPLETE,        /* no empty line yet */
    HEAD_E_LINE,            /* not METHOD SP TARGET SP HTTP/1.x */
    HEAD_E_BARE_LF,         /* a line that does not end in CR LF, or a lone CR */
    HEAD_E_FOLD,            /* a field line that begins with white space */
    HEAD_E_FIELD,           /* no colon, white space before it, or a name that is not a token */
    HEAD_E_CONTROL,         /* a control character in a value */
    HEAD_E_HOST,            /* HTTP/1.1 without Host, or two */
    HEAD_E_LENGTH,          /* Content-Length that is not 1 to 15 digits */
    HEAD_E_LENGTH_TWICE,    /* two Content-Length fields */
    HEAD_E_LENGTH_CODING,   /* Content-Length beside Transfer-Encoding */
    HEAD_E_TRANSFER_CODING, /* anything but one `chunked` */
};

struct head {
    size_t size; /* bytes up to and including the empty line */
    struct span method, target;
    struct span host, origin, authorization; /* borrowed, trimmed; empty when absent */
    bool has_length, chunked;
    uint64_t length; /* Content-Length */
};

/* Read the head at the start of `raw`; what follows it is ignored. `*out` borrows from `raw` and is complete only
 * with HEAD_OK. */
MUST_CHECK enum head_err head_parse(struct head *out, struct span raw);
/* A sentence for the answer's message. */
const char *head_err_text(enum head_err err);

#endif
