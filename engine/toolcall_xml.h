/* toolcall_xml.h - tool calls as Qwen3-Coder writes them, for engine/toolcall.c alone:
 * <tool_call> <function=NAME> <parameter=KEY> VALUE </parameter> .. </function> </tool_call>, white space between.
 * The first and the last tag may be missing, as in vLLM's qwen3_coder. Nothing in a value is escaped: it ends at the
 * </parameter> after which only another tag of the frame can follow; whatever else looks like a tag is its text. */
#ifndef ENGINE_TOOLCALL_XML_H
#define ENGINE_TOOLCALL_XML_H

#include <jansson.h>

#include "verifier/base/writer.h"

enum {
    TOOLCALL_XML_NAME_MAX = 256,  /* bytes of a function's or parameter's name */
    TOOLCALL_XML_BLANK_MAX = 64,  /* bytes of white space between tags where the next one decides */
    TOOLCALL_XML_PARAMETERS = 128 /* of one call */
};

enum toolcall_xml_state {
    TOOLCALL_XML_HEAD,
    TOOLCALL_XML_NAME,
    TOOLCALL_XML_BODY,
    TOOLCALL_XML_VALUE,
    TOOLCALL_XML_TAIL
};

struct toolcall_xml_part {
    size_t at, len; /* of the call's text */
};

struct toolcall_xml {
    enum toolcall_xml_state state;
    size_t at; /* bytes read */
    struct toolcall_xml_part name;
    bool doubtful;        /* there was a </parameter> in this value that did not end it */
    const json_t *schema; /* the function's parameters, set by the caller once the name is known; NULL: none */
    size_t count;
    struct {
        struct toolcall_xml_part key, value;
    } parameter[TOOLCALL_XML_PARAMETERS];
};

enum toolcall_xml_got {
    TOOLCALL_XML_MORE,  /* more text is needed */
    TOOLCALL_XML_NAMED, /* `name` is there, once: go on, or it is no call: its first tag, `at` bytes, is content */
    TOOLCALL_XML_WHOLE, /* a call of `at` bytes */
    TOOLCALL_XML_BROKEN /* no call: `at` bytes are content */
};

/* Read on in `text`, all that came since the first tag. Begins with a struct of zeros. `last`: nothing follows. */
MUST_CHECK enum toolcall_xml_got toolcall_xml_read(struct toolcall_xml *x, struct span text, bool last);
/* Append the arguments of a whole call as a JSON object. Values are converted by the types in the schema (JSON of one
 * of them, true and false in any case, integers and numbers as Python reads them); what does not convert is a string,
 * and so is every value that may be one and nothing else. Of two values for one key the last counts. False when that
 * gives no JSON. */
MUST_CHECK bool toolcall_xml_arguments(const struct toolcall_xml *x, struct span text, struct writer *json);

#endif
