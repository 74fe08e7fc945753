#include "tunnel/attest/tsm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tunnel/sandbox.h"
#include "verifier/envelope.h"

#define TSM_ROOT "/sys/kernel/config/tsm/report"
#define OUT_MAX VERIFIER_QUOTE_MAX
#define AUX_MAX (64u << 10)
#define TRIES 4

struct tsm {
    char entry[PATH_MAX]; /* our folder below the root */
    bool made;            /* we made it, so we remove it */
    enum verifier_tee tee;
};

/* --- the certificate table of SNP ------------------------------------------------------------------ */

/* GHCB 2.0 § 4.1.8.1: {guid[16], u32 offset, u32 length}, little-endian, ended by a zero guid. */
enum { GUID_LEN = 16, ENTRY_LEN = 24, ENTRIES_MAX = 16 };

/* The guids as their bytes lie in the table (the text form, in order). */
static const uint8_t guid_vcek[GUID_LEN] = {0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64,
                                            0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd};
static const uint8_t guid_vlek[GUID_LEN] = {0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e,
                                            0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1};
static const uint8_t guid_ask[GUID_LEN] = {0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4,
                                           0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82};
static const uint8_t guid_ark[GUID_LEN] = {0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52,
                                           0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae};

static uint32_t u32le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The certificate with this guid; empty when the table has none or it lies outside. */
static struct span table_find(struct span blob, const uint8_t guid[GUID_LEN])
{
    static const uint8_t end[GUID_LEN];

    for (size_t i = 0; i < ENTRIES_MAX && (i + 1) * ENTRY_LEN <= blob.len; i++) {
        const uint8_t *e = blob.data + i * ENTRY_LEN;
        size_t offset = u32le(e + GUID_LEN), len = u32le(e + GUID_LEN + 4);

        if (memcmp(e, end, GUID_LEN) == 0)
            break;
        if (memcmp(e, guid, GUID_LEN) == 0)
            return offset <= blob.len && len <= blob.len - offset && len <= VERIFIER_CERT_MAX
                       ? span_of(blob.data + offset, len)
                       : span_of(NULL, 0);
    }
    return span_of(NULL, 0);
}

bool attester_tsm_chain(struct span auxblob, struct writer *chain)
{
    struct span leaf = table_find(auxblob, guid_vcek), ask = table_find(auxblob, guid_ask);
    struct span ark = table_find(auxblob, guid_ark);

    if (leaf.len == 0)
        leaf = table_find(auxblob, guid_vlek);
    if (leaf.len == 0 || ask.len == 0 || ark.len == 0 || leaf.data[0] != 0x30 || ask.data[0] != 0x30 ||
        ark.data[0] != 0x30)
        return false;
    verifier_certs_encode(chain, &(struct verifier_certs){.count = 3, .cert = {leaf, ask, ark}});
    return writer_ok(chain);
}

/* --- files ------------------------------------------------------------------------------------------ */

static int open_in(const struct tsm *t, const char *name, int flags)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof path, "%s/%s", t->entry, name);
    return open(path, flags | O_CLOEXEC);
}

/* The whole file, at most `max` bytes; false when it cannot be read or is longer. */
static bool read_all(const struct tsm *t, const char *name, uint8_t *out, size_t max, size_t *len)
{
    int fd = open_in(t, name, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : 0;
    uint8_t more;

    *len = 0;
    while (fd >= 0 && *len < max && (n = read(fd, out + *len, max - *len)) > 0)
        *len += (size_t)n;
    if (fd >= 0 && n >= 0 && *len == max && read(fd, &more, 1) != 0)
        n = -1;
    if (fd >= 0)
        close(fd);
    return n >= 0;
}

static bool write_once(const struct tsm *t, const char *name, const uint8_t *data, size_t len)
{
    int fd = open_in(t, name, O_WRONLY);
    bool good = fd >= 0 && write(fd, data, len) == (ssize_t)len;

    if (fd >= 0 && close(fd) != 0) /* configfs commits a binary attribute when it is closed */
        good = false;
    return good;
}

/* A counter of the writes to this entry: equal before and after means that the evidence is for our bytes. */
static bool generation(const struct tsm *t, uint64_t *out)
{
    uint8_t text[32];
    size_t len;
    char *end;

    if (!read_all(t, "generation", text, sizeof text - 1, &len) || len == 0)
        return false;
    text[len] = '\0';
    *out = strtoull((char *)text, &end, 10);
    return end != (char *)text && (*end == '\0' || *end == '\n');
}

/* --- producer --------------------------------------------------------------------------------------- */

static bool read_provider(struct tsm *t, char why[256])
{
    uint8_t text[64];
    size_t len;

    if (!read_all(t, "provider", text, sizeof text - 1, &len)) {
        snprintf(why, 256, "the provider of %.150s cannot be read: %s", t->entry, strerror(errno));
        return false;
    }
    text[len] = '\0';
    text[strcspn((char *)text, "\n")] = '\0';
    if (strcmp((char *)text, "sev_guest") == 0)
        t->tee = VERIFIER_TEE_SNP;
    else if (strcmp((char *)text, "tdx_guest") == 0)
        t->tee = VERIFIER_TEE_TDX;
    else {
        snprintf(why, 256, "the quoting provider is not known: use an SEV-SNP or TDX guest");
        return false;
    }
    return true;
}

static void tsm_close(void *ctx)
{
    struct tsm *t = ctx;

    if (t->made)
        rmdir(t->entry);
    free(t);
}

static void *tsm_open(const struct attester_producer_config *config, char why[256])
{
    const char *root = config->tsm_root ? config->tsm_root : TSM_ROOT;
    struct tsm *t = calloc(1, sizeof *t);

    if (!t) {
        snprintf(why, 256, "out of memory");
        return NULL;
    }
    if (snprintf(t->entry, sizeof t->entry, "%s/airlock-%s-%ld", root, verifier_role_names[config->role],
                 (long)getpid()) >= (int)sizeof t->entry) {
        snprintf(why, 256, "the path of configfs-tsm is too long");
        goto fail;
    }
    if (mkdir(t->entry, 0700) == 0)
        t->made = true;
    else if (errno != EEXIST) {
        snprintf(why, 256, "%.120s: %s; mount configfs in an SEV-SNP or TDX guest with Linux 6.7 or later", root,
                 strerror(errno));
        goto fail;
    }
    if (!read_provider(t, why))
        goto fail;
    return t;
fail:
    tsm_close(t);
    return NULL;
}

static enum verifier_tee tsm_tee(void *ctx)
{
    return ((const struct tsm *)ctx)->tee;
}

/* One attempt; `*again` when somebody else wrote in between. */
static bool attempt(const struct tsm *t, const uint8_t report_data[64], uint8_t *out, size_t *out_len, uint8_t *aux,
                    size_t *aux_len, bool *again)
{
    uint64_t before, after;

    *again = false;
    if (!write_once(t, "inblob", report_data, 64) || !generation(t, &before) ||
        !read_all(t, "outblob", out, OUT_MAX, out_len))
        return false;
    if (!read_all(t, "auxblob", aux, AUX_MAX, aux_len))
        *aux_len = 0; /* the attribute is optional; what has to be in it is checked by its reader */
    if (!generation(t, &after))
        return false;
    *again = before != after;
    return !*again && *out_len > 0;
}

static int tsm_quote(void *ctx, const uint8_t report_data[64], struct writer *quote, struct writer *chain,
                     struct writer *collateral)
{
    const struct tsm *t = ctx;
    uint8_t *out = malloc(OUT_MAX), *aux = malloc(AUX_MAX);
    size_t out_len = 0, aux_len = 0;
    bool good = false, again = true;

    (void)collateral; /* revocation lists come from the verifier's side or the policy's distribution */
    for (int i = 0; out && aux && !good && again && i < TRIES; i++)
        good = attempt(t, report_data, out, &out_len, aux, &aux_len, &again);
    if (good) {
        writer_bytes(quote, span_of(out, out_len));
        good = writer_ok(quote) && (t->tee != VERIFIER_TEE_SNP || attester_tsm_chain(span_of(aux, aux_len), chain));
    }
    free(out);
    free(aux);
    return good ? 0 : -1;
}

static size_t tsm_paths(void *ctx, struct sandbox_path *out, size_t max)
{
    if (max < 1)
        return 0;
    out[0] = (struct sandbox_path){.path = ((struct tsm *)ctx)->entry, .access = SANDBOX_READ | SANDBOX_WRITE};
    return 1;
}

const struct attester_producer attester_tsm = {.name = "configfs-tsm",
                                               .open = tsm_open,
                                               .tee = tsm_tee,
                                               .quote = tsm_quote,
                                               .paths = tsm_paths,
                                               .close = tsm_close};
