/* Target functions: policy_documents_open policy_ask_parse policy_ask_encode policy_release_parse policy_release_encode
 * policy_log_check policy_keytext_parse */
#include <assert.h>

#include "policy/documents.h"
#include "policy/keytext.h"
#include "policy/log.h"
#include "policy/node.h"
#include "policy/release.h"

static void check_ask(struct span in)
{
    struct policy_ask ask;
    struct writer w = writer_with_max(4096);
    if (policy_ask_parse(&ask, in) == READER_OK) { /* what we accept, we would have sent */
        policy_ask_encode(&w, &ask);
        assert(span_equal(writer_span(&w), in));
    }
    writer_release(&w);
}

static void check_release(struct span in)
{
    static struct policy_release release;
    struct writer w = writer_with_max(65536);
    if (policy_release_parse(&release, in) == VERIFIER_OK) {
        policy_release_encode(&w, &release);
        assert(span_equal(writer_span(&w), in));
    }
    writer_release(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct policy_documents documents;
    struct policy_log log;
    struct secret key;
    struct span in = span_of(data, size);
    bool ok;

    check_ask(in);
    check_release(in);
    if (policy_documents_open(&documents, in, NULL, NULL) == VERIFIER_OK) /* then an owner signed it */
        assert(documents.policy.version > 0 && documents.keyset.version > 0);
    uint64_t lines = policy_log_check(in, &log, &ok);
    assert(lines == log.count && (!ok || size == 0 || data[size - 1] == '\n'));
    if (policy_keytext_parse(&key, POLICY_KEYTEXT_SIGN, in))
        secret_release(&key);
    return 0;
}
