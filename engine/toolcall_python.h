/* toolcall_python.h - tool calls that a model writes as Python, for engine/toolcall.c alone. */
#ifndef ENGINE_TOOLCALL_PYTHON_H
#define ENGINE_TOOLCALL_PYTHON_H

#include "verifier/base/writer.h"

/* Appends a JSON array of {"name", "arguments"} for `calls`, a Python list of calls with named literal arguments and
 * nothing else. False when it is something else; what was appended then means nothing. */
MUST_CHECK bool toolcall_from_python(struct span calls, struct writer *json);

#endif
