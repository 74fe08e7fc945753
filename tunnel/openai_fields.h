/* openai_fields.h - reading the fields of a request: each getter checks presence, type and range, and names the field
 * it refuses. Private to tunnel/openai_*.c. `null` equals leaving a field out. After the first refusal every
 * getter is silent, so a parser reads like the table of fields and checks once. */
#ifndef TUNNEL_OPENAI_FIELDS_H
#define TUNNEL_OPENAI_FIELDS_H

#include <jansson.h>

#include "tunnel/openai.h"

struct fields {
    json_t *object;
    struct openai_error *why; /* filled by the first refusal */
    bool bad;
    size_t arguments; /* bytes of JSON inside texts so far */
};

/* Refuse with 400, naming `param`. */
void fields_refuse(struct fields *f, const char *param, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The value of `name`, NULL when absent, null or already refused. */
json_t *fields_get(struct fields *f, const char *name);
void fields_bool(struct fields *f, const char *name, bool *out);
void fields_real(struct fields *f, const char *name, double min, double max, double *out);
/* True when the field is there. */
bool fields_int(struct fields *f, const char *name, json_int_t min, json_int_t max, json_int_t *out);
void fields_u32(struct fields *f, const char *name, json_int_t min, json_int_t max, uint32_t *out);
/* A string of `min` to `max` bytes, borrowed. */
void fields_text(struct fields *f, const char *name, size_t min, size_t max, struct span *out);
/* An object or array dumped compactly into memory that the caller frees; NULL when absent. */
char *fields_dump(struct fields *f, const char *name, json_type type, struct span *out);
/* Refuse the field when it is there with another value than null, false, 0, "" or an empty container. */
void fields_unsupported(struct fields *f, const char *name);

/* messages, tools, tool_choice of a chat request; texts go to `r`. */
void openai_chat_parse(struct openai_request *r, struct fields *f);
/* `echo` of a chat: only the text of a last message by the assistant, which the codec itself repeats. */
void openai_chat_echo(struct openai_request *r);
/* response_format, guided_*, structured_outputs. */
void openai_format_parse(struct openai_request *r, struct fields *f);
json_t *openai_error_json(const struct openai_error *e);

#endif
