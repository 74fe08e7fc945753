#include "policy/release.h"

#include "verifier/base/reader.h"

static bool same_image(const struct policy_release_image *a, const struct policy_release_image *b)
{
    return a->role == b->role && a->tee == b->tee && memcmp(a->measurement, b->measurement, 48) == 0;
}

static void read_image(struct reader *r, struct policy_release_image *out)
{
    static const char *const roles[] = {"proxy", "engine"};
    reader_map(r, 3);
    reader_key(r, "role");
    out->role = reader_choice(r, roles, 2) == 0 ? VERIFIER_PROXY : VERIFIER_ENGINE;
    reader_key(r, "tee");
    out->tee = (enum verifier_tee)reader_choice(r, verifier_tee_names, VERIFIER_TEES);
    reader_key(r, "measurement");
    reader_bin_copy(r, out->measurement, sizeof out->measurement);
}

enum verifier_err policy_release_parse(struct policy_release *out, struct span in)
{
    struct reader r = reader_over(in);
    memset(out, 0, sizeof *out);
    reader_map(&r, 3);
    reader_key(&r, "v");
    reader_uint(&r, 1, 1);
    reader_key(&r, "version");
    out->version = reader_text(&r, 1, 64);
    reader_key(&r, "images");
    out->image_count = reader_list(&r, 1, POLICY_RELEASE_IMAGES_MAX);
    for (size_t i = 0; i < out->image_count; i++) {
        read_image(&r, &out->image[i]);
        for (size_t k = 0; k < i; k++)
            if (same_image(&out->image[k], &out->image[i]))
                reader_fail(&r, READER_DUPLICATE);
    }
    (void)reader_end(&r);
    return verifier_err_of_reader(r.err);
}

void policy_release_encode(struct writer *w, const struct policy_release *in)
{
    writer_map(w, 3);
    writer_key(w, "v");
    writer_uint(w, 1);
    writer_key(w, "version");
    writer_text(w, in->version);
    writer_key(w, "images");
    writer_list(w, in->image_count);
    for (size_t i = 0; i < in->image_count; i++) {
        writer_map(w, 3);
        writer_key(w, "role");
        writer_text(w, span_str(verifier_role_names[in->image[i].role]));
        writer_key(w, "tee");
        writer_text(w, span_str(verifier_tee_names[in->image[i].tee]));
        writer_key(w, "measurement");
        writer_bin(w, span_of(in->image[i].measurement, 48));
    }
}
