/* tree.h - the Merkle tree over leaves that one quote covers. PROTOCOL.md § Objects, tree: the shape of RFC 9162
 * with SHA-512, node = H(0x01, left, right); a leaf value is the leaf node, it is not hashed again. */
#ifndef VERIFIER_TREE_H
#define VERIFIER_TREE_H

#include "verifier/err.h"
#include "verifier/types.h"

/* Root of 1 to 65536 leaves. VERIFIER_E_SIZE for another number, VERIFIER_E_DUPLICATE when two leaves are equal,
 * VERIFIER_E_INTERNAL without memory. */
MUST_CHECK enum verifier_err verifier_tree_root(const uint8_t (*leaves)[VERIFIER_DIGEST_LEN], size_t count,
                                                uint8_t root[VERIFIER_DIGEST_LEN]);
/* The path of leaf `index` < `count`, its sibling first. */
void verifier_tree_path(const uint8_t (*leaves)[VERIFIER_DIGEST_LEN], size_t count, size_t index,
                        uint8_t path[VERIFIER_PATH_MAX][VERIFIER_DIGEST_LEN], size_t *path_len);
/* The root that `leaf` at `index` of a tree of `size` leads to. VERIFIER_E_INDEX when the index is outside,
 * VERIFIER_E_PATH when the path has another length than that place has. */
MUST_CHECK enum verifier_err verifier_tree_climb(const uint8_t leaf[VERIFIER_DIGEST_LEN], uint64_t size, uint64_t index,
                                                 const uint8_t (*path)[VERIFIER_DIGEST_LEN], size_t path_len,
                                                 uint8_t root[VERIFIER_DIGEST_LEN]);
/* The same, and VERIFIER_E_ROOT when it leads to another root than `root`. */
MUST_CHECK enum verifier_err verifier_tree_check(const uint8_t leaf[VERIFIER_DIGEST_LEN], uint64_t size, uint64_t index,
                                                 const uint8_t (*path)[VERIFIER_DIGEST_LEN], size_t path_len,
                                                 const uint8_t root[VERIFIER_DIGEST_LEN]);

#endif
