/* codec.h - bytes out of text: hexadecimal digits and base64 (RFC 4648). */
#ifndef VERIFIER_BASE_CODEC_H
#define VERIFIER_BASE_CODEC_H

#include "verifier/base/span.h"

/* Exactly `len` bytes of hexadecimal digits in either case; false for anything else, then `out` is undefined. */
MUST_CHECK bool codec_unhex(struct span text, uint8_t *out, size_t len);
/* Base64 with padding, white space anywhere between; the number of bytes, 0 when there are none, when they are more
 * than `cap`, or when the text is malformed (also: bits left over at its end that are not zero). */
MUST_CHECK size_t codec_unbase64(struct span text, uint8_t *out, size_t cap);

#endif
