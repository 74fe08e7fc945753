/* utf8.h - is it UTF-8? Strict: no overlong form, no surrogate, nothing above U+10FFFF (RFC 3629). */
#ifndef VERIFIER_BASE_UTF8_H
#define VERIFIER_BASE_UTF8_H

#include "verifier/base/span.h"

/* Length of the well-formed character at the start of `s`, 1 to 4; 0 when `s` is empty or ill-formed there. */
size_t utf8_step(struct span s);
bool utf8_is_valid(struct span s);
/* Valid, and without U+0000-001F and U+007F. */
bool utf8_is_printable(struct span s);
/* How many bytes at the end of `s` begin a character that more bytes could complete: 0 to 3. */
size_t utf8_tail(struct span s);

#endif
