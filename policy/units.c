/* units.c - durations, sizes, dates, fractions and hex: text to number and back. */
#include <stdio.h>
#include <time.h>

#include "policy/config.h"
#include "verifier/base/codec.h"
#include "verifier/types.h"

/* Decimal digits at the start of `*s`, 1 to 15 of them; moves past. */
static bool digits_take(struct span *s, uint64_t *value, size_t max)
{
    size_t n = 0;
    uint64_t v = 0;
    while (n < s->len && s->data[n] >= '0' && s->data[n] <= '9') {
        if (n == max)
            return false;
        v = v * 10 + (uint64_t)(s->data[n++] - '0');
    }
    *value = v;
    s->data += n;
    s->len -= n;
    return n > 0;
}

bool policy_duration_parse(struct span text, uint64_t *seconds)
{
    static const struct {
        char unit;
        uint64_t in_s;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    uint64_t n;
    if (!digits_take(&text, &n, 9) || text.len != 1)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (text.data[0] == (uint8_t)units[i].unit) {
            *seconds = n * units[i].in_s;
            return true;
        }
    }
    return false;
}

bool policy_size_parse(struct span text, uint64_t *bytes)
{
    static const struct {
        const char *unit;
        unsigned shift;
    } units[] = {{"", 0}, {"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
    uint64_t n;
    if (!digits_take(&text, &n, 15))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (span_is(text, units[i].unit) && n <= UINT64_MAX >> (units[i].shift + 1)) {
            *bytes = n << units[i].shift;
            return true;
        }
    }
    return false;
}

static bool byte_take(struct span *s, char c)
{
    if (s->len == 0 || s->data[0] != (uint8_t)c)
        return false;
    s->data++;
    s->len--;
    return true;
}

/* Exactly `width` digits in `min` to `max`. */
static bool field_take(struct span *s, size_t width, uint64_t min, uint64_t max, int *out)
{
    struct span part = span_of(s->data, width);
    uint64_t v;
    if (s->len < width || !digits_take(&part, &v, width) || part.len != 0 || v < min || v > max)
        return false;
    s->data += width;
    s->len -= width;
    *out = (int)v;
    return true;
}

bool policy_date_parse(struct span text, uint64_t *seconds)
{
    struct tm t = {0};
    if (!field_take(&text, 4, 1970, 9999, &t.tm_year) || !byte_take(&text, '-') ||
        !field_take(&text, 2, 1, 12, &t.tm_mon) || !byte_take(&text, '-') || !field_take(&text, 2, 1, 31, &t.tm_mday))
        return false;
    if (text.len != 0 && (!byte_take(&text, 'T') || !field_take(&text, 2, 0, 23, &t.tm_hour) ||
                          !byte_take(&text, ':') || !field_take(&text, 2, 0, 59, &t.tm_min) || !byte_take(&text, ':') ||
                          !field_take(&text, 2, 0, 59, &t.tm_sec) || !byte_take(&text, 'Z') || text.len != 0))
        return false;
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    int month = t.tm_mon;
    time_t at = timegm(&t);
    if (at <= 0 || (uint64_t)at > VERIFIER_TIME_MAX || t.tm_mon != month) /* 31 April would become May */
        return false;
    *seconds = (uint64_t)at;
    return true;
}

void policy_date_print(uint64_t seconds, char out[32])
{
    time_t at = (time_t)(seconds & VERIFIER_TIME_MAX);
    struct tm t;
    gmtime_r(&at, &t);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &t);
}

bool policy_fraction_parse(struct span text, double *out)
{
    uint64_t whole, part = 0;
    double scale = 1;
    if (!digits_take(&text, &whole, 9))
        return false;
    if (byte_take(&text, '.')) {
        size_t places = text.len;
        if (!digits_take(&text, &part, 9))
            return false;
        for (size_t i = 0; i < places; i++)
            scale *= 10;
    }
    if (text.len != 0)
        return false;
    *out = (double)whole + (double)part / scale;
    return true;
}

bool policy_hex_parse(struct span text, uint8_t *out, size_t len)
{
    return codec_unhex(text, out, len);
}

void policy_hex_print(struct span in, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < in.len; i++) {
        *out++ = digits[in.data[i] >> 4];
        *out++ = digits[in.data[i] & 15];
    }
    *out = '\0';
}
