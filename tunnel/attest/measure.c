#include "tunnel/attest/measure.h"

#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <unistd.h>

#include "verifier/base/writer.h"

static bool file_digest(const char *path, uint8_t out[ATTESTER_MEASUREMENT_LEN])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t block[65536];
    ssize_t n = -1;
    bool good = fd >= 0 && ctx && EVP_DigestInit_ex(ctx, EVP_sha384(), NULL) == 1;

    while (good && (n = read(fd, block, sizeof block)) > 0)
        good = EVP_DigestUpdate(ctx, block, (size_t)n) == 1;
    good = good && n == 0 && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    if (fd >= 0)
        close(fd);
    return good;
}

/* Indices in ascending order of name; false when two are equal. */
static bool sorted(const char *const *names, size_t count, size_t order[ATTESTER_ZONE_MAX])
{
    for (size_t i = 0; i < count; i++) {
        size_t at = i;
        for (; at > 0 && strcmp(names[order[at - 1]], names[i]) >= 0; at--) {
            if (strcmp(names[order[at - 1]], names[i]) == 0)
                return false;
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    return true;
}

bool attester_measure(const char *const *names, const char *const *paths, size_t count,
                      uint8_t out[ATTESTER_MEASUREMENT_LEN])
{
    size_t order[ATTESTER_ZONE_MAX];
    struct writer w = writer_with_max(8192);
    bool good = count > 0 && count <= ATTESTER_ZONE_MAX && sorted(names, count, order);

    for (size_t i = 0; good && i < count; i++) {
        uint8_t digest[ATTESTER_MEASUREMENT_LEN];
        good = file_digest(paths[order[i]], digest);
        writer_lp_str(&w, names[order[i]]);
        writer_bytes(&w, span_of(digest, sizeof digest));
    }
    good = good && writer_ok(&w) && EVP_Digest(w.data, w.len, out, NULL, EVP_sha384(), NULL) == 1;
    writer_release(&w);
    return good;
}

size_t attester_zone(enum verifier_role role, const char *names[ATTESTER_ZONE_MAX])
{
    if (role == VERIFIER_ENGINE) {
        names[0] = "airlock-engine";
        names[1] = "airlock-tunnel";
        return 2;
    }
    if (role == VERIFIER_PROXY) {
        names[0] = "airlock-proxy";
        return 1;
    }
    return 0;
}

bool attester_measure_zone(enum verifier_role role, const char *folder, uint8_t out[ATTESTER_MEASUREMENT_LEN])
{
    const char *names[ATTESTER_ZONE_MAX], *paths[ATTESTER_ZONE_MAX];
    char path[ATTESTER_ZONE_MAX][PATH_MAX];
    size_t count = attester_zone(role, names);

    for (size_t i = 0; i < count; i++) {
        if (snprintf(path[i], sizeof path[i], "%s/%s", folder, names[i]) >= (int)sizeof path[i])
            return false;
        paths[i] = path[i];
    }
    return attester_measure(names, paths, count, out);
}
