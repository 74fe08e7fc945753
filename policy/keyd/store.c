#include "policy/keyd/store.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/hmac.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/documents.h"
#include "policy/keytext.h"
#include "policy/tenants.h"
#include "verifier/hpke.h"
#include "verifier/signed.h"

#define HEAD_TEXT "airlock-keyd-head"

__attribute__((format(printf, 2, 3))) static bool say(char why[256], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, 256, format, args);
    va_end(args);
    return false;
}

/* --- files -------------------------------------------------------------------------------------------- */

static bool join(char out[KEYD_PATH_MAX + 32], const char *folder, const char *name)
{
    int len = snprintf(out, KEYD_PATH_MAX + 32, "%s%s", folder, name);
    return len > 0 && len < KEYD_PATH_MAX + 32;
}

/* Append a whole file; false with errno. */
static bool read_file(const char *path, struct writer *out)
{
    uint8_t piece[16384];
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while ((n = read(fd, piece, sizeof piece)) != 0) {
        if (n > 0)
            writer_bytes(out, span_of(piece, (size_t)n));
        else if (errno != EINTR)
            break;
    }
    int saved = errno;
    close(fd);
    secret_wipe(piece, sizeof piece);
    errno = n == 0 && !writer_ok(out) ? EFBIG : saved;
    return n == 0 && writer_ok(out);
}

static bool write_all(int fd, struct span s)
{
    while (s.len > 0) {
        ssize_t n = write(fd, s.data, s.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        s = span_of(s.data + n, s.len - (size_t)n);
    }
    return true;
}

static bool sync_folder_of(const char *path)
{
    char folder[KEYD_PATH_MAX + 32];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

static bool replace_file(const char *path, struct span bytes)
{
    char beside[KEYD_PATH_MAX + 64];
    snprintf(beside, sizeof beside, "%s.new", path);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write_all(fd, bytes) && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return good && rename(beside, path) == 0 && sync_folder_of(path);
}

/* --- keys --------------------------------------------------------------------------------------------- */

static bool read_key(const char *path, const char *kind, struct secret *out, char why[256])
{
    struct writer text = writer_with_max(POLICY_KEYTEXT_MAX);
    struct stat st;
    bool good = read_file(path, &text);
    if (!good)
        say(why, "the key file %.150s cannot be read: %s", path, strerror(errno));
    else if (stat(path, &st) != 0 || (st.st_mode & 077) != 0)
        good = say(why, "the key file %.150s can be read by others; run chmod 600 on it", path);
    else if (!policy_keytext_parse(out, kind, writer_span(&text)))
        good = say(why, "%.150s is not a key file of kind %s", path, kind);
    writer_release(&text);
    return good;
}

static bool derive_mac_key(struct keyd_store *s)
{
    struct writer info = writer_with_max(64);
    writer_lp_str(&info, "airlock keyd head v1");
    bool good = secret_init(&s->mac_key, 32) &&
                verifier_hkdf_expand(s->seed.data, writer_span(&info), s->mac_key.data, s->mac_key.len);
    writer_release(&info);
    return good;
}

static bool read_keys(struct keyd_store *s, char why[256])
{
    const struct keyd_config *c = s->config;
    if (!read_key(c->key, POLICY_KEYTEXT_SIGN, &s->seed, why))
        return false;
    if (!derive_mac_key(s))
        return say(why, "out of memory");
    for (size_t i = 0; i < c->weight_count; i++) {
        if (!read_key(c->weight[i].file, POLICY_KEYTEXT_WEIGHT, &s->weight[i].key, why))
            return false;
        memcpy(s->weight[i].model, c->weight[i].model, sizeof s->weight[i].model);
        s->weight_count++;
    }
    return true;
}

/* --- life --------------------------------------------------------------------------------------------- */

bool keyd_store_open(struct keyd_store *s, const struct keyd_config *config, char why[256])
{
    char path[KEYD_PATH_MAX + 32];
    *s = (struct keyd_store){.config = config, .log_fd = -1, .lock_fd = -1};
    if (mkdir(config->state, 0700) != 0 && errno != EEXIST)
        return say(why, "the state folder %.150s cannot be made: %s", config->state, strerror(errno));
    s->lock_fd = open(config->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->lock_fd < 0 || flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return say(why, "another airlock-keyd uses the state folder %.150s", config->state);
    if (!join(path, config->state, "/log"))
        return say(why, "the path of the state folder is too long");
    s->log_fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (s->log_fd < 0)
        return say(why, "the log %.150s cannot be opened: %s", path, strerror(errno));
    return read_keys(s, why);
}

void keyd_store_close(struct keyd_store *s)
{
    if (s->log_fd >= 0)
        close(s->log_fd);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    secret_release(&s->seed);
    secret_release(&s->mac_key);
    for (size_t i = 0; i < s->weight_count; i++)
        secret_release(&s->weight[i].key);
    s->log_fd = s->lock_fd = -1;
    s->weight_count = 0;
}

/* --- log and head ------------------------------------------------------------------------------------- */

static bool mac_of(const struct keyd_store *s, const struct policy_log *log, uint8_t mac[32])
{
    struct writer w = writer_with_max(128);
    unsigned len = 32;
    writer_lp_str(&w, HEAD_TEXT);
    writer_u64be(&w, log->count);
    writer_bytes(&w, span_of(log->head, sizeof log->head));
    bool good = writer_ok(&w) && HMAC(EVP_sha256(), s->mac_key.data, (int)s->mac_key.len, w.data, w.len, mac, &len);
    writer_release(&w);
    return good;
}

static bool seal_head(struct keyd_store *s, const struct policy_log *log)
{
    char path[KEYD_PATH_MAX + 32], head[129], mac_hex[65];
    uint8_t mac[32];
    struct writer text = writer_with_max(512);
    if (!join(path, s->config->key, ".head") || !mac_of(s, log, mac))
        return false;
    policy_hex_print(span_of(log->head, sizeof log->head), head);
    policy_hex_print(span_of(mac, sizeof mac), mac_hex);
    writer_printf(&text, HEAD_TEXT " %llu %s %s\n", (unsigned long long)log->count, head, mac_hex);
    bool good = writer_ok(&text) && replace_file(path, writer_span(&text));
    writer_release(&text);
    return good;
}

/* False when there is none; `*good` false when it is not ours. */
static bool read_head(struct keyd_store *s, struct policy_log *out, bool *good)
{
    char path[KEYD_PATH_MAX + 32], head[130] = "", mac_hex[66] = "";
    struct writer text = writer_with_max(512);
    unsigned long long count = 0;
    uint8_t mac[32], want[32];
    *good = false;
    bool there = join(path, s->config->key, ".head") && read_file(path, &text);
    if (there) {
        writer_u8(&text, 0);
        *good = writer_ok(&text) &&
                sscanf((const char *)text.data, HEAD_TEXT " %20llu %129s %65s", &count, head, mac_hex) == 3 &&
                policy_hex_parse(span_str(head), out->head, 64) && policy_hex_parse(span_str(mac_hex), mac, 32);
        out->count = count;
        *good = *good && mac_of(s, out, want) && secret_equal(span_of(mac, 32), span_of(want, 32));
    }
    writer_release(&text);
    return there || errno != ENOENT;
}

/* The first `count` lines of `text`. */
static struct span first_lines(struct span text, uint64_t count)
{
    size_t at = 0;
    for (; count > 0 && at < text.len; count--) {
        const uint8_t *end = memchr(text.data + at, '\n', text.len - at);
        if (!end)
            break;
        at = (size_t)(end - text.data) + 1;
    }
    return span_of(text.data, at);
}

static bool log_fits(struct keyd_store *s, struct span text)
{
    struct policy_log sealed, now, then;
    bool good, chain, chain_then;
    if (!read_head(s, &sealed, &good))
        return text.len == 0; /* the very first start */
    policy_log_check(text, &now, &chain);
    policy_log_check(first_lines(text, sealed.count), &then, &chain_then);
    return good && chain && chain_then && then.count == sealed.count && now.count <= sealed.count + 1 &&
           memcmp(then.head, sealed.head, sizeof then.head) == 0;
}

/* A line without its end was being written when the machine stopped: nothing was granted for it. */
static bool drop_torn_line(int fd, struct writer *log)
{
    size_t whole = log->len;
    while (whole > 0 && log->data[whole - 1] != '\n')
        whole--;
    if (whole == log->len)
        return true;
    log->len = whole;
    return ftruncate(fd, (off_t)whole) == 0;
}

bool keyd_store_log(struct keyd_store *s, struct writer *out, bool *fits, char why[256])
{
    uint8_t piece[65536];
    off_t at = 0;
    ssize_t n;
    while ((n = pread(s->log_fd, piece, sizeof piece, at)) > 0) {
        writer_bytes(out, span_of(piece, (size_t)n));
        at += n;
    }
    if (n < 0 || !writer_ok(out) || !drop_torn_line(s->log_fd, out))
        return say(why, "the log cannot be read, or is longer than %d MiB: put it away and start a new state folder",
                   KEYD_LOG_MAX >> 20);
    *fits = log_fits(s, writer_span(out));
    return true;
}

bool keyd_store_append(struct keyd_store *s, struct span lines, const struct policy_log *log)
{
    return lines.len == 0 || (write_all(s->log_fd, lines) && fdatasync(s->log_fd) == 0 && seal_head(s, log));
}

/* --- papers ------------------------------------------------------------------------------------------- */

void keyd_papers_release(struct keyd_papers *p)
{
    writer_release(&p->documents);
    writer_release(&p->revocations);
}

/* Which of two policy parts is newer? An unreadable one is older. */
static bool second_is_newer(struct span a, struct span b)
{
    struct policy_documents *da = malloc(sizeof *da), *db = malloc(sizeof *db);
    bool newer = da && db && policy_documents_open(db, b, NULL, NULL) == VERIFIER_OK &&
                 policy_documents_open(da, a, db->owner, NULL) == VERIFIER_OK &&
                 (db->policy.version > da->policy.version ||
                  (db->policy.version == da->policy.version && db->keyset.version > da->keyset.version));
    free(da);
    free(db);
    return newer;
}

static void take_kept(struct keyd_store *s, const char *name, struct writer *out,
                      bool (*newer)(struct span, struct span))
{
    char path[KEYD_PATH_MAX + 32];
    struct writer kept = writer_with_max(VERIFIER_PART_MAX);
    if (join(path, s->config->state, name) && read_file(path, &kept) && kept.len > 0 &&
        (out->len == 0 || newer(writer_span(out), writer_span(&kept)))) {
        writer_release(out);
        *out = kept;
        return;
    }
    writer_release(&kept);
}

static uint32_t epoch_of(struct span signed_list)
{
    struct verifier_signed shell;
    struct policy_revocations *list = malloc(sizeof *list);
    uint32_t epoch = 0;
    if (list && verifier_signed_parse(&shell, signed_list) == VERIFIER_OK &&
        policy_revocations_parse(list, shell.body) == VERIFIER_OK)
        epoch = list->epoch;
    free(list);
    return epoch;
}

static bool second_epoch_is_higher(struct span a, struct span b)
{
    return epoch_of(b) > epoch_of(a);
}

/* The version that the signed tenants file states; its signature by a key that the policy names is checked. */
static bool read_tenants(struct keyd_store *s, struct span documents, uint32_t *version, char why[256])
{
    char sig_path[KEYD_PATH_MAX + 32];
    const char *path = s->config->tenants;
    struct writer text = writer_with_max(POLICY_CONFIG_TEXT_MAX), sig = writer_with_max(VERIFIER_PART_MAX);
    struct policy_documents *d = malloc(sizeof *d);
    struct verifier_signed shell;
    struct policy_tenants tenants;
    struct policy_problem problem;
    bool good = d && join(sig_path, path, ".sig") && read_file(path, &text) && read_file(sig_path, &sig) &&
                verifier_signed_parse_file(&shell, writer_span(&sig), writer_span(&text)) == VERIFIER_OK &&
                policy_documents_open(d, documents, NULL, NULL) == VERIFIER_OK &&
                verifier_signed_check(&shell, VERIFIER_SIGNED_TENANTS,
                                      (const uint8_t(*)[VERIFIER_KEY_LEN])d->policy.tenants.key,
                                      d->policy.tenants.key_count, 1) == VERIFIER_OK &&
                policy_tenants_parse(&tenants, writer_span(&text), &problem);
    if (good) {
        *version = tenants.version;
        policy_tenants_release(&tenants);
    } else {
        say(why, "the tenants file %.120s, or its .sig, is missing, malformed or not signed by the policy's key", path);
    }
    writer_release(&text);
    writer_release(&sig);
    free(d);
    return good;
}

bool keyd_store_papers(struct keyd_store *s, struct keyd_papers *out, char why[256])
{
    const struct keyd_config *c = s->config;
    *out = (struct keyd_papers){.documents = writer_with_max(VERIFIER_PART_MAX),
                                .revocations = writer_with_max(VERIFIER_PART_MAX)};
    if (!read_file(c->documents, &out->documents))
        return say(why, "the documents %.150s cannot be read: %s", c->documents, strerror(errno));
    if (c->revocations[0] && !read_file(c->revocations, &out->revocations))
        return say(why, "the revocations %.150s cannot be read: %s", c->revocations, strerror(errno));
    take_kept(s, "/documents", &out->documents, second_is_newer);
    take_kept(s, "/revocations", &out->revocations, second_epoch_is_higher);
    return !c->tenants[0] || read_tenants(s, writer_span(&out->documents), &out->tenants_version, why);
}

bool keyd_store_keep(struct keyd_store *s, struct span documents, struct span revocations)
{
    char path[KEYD_PATH_MAX + 32];
    return join(path, s->config->state, "/documents") && replace_file(path, documents) &&
           (revocations.len == 0 || (join(path, s->config->state, "/revocations") && replace_file(path, revocations)));
}

bool keyd_store_confirmed(struct keyd_store *s)
{
    char path[KEYD_PATH_MAX + 32];
    return join(path, s->config->state, "/confirm") && unlink(path) == 0;
}
