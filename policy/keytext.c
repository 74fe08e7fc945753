#include "policy/keytext.h"

#include <ctype.h>

#include "policy/config.h"

bool policy_keytext_parse(struct secret *out, const char *kind, struct span text)
{
    size_t skip = strlen(kind) + 1;
    *out = (struct secret){0};
    while (text.len > 0 && isspace(text.data[text.len - 1]))
        text.len--;
    bool good = text.len == skip + 64 && memcmp(text.data, kind, skip - 1) == 0 && text.data[skip - 1] == ' ' &&
                secret_init(out, 32) && policy_hex_parse(span_of(text.data + skip, 64), out->data, 32);
    if (!good)
        secret_release(out);
    return good;
}

void policy_keytext_print(struct writer *w, const char *kind, struct span key)
{
    char hex[2 * 64 + 1];
    if (key.len > 64)
        key.len = 64;
    policy_hex_print(key, hex);
    writer_str(w, kind);
    writer_str(w, " ");
    writer_str(w, hex);
    writer_str(w, "\n");
    secret_wipe(hex, sizeof hex);
}
