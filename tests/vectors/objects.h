/* objects.h - the protocol's objects by their names in the vectors: bytes to a JSON value, and back to bytes.
 * In a value bin is lower-case hex, text is itself, absent is null (vectors/protocol/README.md). */
#ifndef TESTS_VECTORS_OBJECTS_H
#define TESTS_VECTORS_OBJECTS_H

#include <jansson.h>

#include "verifier/base/writer.h"
#include "verifier/err.h"

/* Parse `bytes` as `object` ("challenge", "state", ...). On VERIFIER_OK *value is new and `again` holds what the
 * project encodes from what it parsed. `value` and `again` may be NULL. VERIFIER_E_INTERNAL: no such object. */
enum verifier_err objects_read(const char *object, struct span bytes, json_t **value, struct writer *again);

/* Bytes of lower-case hex, malloc'ed; `*len` SIZE_MAX when it is malformed or no string. */
uint8_t *objects_unhex(const json_t *hex, size_t *len);
/* The same into `out`; false when it is not exactly `len` bytes. */
bool objects_unhex_fixed(const json_t *hex, void *out, size_t len);
json_t *objects_hex(struct span bytes);
/* The bytes of a hex string, kept until objects_release(); data NULL when it is malformed. */
struct span objects_bytes(const json_t *hex);
void objects_release(void);

#endif
