#include "verifier/tree.h"

#include <stdlib.h>

static void node(uint8_t out[VERIFIER_DIGEST_LEN], const uint8_t left[VERIFIER_DIGEST_LEN],
                 const uint8_t right[VERIFIER_DIGEST_LEN])
{
    uint8_t in[1 + 2 * VERIFIER_DIGEST_LEN] = {0x01};
    memcpy(in + 1, left, VERIFIER_DIGEST_LEN);
    memcpy(in + 1 + VERIFIER_DIGEST_LEN, right, VERIFIER_DIGEST_LEN);
    verifier_sha512(out, span_of(in, sizeof in));
}

/* The largest power of two below `count` >= 2: how many leaves the left subtree has (RFC 9162 § 2.1.1). */
static size_t left_of(size_t count)
{
    size_t left = 1;
    while (left * 2 < count)
        left *= 2;
    return left;
}

/* Depth is at most 16: the callers bound `count` by 65536. */
static void subtree(const uint8_t (*leaves)[VERIFIER_DIGEST_LEN], size_t count, uint8_t root[VERIFIER_DIGEST_LEN])
{
    if (count == 1) {
        memcpy(root, leaves[0], VERIFIER_DIGEST_LEN);
        return;
    }
    uint8_t left[VERIFIER_DIGEST_LEN], right[VERIFIER_DIGEST_LEN];
    size_t split = left_of(count);
    subtree(leaves, split, left);
    subtree(leaves + split, count - split, right);
    node(root, left, right);
}

static int compare(const void *a, const void *b)
{
    return memcmp(*(const uint8_t *const *)a, *(const uint8_t *const *)b, VERIFIER_DIGEST_LEN);
}

static enum verifier_err check_distinct(const uint8_t (*leaves)[VERIFIER_DIGEST_LEN], size_t count)
{
    const uint8_t **sorted = malloc(count * sizeof *sorted);
    enum verifier_err err = VERIFIER_OK;
    if (!sorted)
        return VERIFIER_E_INTERNAL;
    for (size_t i = 0; i < count; i++)
        sorted[i] = leaves[i];
    qsort(sorted, count, sizeof *sorted, compare);
    for (size_t i = 1; i < count; i++)
        if (memcmp(sorted[i - 1], sorted[i], VERIFIER_DIGEST_LEN) == 0)
            err = VERIFIER_E_DUPLICATE;
    free(sorted);
    return err;
}

enum verifier_err verifier_tree_root(const uint8_t (*leaves)[VERIFIER_DIGEST_LEN], size_t count,
                                     uint8_t root[VERIFIER_DIGEST_LEN])
{
    if (count < 1 || count > VERIFIER_TREE_MAX)
        return VERIFIER_E_SIZE;
    enum verifier_err err = check_distinct(leaves, count);
    if (err == VERIFIER_OK)
        subtree(leaves, count, root);
    return err;
}

void verifier_tree_path(const uint8_t (*leaves)[VERIFIER_DIGEST_LEN], size_t count, size_t index,
                        uint8_t path[VERIFIER_PATH_MAX][VERIFIER_DIGEST_LEN], size_t *path_len)
{
    uint8_t down[VERIFIER_PATH_MAX][VERIFIER_DIGEST_LEN]; /* from the root down to the leaf's sibling */
    size_t depth = 0;
    while (count > 1 && depth < VERIFIER_PATH_MAX) {
        size_t split = left_of(count);
        if (index < split) {
            subtree(leaves + split, count - split, down[depth++]);
            count = split;
        } else {
            subtree(leaves, split, down[depth++]);
            leaves += split;
            count -= split;
            index -= split;
        }
    }
    for (size_t i = 0; i < depth; i++)
        memcpy(path[i], down[depth - 1 - i], VERIFIER_DIGEST_LEN);
    *path_len = depth;
}

enum verifier_err verifier_tree_climb(const uint8_t leaf[VERIFIER_DIGEST_LEN], uint64_t size, uint64_t index,
                                      const uint8_t (*path)[VERIFIER_DIGEST_LEN], size_t path_len,
                                      uint8_t root[VERIFIER_DIGEST_LEN])
{
    if (index >= size || size > VERIFIER_TREE_MAX)
        return VERIFIER_E_INDEX;
    /* RFC 9162 § 2.1.3.2: `place` and `last` climb together; where they are equal and even there is no sibling. */
    uint64_t place = index, last = size - 1;
    uint8_t here[VERIFIER_DIGEST_LEN];
    memcpy(here, leaf, sizeof here);
    for (size_t i = 0; i < path_len; i++) {
        while (last > 0 && place == last && (place & 1) == 0) {
            place >>= 1;
            last >>= 1;
        }
        if (last == 0)
            return VERIFIER_E_PATH;
        if (place & 1)
            node(here, path[i], here);
        else
            node(here, here, path[i]);
        place >>= 1;
        last >>= 1;
    }
    if (last != 0)
        return VERIFIER_E_PATH;
    memcpy(root, here, sizeof here);
    return VERIFIER_OK;
}

enum verifier_err verifier_tree_check(const uint8_t leaf[VERIFIER_DIGEST_LEN], uint64_t size, uint64_t index,
                                      const uint8_t (*path)[VERIFIER_DIGEST_LEN], size_t path_len,
                                      const uint8_t root[VERIFIER_DIGEST_LEN])
{
    uint8_t reached[VERIFIER_DIGEST_LEN];
    enum verifier_err err = verifier_tree_climb(leaf, size, index, path, path_len, reached);
    if (err == VERIFIER_OK && memcmp(reached, root, sizeof reached) != 0)
        err = VERIFIER_E_ROOT;
    return err;
}
