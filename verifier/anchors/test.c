/* The anchors of a test program. */
#include "verifier/anchors/test.h"

#include "verifier/anchors/vendors.h"

static struct {
    uint8_t sha256[32];
    struct verifier_anchor anchor;
} injected[VERIFIER_ANCHORS_INJECTED_MAX];
static size_t injected_count;

bool verifier_anchors_inject(const uint8_t sha256[32], const struct verifier_anchor *anchor)
{
    if (injected_count == VERIFIER_ANCHORS_INJECTED_MAX)
        return false;
    memcpy(injected[injected_count].sha256, sha256, 32);
    injected[injected_count].anchor = *anchor;
    injected_count++;
    return true;
}

void verifier_anchors_reset(void)
{
    injected_count = 0;
}

bool verifier_anchor_find(const uint8_t sha256[32], struct verifier_anchor *out)
{
    for (size_t i = 0; i < injected_count; i++) {
        if (memcmp(injected[i].sha256, sha256, 32) == 0) {
            *out = injected[i].anchor;
            return true;
        }
    }
    return vendor_anchor_find(sha256, out);
}
