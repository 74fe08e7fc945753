/* log.c - lines and their chain. */
#include "policy/log.h"

#include "policy/config.h"
#include "verifier/types.h"

static void hash_line(uint8_t out[64], const uint8_t before[64], struct span line)
{
    struct verifier_hash h;
    verifier_hash_begin(&h, VERIFIER_SHA512);
    verifier_hash_add_lp(&h, span_str("airlock log v1"));
    verifier_hash_add(&h, span_of(before, 64));
    verifier_hash_add_lp(&h, line);
    verifier_hash_finish(&h, out);
}

static void write_hex(struct writer *w, struct span bytes)
{
    char hex[2 * 64 + 1];
    if (bytes.len > 64)
        bytes.len = 64;
    policy_hex_print(bytes, hex);
    writer_printf(w, "\"%s\"", hex);
}

struct policy_log_line policy_log_begin(struct policy_log *log, uint64_t at, const char *event)
{
    struct policy_log_line l = {.log = log, .text = writer_with_max(POLICY_LOG_LINE_MAX)};
    writer_printf(&l.text, "{\"i\":%llu,\"at\":%llu,\"event\":\"%s\",\"prev\":", (unsigned long long)(log->count + 1),
                  (unsigned long long)at, event);
    write_hex(&l.text, span_of(log->head, sizeof log->head));
    return l;
}

void policy_log_number(struct policy_log_line *l, const char *key, uint64_t value)
{
    writer_printf(&l->text, ",\"%s\":%llu", key, (unsigned long long)value);
}

void policy_log_hex(struct policy_log_line *l, const char *key, struct span bytes)
{
    writer_printf(&l->text, ",\"%s\":", key);
    write_hex(&l->text, bytes);
}

static bool is_word_byte(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("_.:/-", c));
}

void policy_log_word(struct policy_log_line *l, const char *key, struct span word)
{
    writer_printf(&l->text, ",\"%s\":\"", key);
    for (size_t i = 0; i < word.len && i < POLICY_LOG_TEXT_MAX; i++)
        writer_u8(&l->text, is_word_byte(word.data[i]) ? word.data[i] : '?');
    writer_u8(&l->text, '"');
}

bool policy_log_end(struct policy_log_line *l, struct writer *out)
{
    writer_u8(&l->text, '}');
    bool good = writer_ok(&l->text);
    if (good) {
        writer_bytes(out, writer_span(&l->text));
        writer_u8(out, '\n');
        good = writer_ok(out);
    }
    if (good) {
        hash_line(l->log->head, l->log->head, writer_span(&l->text));
        l->log->count++;
    }
    writer_release(&l->text);
    return good;
}

/* Does `line` begin as the successor of `log` must? The rest is covered by the next line's "prev". */
static bool line_follows(const struct policy_log *log, struct span line)
{
    char hex[129], want[192];
    struct writer prefix = writer_with_max(64);
    writer_printf(&prefix, "{\"i\":%llu,\"at\":", (unsigned long long)(log->count + 1));
    policy_hex_print(span_of(log->head, 64), hex);
    size_t len = 0;
    for (const char *part = "\",\"prev\":\""; *part; part++)
        want[len++] = *part;
    memcpy(want + len, hex, 128);
    bool good = writer_ok(&prefix) && line.len > prefix.len && line.len <= POLICY_LOG_LINE_MAX &&
                memcmp(line.data, prefix.data, prefix.len) == 0 && line.data[line.len - 1] == '}' &&
                memmem(line.data, line.len, want, len + 128) != NULL;
    writer_release(&prefix);
    return good;
}

uint64_t policy_log_check(struct span text, struct policy_log *out, bool *ok)
{
    struct policy_log log = {0};
    *ok = true;
    while (text.len > 0 && *ok) {
        const uint8_t *end = memchr(text.data, '\n', text.len);
        struct span line = span_of(text.data, end ? (size_t)(end - text.data) : text.len);
        *ok = end && line_follows(&log, line);
        if (*ok) {
            hash_line(log.head, log.head, line);
            log.count++;
            text = span_of(end + 1, text.len - line.len - 1);
        }
    }
    if (out)
        *out = log;
    return log.count;
}
