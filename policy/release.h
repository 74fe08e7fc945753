/* release.h - a publisher's release manifest: which measurements are this software. Body of a signed object of type
 * release: {v, version, images [{role, tee, measurement}]}. Clients that trust a publisher copy the measurements of a
 * release into their acceptance file: `airlock policy accept`. PROTOCOL.md § Signed objects. */
#ifndef POLICY_RELEASE_H
#define POLICY_RELEASE_H

#include "verifier/base/writer.h"
#include "verifier/err.h"
#include "verifier/types.h"

enum { POLICY_RELEASE_IMAGES_MAX = 64 };

struct policy_release_image {
    enum verifier_role role; /* VERIFIER_PROXY or VERIFIER_ENGINE */
    enum verifier_tee tee;
    uint8_t measurement[48];
};
struct policy_release {
    struct span version; /* text, 1 to 64 bytes; borrowed */
    size_t image_count;  /* 1 to POLICY_RELEASE_IMAGES_MAX, distinct */
    struct policy_release_image image[POLICY_RELEASE_IMAGES_MAX];
};

/* `*out` borrows from `in`; it must not be looked at after a refusal. */
MUST_CHECK enum verifier_err policy_release_parse(struct policy_release *out, struct span in);
void policy_release_encode(struct writer *w, const struct policy_release *in);

#endif
