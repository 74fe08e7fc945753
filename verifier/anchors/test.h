/* test.h - anchors for tests: the vendors' and the ones a test injects. Linked into test programs only. */
#ifndef VERIFIER_ANCHORS_TEST_H
#define VERIFIER_ANCHORS_TEST_H

#include "verifier/anchors.h"

#define VERIFIER_ANCHORS_INJECTED_MAX 8

/* Accept also the root with this digest, until verifier_anchors_reset(). False when the list is full. */
MUST_CHECK bool verifier_anchors_inject(const uint8_t sha256[32], const struct verifier_anchor *anchor);
/* Only the vendors' anchors again. */
void verifier_anchors_reset(void);

#endif
