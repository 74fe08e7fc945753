/* response.h - a bounded reader of one HTTP/1.1 response: head, then body by length, chunks or end of connection.
 * Pure: bytes in, pieces of body out; no I/O, no allocation. Whatever could be read in two ways is refused
 * (RFC 9112 § 6.3): both length and coding, two lengths, bare line feeds, odd chunk sizes.
 * A body that ends before its announced end is never complete. */
#ifndef PROXY_RESPONSE_H
#define PROXY_RESPONSE_H

#include "verifier/base/span.h"

enum { RESPONSE_HEAD_MAX = 32 << 10, RESPONSE_FIELD_MAX = 256 };

enum response_err {
    RESPONSE_OK = 0,
    RESPONSE_E_HEAD,     /* malformed status or field line, or too long */
    RESPONSE_E_FRAMING,  /* lengths or codings that contradict each other, or an unknown coding */
    RESPONSE_E_CHUNK,    /* malformed chunk */
    RESPONSE_E_TRUNCATED /* the connection ended inside the response */
};

struct response {
    enum response_err err;
    int status; /* 0 until the head is complete */
    bool keep_alive;
    /* Fields that a caller may want; NUL-terminated, empty when absent or longer than the room. */
    char content_type[RESPONSE_FIELD_MAX], retry_after[16], request_id[RESPONSE_FIELD_MAX], allow[64],
        www_authenticate[64];

    /* --- inside --- */
    enum {
        RESPONSE_HEAD,
        RESPONSE_LENGTH,
        RESPONSE_TO_END,
        RESPONSE_SIZE,
        RESPONSE_DATA,
        RESPONSE_DATA_END,
        RESPONSE_TRAILER,
        RESPONSE_DONE
    } state;
    bool no_body, has_length, chunked;
    uint64_t left; /* of the body or chunk */
    size_t line_len, head_len;
    char line[4096 + 512]; /* the line being collected: head, chunk size or trailer */
};

/* Start; `to_head`: it answers a HEAD request, so no body follows. */
void response_init(struct response *r, bool to_head);
/* Consume from `in`: returns the bytes taken (with an error: all of them). `*body` is a piece of the body, borrowed
 * from `in`, maybe empty. Call again with the rest until nothing is taken or response_is_done(). */
size_t response_feed(struct response *r, struct span in, struct span *body);
/* The peer has closed: completes a body that lasts to the end, else sets RESPONSE_E_TRUNCATED. */
void response_eof(struct response *r);
static inline bool response_is_done(const struct response *r)
{
    return r->err == RESPONSE_OK && r->state == RESPONSE_DONE;
}
static inline bool response_has_head(const struct response *r)
{
    return r->err == RESPONSE_OK && r->state != RESPONSE_HEAD;
}
const char *response_err_text(enum response_err err);

#endif
