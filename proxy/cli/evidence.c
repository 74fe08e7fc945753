#include "proxy/cli/evidence.h"

#include "proxy/cli/files.h"
#include "tunnel/json.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_LEN = 4096, TEXT_LEN = 4 << 20 };

static bool is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* --- saving ------------------------------------------------------------------------------------------------ */

static json_t *hex(struct span s)
{
    char *text = malloc(2 * s.len + 1);
    json_t *out;

    if (!text)
        return NULL;
    policy_hex_print(s, text);
    out = json_string(text);
    free(text);
    return out;
}

/* What is no bytes: time and session. */
static json_t *head(const struct attest_record *r)
{
    const struct airlock_session *s = &r->session;

    return json_pack("{s:i,s:I,s:{s:b,s:b,s:b,s:b,s:b,s:b}}", "airlock_evidence", 1, "now", (json_int_t)r->now,
                     "session", "tls13", s->tls13, "finished", s->finished, "resumed", s->resumed, "psk", s->psk,
                     "early_data", s->early_data, "post_handshake_auth", s->post_handshake_auth);
}

static bool write_json(const char *path, json_t *root)
{
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    bool ok = text && cli_write(path, span_str(text), 0644, false);

    tunnel_json_free(text);
    json_decref(root);
    return ok;
}

static bool write_part(const char *folder, const char *name, struct span bytes)
{
    char path[PATH_LEN];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return cli_write(path, bytes, 0644, false);
}

static bool save_folder(const char *folder, const struct attest_record *r)
{
    char path[PATH_LEN];

    if (!is_folder(folder) && mkdir(folder, 0755) != 0) {
        cli_fail("%s cannot be made: %s", folder, strerror(errno));
        return false;
    }
    snprintf(path, sizeof path, "%s/evidence.json", folder);
    return write_part(folder, "challenge", writer_span(&r->challenge)) &&
           write_part(folder, "spki.der", writer_span(&r->spki)) &&
           write_part(folder, "exporter", span_of(r->exporter, sizeof r->exporter)) &&
           write_part(folder, "envelope", writer_span(&r->envelope)) && write_json(path, head(r));
}

bool evidence_save(const char *path, const struct attest_record *r)
{
    size_t len = strlen(path);
    json_t *root;

    if (is_folder(path) || (len > 0 && path[len - 1] == '/'))
        return save_folder(path, r);
    root = head(r);
    if (root) {
        json_object_set_new(root, "challenge", hex(writer_span(&r->challenge)));
        json_object_set_new(root, "spki", hex(writer_span(&r->spki)));
        json_object_set_new(root, "exporter", hex(span_of(r->exporter, sizeof r->exporter)));
        json_object_set_new(root, "envelope", hex(writer_span(&r->envelope)));
    }
    return write_json(path, root);
}

/* --- loading ----------------------------------------------------------------------------------------------- */

static bool read_head(const json_t *root, struct attest_record *r)
{
    const json_t *s = json_object_get(root, "session");

    r->now = (uint64_t)json_integer_value(json_object_get(root, "now"));
    r->session = (struct airlock_session){
        .tls13 = json_is_true(json_object_get(s, "tls13")),
        .finished = json_is_true(json_object_get(s, "finished")),
        .resumed = !json_is_false(json_object_get(s, "resumed")),
        .psk = !json_is_false(json_object_get(s, "psk")),
        .early_data = !json_is_false(json_object_get(s, "early_data")),
        .post_handshake_auth = !json_is_false(json_object_get(s, "post_handshake_auth")),
    };
    return json_integer_value(json_object_get(root, "airlock_evidence")) == 1 &&
           json_integer_value(json_object_get(root, "now")) > 0;
}

static bool unhex(const json_t *root, const char *key, struct writer *out)
{
    const char *text = json_string_value(json_object_get(root, key));
    size_t len = text ? strlen(text) : 0;
    uint8_t *bytes = malloc(len / 2 + 1);
    bool ok = bytes && text && len % 2 == 0 && policy_hex_parse(span_of(text, len), bytes, len / 2);

    if (ok)
        writer_bytes(out, span_of(bytes, len / 2));
    free(bytes);
    return ok && writer_ok(out);
}

static bool read_part(const char *folder, const char *name, struct writer *out)
{
    char path[PATH_LEN];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return cli_read(path, out);
}

bool evidence_load(const char *path, struct attest_record *r)
{
    struct writer text = writer_with_max(TEXT_LEN), exporter = writer_with_max(sizeof r->exporter);
    bool folder = is_folder(path), ok = folder ? read_part(path, "evidence.json", &text) : cli_read(path, &text);
    json_t *root = ok ? json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL) : NULL;

    if (ok && folder)
        ok = read_part(path, "challenge", &r->challenge) && read_part(path, "spki.der", &r->spki) &&
             read_part(path, "exporter", &exporter) && read_part(path, "envelope", &r->envelope);
    if (ok) {
        ok = read_head(root, r) &&
             (folder || (unhex(root, "challenge", &r->challenge) && unhex(root, "spki", &r->spki) &&
                         unhex(root, "exporter", &exporter) && unhex(root, "envelope", &r->envelope))) &&
             exporter.len == sizeof r->exporter;
        if (!ok)
            cli_fail("%s does not hold evidence kept by airlock verify --save", path);
    }
    if (ok)
        memcpy(r->exporter, exporter.data, sizeof r->exporter);
    json_decref(root);
    writer_release(&text);
    writer_release(&exporter);
    return ok;
}
