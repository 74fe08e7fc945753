/* keytext.h - a secret key as one line of text, as key files hold it: a word for its kind, a space, 64 hex digits. */
#ifndef POLICY_KEYTEXT_H
#define POLICY_KEYTEXT_H

#include "verifier/base/secret.h"
#include "verifier/base/writer.h"

#define POLICY_KEYTEXT_SIGN "airlock-ed25519-private" /* Ed25519 seed */
#define POLICY_KEYTEXT_WEIGHT "airlock-weight-key"    /* of a sealed model, or one share of it */
#define POLICY_KEYTEXT_MAX 256                        /* bytes of a key file */

/* `*out` is yours (secret_release). False when the text is not one key of this kind; white space at its end is fine. */
MUST_CHECK bool policy_keytext_parse(struct secret *out, const char *kind, struct span text);
void policy_keytext_print(struct writer *w, const char *kind, struct span key);

#endif
