/* log.h - a hash-chained log without content: what happened, when, with which ids, sizes and digests; never a prompt,
 * an answer, a key or a name that a caller chose. One JSON line an entry; each carries the head before it, so a line
 * taken out, changed or put in shows at the next.
 *   head_0 = 64 zero bytes;  head_i = H(lp("airlock log v1") || head_(i-1) || lp(line i))
 * A line: {"i":7,"at":1795168800,"event":"lease","prev":"hex", ...}, fields in the order they were added. Pure: the
 * caller keeps the file. */
#ifndef POLICY_LOG_H
#define POLICY_LOG_H

#include "verifier/base/writer.h"

enum { POLICY_LOG_LINE_MAX = 2048, POLICY_LOG_TEXT_MAX = 128 };

struct policy_log {
    uint64_t count;   /* lines so far; the next one is number `count` + 1 */
    uint8_t head[64]; /* after the last line */
};

/* Build one line: begin, fields, end. `event` and `key` are literals of lower-case letters and '_'. */
struct policy_log_line {
    struct policy_log *log;
    struct writer text;
};
struct policy_log_line policy_log_begin(struct policy_log *log, uint64_t at, const char *event);
void policy_log_number(struct policy_log_line *l, const char *key, uint64_t value);
void policy_log_hex(struct policy_log_line *l, const char *key, struct span bytes); /* at most 64 bytes */
/* A short word such as a code or a role: only [A-Za-z0-9_.:/-] pass, anything else becomes '?'; at most 128 bytes. */
void policy_log_word(struct policy_log_line *l, const char *key, struct span word);
/* Ends the line, moves the log's head and appends line and newline to `out`. False: too long, nothing changed. */
MUST_CHECK bool policy_log_end(struct policy_log_line *l, struct writer *out);

/* Follow the chain over a whole log text. Returns the number of good lines; `*ok` is false when some line is not the
 * successor of the one before it or the text does not end in a newline. `out` (may be NULL) is the log after them. */
uint64_t policy_log_check(struct span text, struct policy_log *out, bool *ok);

#endif
