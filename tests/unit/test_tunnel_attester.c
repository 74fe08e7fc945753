/* Does the attester bind exactly the session it is asked for, keep its keys, and survive hostile callers? Real
 * processes, the simulated chip. */
#include <errno.h>
#include <openssl/sha.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tunnel/attest/attester.h"
#include "tunnel/attest/attester_wire.h"
#include "unit/run.h"
#include "verifier/anchors/test.h"
#include "verifier/bundle.h"
#include "verifier/challenge.h"
#include "verifier/ed25519.h"
#include "verifier/envelope.h"
#include "verifier/leaf.h"
#include "verifier/release.h"
#include "verifier/sealed.h"
#include "verifier/signed.h"
#include "verifier/state.h"
#include "verifier/statement.h"
#include "verifier/tree.h"

static const char *const names[] = {"airlock-engine"}, *const paths[] = {"/proc/self/exe"};
static const uint8_t seed[32] = {7}, exporter[32] = {1, 2, 3};
static uint8_t owner_digest[64];
static struct writer policy_part;

/* --- fixtures ------------------------------------------------------------------------------------------------ */

/* A policy part: one keyset, one policy; only the shells matter here. */
static struct writer make_policy(const char *keyset, const char *policy)
{
    struct writer part = writer_with_max(VERIFIER_PART_MAX), k = writer_with_max(10000), p = writer_with_max(10000);

    ck_assert(verifier_signed_make(&k, VERIFIER_SIGNED_KEYSET, span_str(keyset), seed));
    ck_assert(verifier_signed_make(&p, VERIFIER_SIGNED_POLICY, span_str(policy), seed));
    verifier_policy_part_encode(&part, &(struct verifier_policy_part){
                                           .keyset_count = 1, .keyset = {writer_span(&k)}, .policy = writer_span(&p)});
    writer_release(&k);
    writer_release(&p);
    return part;
}

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    verifier_sha512(owner_digest, span_str("keyset one"));
    policy_part = make_policy("keyset one", "version = 3;");
}

static void teardown(void)
{
    writer_release(&policy_part);
}

/* A bundle of the operator's, given to the attesters that start; NULL: none. */
static const char *bundle;

static struct attester start_with(enum verifier_role role, uint32_t seal_life_s, uint32_t replay_max)
{
    struct attester_config config = {.role = role,
                                     .program = role == VERIFIER_ENGINE ? "airlock-engine" : "airlock-proxy",
                                     .version = "0.1.0",
                                     .config_text = span_str("model = \"m\";\n"),
                                     .kernels = role == VERIFIER_ENGINE ? "cpu" : NULL,
                                     .producer = attester_producer(),
                                     .device = {.names = names, .paths = paths, .count = 1},
                                     .collateral = bundle,
                                     .batch_ms = 20,
                                     .seal_life_s = seal_life_s,
                                     .replay_max = replay_max};
    struct attester a;
    char why[256] = "";

    memcpy(config.owner, owner_digest, sizeof owner_digest);
    ck_assert_msg(attester_fork(&config, &a, why) == 0, "%s", why);
    return a;
}

static struct attester start(enum verifier_role role)
{
    return start_with(role, 0, 0);
}

static struct writer challenge_of(enum verifier_role verifier, enum verifier_role attester, uint8_t nonce)
{
    struct verifier_challenge c = {.verifier = verifier, .attester = attester, .nonce = {nonce}};
    struct writer w = writer_with_max(VERIFIER_CHALLENGE_MAX);

    verifier_challenge_encode(&w, &c);
    return w;
}

/* The verifier's view of an envelope: facts of its hardware, its state; and does it bind `leaf`? */
struct view {
    struct verifier_envelope env;
    struct verifier_state state;
    struct verifier_statement statement;
    struct verifier_hw hw;
    bool binds;
};

static void look(struct view *v, struct span envelope, const uint8_t leaf[64])
{
    struct verifier_anchor anchor = {.kind = VERIFIER_ANCHOR_AMD, .line = "Genoa", .simulated = true};
    struct verifier_hw_rules rules = verifier_hw_rules_default();
    struct verifier_certs certs;
    struct verifier_collateral collateral;
    struct verifier_note note = {0};
    uint8_t digest[32], root[64], h_statement[64], h_state[64], want[64];
    enum verifier_err err;

    ck_assert_int_eq(verifier_envelope_parse(&v->env, envelope), VERIFIER_OK);
    ck_assert_int_eq(v->env.chain.form, VERIFIER_PART_BYTES);
    ck_assert_int_eq(verifier_certs_parse(&certs, v->env.chain.bytes), VERIFIER_OK);
    ck_assert_int_eq(verifier_collateral_parse(&collateral, v->env.collateral.bytes), VERIFIER_OK);
    ck_assert_int_eq(verifier_statement_parse(&v->statement, v->env.statement), VERIFIER_OK);
    ck_assert_int_eq(verifier_state_parse(&v->state, v->env.state), VERIFIER_OK);
    SHA256(certs.cert[2].data, certs.cert[2].len, digest);
    verifier_anchors_reset();
    ck_assert(verifier_anchors_inject(digest, &anchor));
    err = verifier_hw_verify(&v->hw, v->env.tee, v->env.quote, certs.cert, certs.count, &collateral,
                             (uint64_t)time(NULL), &rules, &note);
    ck_assert_msg(err == VERIFIER_OK, "%s", verifier_err_name(err));
    v->binds = false;
    if (verifier_tree_climb(leaf, v->env.tree_size, v->env.place.index, (const uint8_t(*)[64])v->env.place.path,
                            v->env.place.path_len, root) != VERIFIER_OK)
        return;
    verifier_sha512(h_statement, v->env.statement);
    verifier_sha512(h_state, v->env.state);
    verifier_report_data(want, v->env.tree_size, root, h_statement, h_state);
    v->binds = memcmp(want, v->hw.report_data, 64) == 0;
}

/* A leaf for this challenge and key, and the view of its envelope. */
static void attest(int fd, struct span challenge, const char *spki, struct view *v, struct writer *envelope)
{
    uint8_t leaf[64];

    writer_release(envelope);
    *envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    ck_assert_int_eq(attester_leaf(fd, challenge, span_str(spki), exporter, envelope), ATTESTER_OK);
    verifier_leaf(leaf, challenge, span_str(spki), exporter);
    look(v, writer_span(envelope), leaf);
}

/* One raw record, and the status of its answer (-1: none came). */
static int raw(int fd, uint8_t call, uint8_t flags, const void *body, size_t len)
{
    uint8_t bytes[ATTESTER_RECORD_MAX];
    struct attester_record r = {.id = 5, .call = call, .flags = flags, .body = span_of(body, len)};
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ssize_t n;

    ck_assert_int_gt(write(fd, bytes, attester_record_encode(bytes, &r)), 0);
    if (poll(&p, 1, flags ? 50 : 2000) <= 0)
        return -1;
    n = read(fd, bytes, sizeof bytes);
    return n > 0 && attester_record_parse(&r, span_of(bytes, (size_t)n)) ? r.status : -1;
}

/* --- sessions ------------------------------------------------------------------------------------------------ */

START_TEST(a_leaf_binds_its_session_and_no_other)
{
    struct attester a = start(VERIFIER_ENGINE);
    struct writer c = challenge_of(VERIFIER_PROXY, VERIFIER_ENGINE, 1), envelope = {0};
    struct view v;
    uint8_t leaf[64];

    attest(a.peer_fd, writer_span(&c), "key one", &v, &envelope);
    ck_assert(v.binds);
    ck_assert(v.hw.simulated);
    ck_assert_mem_eq(v.statement.identity, a.identity, 32);
    ck_assert_mem_eq(v.statement.release, a.release, 32);
    ck_assert(span_equal(v.env.statement, span_of(a.statement, a.statement_len)));
    ck_assert(span_is(v.env.config, "model = \"m\";\n"));
    ck_assert_uint_eq(v.state.at, 0);
    ck_assert(!v.state.has_policy && !v.state.has_seal && !v.env.has_engines);
    verifier_leaf(leaf, writer_span(&c), span_str("key of a relay"), exporter);
    look(&v, writer_span(&envelope), leaf);
    ck_assert(!v.binds);
    attest(a.owner_fd, writer_span(&c), "key one", &v, &envelope); /* a replayed challenge is the verifier's to see */
    ck_assert(v.binds);
    writer_release(&c);
    writer_release(&envelope);
    attester_end(&a);
}
END_TEST

static const struct {
    enum verifier_role node, verifier, attester;
    bool sealed;
    enum attester_err want;
} pairs[] = {
    {VERIFIER_ENGINE, VERIFIER_PROXY, VERIFIER_ENGINE, false, ATTESTER_OK},
    {VERIFIER_ENGINE, VERIFIER_KEYD, VERIFIER_ENGINE, false, ATTESTER_OK},
    {VERIFIER_ENGINE, VERIFIER_CLIENT, VERIFIER_PROXY, false, ATTESTER_E_PAIR}, /* somebody else's session */
    {VERIFIER_ENGINE, VERIFIER_ENGINE, VERIFIER_PROXY, false, ATTESTER_E_PAIR},
    {VERIFIER_ENGINE, VERIFIER_CLIENT, VERIFIER_ENGINE, false, ATTESTER_E_PAIR}, /* clients reach engines sealed only */
    {VERIFIER_ENGINE, VERIFIER_PROXY, VERIFIER_ENGINE, true, ATTESTER_E_PAIR},
    {VERIFIER_ENGINE, VERIFIER_CLIENT, VERIFIER_ENGINE, true, ATTESTER_E_NOT_READY}, /* no sealing key yet */
    {VERIFIER_PROXY, VERIFIER_CLIENT, VERIFIER_PROXY, false, ATTESTER_OK},
    {VERIFIER_PROXY, VERIFIER_PROXY, VERIFIER_ENGINE, false, ATTESTER_E_PAIR},
    {VERIFIER_PROXY, VERIFIER_CLIENT, VERIFIER_ENGINE, true, ATTESTER_E_PAIR},
};

START_TEST(foreign_pairs_are_refused)
{
    struct attester a = start(pairs[_i].node);
    struct writer c = challenge_of(pairs[_i].verifier, pairs[_i].attester, 1);
    struct writer envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    enum attester_err err = pairs[_i].sealed
                                ? attester_sealed_leaf(a.owner_fd, writer_span(&c), &envelope)
                                : attester_leaf(a.owner_fd, writer_span(&c), span_str("key"), exporter, &envelope);

    ck_assert_msg(err == pairs[_i].want, "%d: %s", _i, attester_err_name(err));
    ck_assert_uint_eq(writer_span(&envelope).len > 0, err == ATTESTER_OK);
    ck_assert_int_eq(a.peer_fd >= 0, pairs[_i].node == VERIFIER_ENGINE);
    writer_release(&c);
    writer_release(&envelope);
    attester_end(&a);
}
END_TEST

START_TEST(leaves_that_arrive_together_share_a_quote)
{
    enum { N = 9 };
    struct attester a = start(VERIFIER_PROXY);
    struct attester_inbox in = {0};
    struct verifier_envelope first, *env = malloc(sizeof *env);
    struct writer kept = writer_with_max(VERIFIER_ENVELOPE_MAX);
    uint32_t seen = 0;

    for (uint32_t i = 1; i <= N; i++) { /* the last two are the same session */
        struct writer c = challenge_of(VERIFIER_CLIENT, VERIFIER_PROXY, (uint8_t)(i == N ? N - 1 : i));
        ck_assert_int_eq(attester_ask_leaf(a.owner_fd, i, writer_span(&c), span_str("key"), exporter), ATTESTER_OK);
        writer_release(&c);
    }
    for (uint32_t got = 0; got < N;) {
        struct pollfd p = {.fd = a.owner_fd, .events = POLLIN};
        struct span bytes;
        enum attester_err err;
        uint32_t id;
        int n;

        ck_assert_int_gt(poll(&p, 1, 5000), 0);
        while ((n = attester_receive(a.owner_fd, &in, &id, &err, &bytes)) == 1) {
            ck_assert_int_eq(err, ATTESTER_OK);
            ck_assert_int_eq(verifier_envelope_parse(env, bytes), VERIFIER_OK);
            ck_assert_uint_eq(env->tree_size, N - 1);
            ck_assert_uint_eq(env->place.index, (id == N ? N - 1 : id) - 1);
            if (got++ == 0) {
                writer_bytes(&kept, bytes);
                ck_assert_int_eq(verifier_envelope_parse(&first, writer_span(&kept)), VERIFIER_OK);
            }
            ck_assert(span_equal(env->quote, first.quote));
            seen |= 1u << id;
        }
        ck_assert_int_eq(n, 0);
    }
    ck_assert_uint_eq(seen, (1u << (N + 1)) - 2);
    free(env);
    writer_release(&kept);
    attester_inbox_release(&in);
    attester_end(&a);
}
END_TEST

START_TEST(parts_the_verifier_holds_come_by_digest)
{
    struct attester a = start(VERIFIER_PROXY);
    struct writer c = challenge_of(VERIFIER_CLIENT, VERIFIER_PROXY, 1), envelope = {0};
    struct verifier_challenge asked = {.verifier = VERIFIER_CLIENT, .attester = VERIFIER_PROXY, .have_count = 1};
    struct verifier_envelope env;
    struct view v;

    attest(a.owner_fd, writer_span(&c), "key", &v, &envelope);
    verifier_sha512(asked.have[0], v.env.chain.bytes);
    writer_release(&c);
    c = writer_with_max(VERIFIER_CHALLENGE_MAX);
    verifier_challenge_encode(&c, &asked);
    writer_reset(&envelope);
    ck_assert_int_eq(attester_leaf(a.owner_fd, writer_span(&c), span_str("key"), exporter, &envelope), ATTESTER_OK);
    ck_assert_int_eq(verifier_envelope_parse(&env, writer_span(&envelope)), VERIFIER_OK);
    ck_assert_int_eq(env.chain.form, VERIFIER_PART_DIGEST);
    ck_assert_mem_eq(env.chain.digest, asked.have[0], 64);
    ck_assert_int_eq(env.collateral.form, VERIFIER_PART_BYTES);
    writer_release(&c);
    writer_release(&envelope);
    attester_end(&a);
}
END_TEST

/* --- hostile callers -------------------------------------------------------------------------------------------- */

START_TEST(a_hostile_peer_gets_refusals_and_harms_nobody)
{
    static uint8_t big[200000];
    static const uint8_t one_bin[] = {0x91, 0xc4, 0x03, 1, 2, 3};
    struct attester a = start(VERIFIER_ENGINE);
    struct writer c = challenge_of(VERIFIER_PROXY, VERIFIER_ENGINE, 1), envelope = {0};
    struct view v;

    for (uint8_t call = ATTESTER_OPEN; call < ATTESTER_CALLS + 2; call++) /* the owner's calls and unknown ones */
        ck_assert_int_eq(raw(a.peer_fd, call, 0, "\x90", 1), ATTESTER_E_CALL);
    ck_assert_int_eq(raw(a.peer_fd, ATTESTER_LEAF, 0, NULL, 0), ATTESTER_E_SHAPE);
    ck_assert_int_eq(raw(a.peer_fd, ATTESTER_LEAF, 0, one_bin, sizeof one_bin), ATTESTER_E_SHAPE);
    ck_assert_int_eq(raw(a.peer_fd, ATTESTER_SEALED, 0, one_bin, sizeof one_bin), ATTESTER_E_CHALLENGE);
    ck_assert_int_eq(raw(a.peer_fd, ATTESTER_LEAF, 0x80, "\x90", 1), ATTESTER_E_SHAPE); /* unknown flag */
    ck_assert_int_eq(raw(a.peer_fd, ATTESTER_LEAF, 0, "\xdd\xff\xff\xff\xff", 5), ATTESTER_E_SHAPE);
    ck_assert_int_eq(write(a.peer_fd, "abc", 3), 3); /* shorter than a head */
    for (int i = 0; i < 3; i++)                      /* a message without end ... */
        (void)raw(a.peer_fd, ATTESTER_LEAF, ATTESTER_MORE, big, ATTESTER_PIECE_MAX);
    (void)raw(a.peer_fd, ATTESTER_OPEN, 0, big, 10); /* ... that turns into another */
    (void)!write(a.peer_fd, big, 150000);            /* longer than a record may be */
    while (raw(a.peer_fd, ATTESTER_NONCE, 0, "\x90", 1) >= 0 &&
           poll(&(struct pollfd){.fd = a.peer_fd, .events = POLLIN}, 1, 50) > 0) {
        uint8_t bytes[64]; /* swallow what is left of the answers */
        (void)!read(a.peer_fd, bytes, sizeof bytes);
    }
    attest(a.owner_fd, writer_span(&c), "key", &v, &envelope);
    ck_assert(v.binds);
    close(a.peer_fd);
    a.peer_fd = -1;
    attest(a.owner_fd, writer_span(&c), "key", &v, &envelope);
    ck_assert(v.binds);
    writer_release(&c);
    writer_release(&envelope);
    attester_end(&a);
}
END_TEST

START_TEST(a_peer_that_never_reads_stops_itself_only)
{
    struct attester a = start(VERIFIER_ENGINE);
    struct writer c = challenge_of(VERIFIER_PROXY, VERIFIER_ENGINE, 1), envelope = {0};
    struct view v;

    for (uint32_t i = 1; i < 2000; i++)
        if (attester_ask_leaf(a.peer_fd, i, writer_span(&c), span_str("key"), exporter) != ATTESTER_OK)
            break;
    attest(a.owner_fd, writer_span(&c), "key", &v, &envelope);
    ck_assert(v.binds);
    writer_release(&c);
    writer_release(&envelope);
    attester_end(&a);
}
END_TEST

START_TEST(it_ends_with_its_owner)
{
    struct attester a = start(VERIFIER_ENGINE);
    int status;

    close(a.owner_fd);
    ck_assert_int_eq(waitpid(a.pid, &status, 0), a.pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(a.peer_fd);
}
END_TEST

START_TEST(it_locks_itself_in)
{
    struct attester a = start(VERIFIER_PROXY);
    char path[64], status[8192];
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "/proc/%d/status", (int)a.pid);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    n = fread(status, 1, sizeof status - 1, f);
    status[n] = '\0';
    fclose(f);
    ck_assert_ptr_nonnull(strstr(status, "\nNoNewPrivs:\t1\n"));
    ck_assert_ptr_nonnull(strstr(status, "\nSeccomp:\t2\n"));
    ck_assert_ptr_nonnull(strstr(status, "\nCapEff:\t0000000000000000\n"));
    attester_end(&a);
}
END_TEST

/* As `airlock collateral` leaves one: whole, beside, then renamed. */
static void place(const char *path, const void *bytes, size_t len)
{
    char beside[128];
    FILE *f;

    snprintf(beside, sizeof beside, "%s.new", path);
    f = fopen(beside, "w");
    ck_assert(f && fwrite(bytes, 1, len, f) == len && fclose(f) == 0);
    ck_assert_int_eq(rename(beside, path), 0);
}

static void place_bundle(const char *path, const char *list)
{
    static struct verifier_collateral mine = {.crl_count = 1, .rim_count = 1};
    struct writer part = writer_with_max(1000), file = writer_with_max(2000);

    mine.crls[0] = span_str(list);
    mine.rims[0] = span_str("<file/>");
    mine.tcb_info = span_str("{}");
    verifier_collateral_encode(&part, &mine);
    verifier_bundle_encode(&file, &(struct verifier_bundle){.until = 1, .collateral = writer_span(&part)});
    place(path, file.data, file.len);
    writer_release(&part);
    writer_release(&file);
}

/* What the node sends along now. */
static void sent_by(const struct attester *a, struct verifier_collateral *sent, struct writer *envelope)
{
    static uint8_t nonce;
    struct writer c = challenge_of(VERIFIER_PROXY, VERIFIER_ENGINE, ++nonce);
    struct view v;

    attest(a->peer_fd, writer_span(&c), "key", &v, envelope);
    ck_assert(v.binds);
    ck_assert_int_eq(verifier_collateral_parse(sent, v.env.collateral.bytes), VERIFIER_OK);
    writer_release(&c);
}

static size_t lines_with(FILE *f, const char *what)
{
    char line[512];
    size_t n = 0;

    rewind(f);
    while (fgets(line, sizeof line, f))
        n += strstr(line, what) != NULL;
    return n;
}

/* The operator's pieces go along with what the producer has, and the evidence holds as before. The file is read again
 * when it is another, by a process that has locked itself in; one that is bad is said once and changes nothing. */
START_TEST(an_operators_bundle_goes_along)
{
    char folder[] = "/tmp/attester-test-XXXXXX", path[64];
    struct writer envelope = {0};
    struct verifier_collateral sent;
    FILE *errors = tmpfile();
    int before = dup(2);

    ck_assert(mkdtemp(folder) != NULL && chmod(folder, 0755) == 0 && errors != NULL);
    snprintf(path, sizeof path, "%s/bundle", folder);
    place_bundle(path, "list one");
    ck_assert(dup2(fileno(errors), 2) == 2);
    struct attester with, without = start(VERIFIER_ENGINE);
    bundle = path;
    with = start(VERIFIER_ENGINE);
    bundle = NULL;
    dup2(before, 2);
    ck_assert_int_eq(attester_update_policy(with.owner_fd, writer_span(&policy_part), 3), ATTESTER_OK);
    ck_assert_int_eq(attester_update_policy(without.owner_fd, writer_span(&policy_part), 3), ATTESTER_OK);
    sent_by(&without, &sent, &envelope);
    ck_assert(sent.crl_count == 1 && sent.rim_count == 0 && sent.tcb_info.len == 0);

    sent_by(&with, &sent, &envelope);
    ck_assert(sent.crl_count == 2 && span_is(sent.crls[0], "list one"));
    ck_assert(sent.rim_count == 1 && span_is(sent.rims[0], "<file/>") && span_is(sent.tcb_info, "{}"));
    ck_assert_uint_eq(lines_with(errors, "collateral"), 0);

    place_bundle(path, "list two, longer");
    sent_by(&with, &sent, &envelope);
    ck_assert(sent.crl_count == 2 && span_is(sent.crls[0], "list two, longer"));
    ck_assert_uint_eq(lines_with(errors, "was read again"), 1);

    place(path, "no bundle", 9);
    for (int i = 0; i < 2; i++) {
        sent_by(&with, &sent, &envelope);
        ck_assert(sent.crl_count == 2 && span_is(sent.crls[0], "list two, longer"));
    }
    ck_assert_uint_eq(lines_with(errors, "what was read before stays in use"), 1);
    ck_assert_uint_eq(lines_with(errors, path), 2);
    ck_assert_int_eq(unlink(path), 0);
    for (int i = 0; i < 2; i++) {
        sent_by(&with, &sent, &envelope);
        ck_assert(span_is(sent.crls[0], "list two, longer"));
    }
    ck_assert_uint_eq(lines_with(errors, "No such file"), 1);
    place_bundle(path, "list three");
    sent_by(&with, &sent, &envelope);
    ck_assert(span_is(sent.crls[0], "list three"));

    attester_end(&with);
    attester_end(&without);
    unlink(path);
    rmdir(folder);
    fclose(errors);
    close(before);
    writer_release(&envelope);
}
END_TEST

/* A file that the sandbox will not give a second time is told of at the start, not when its lists have run out. */
START_TEST(a_bundle_that_cannot_be_read_again_is_told_of)
{
    char folder[] = "/tmp/attester-test-XXXXXX", target[64], link[64], from[96];
    FILE *errors = tmpfile();
    int before = dup(2);
    bool landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 1; /* 1: asks for the version */

    ck_assert(mkdtemp(folder) != NULL && chmod(folder, 0755) == 0 && errors != NULL);
    snprintf(target, sizeof target, "%s/file", folder);
    snprintf(link, sizeof link, "%s/links", folder);
    snprintf(from, sizeof from, "%s/links/bundle", folder);
    place_bundle(target, "list");
    ck_assert(mkdir(link, 0755) == 0 && symlink(target, from) == 0);
    for (int linked = 0; linked < 2; linked++) {
        struct writer envelope = {0};
        struct verifier_collateral sent;
        ck_assert(ftruncate(fileno(errors), 0) == 0 && dup2(fileno(errors), 2) == 2);
        bundle = linked ? from : target;
        struct attester a = start(VERIFIER_ENGINE);
        bundle = NULL;
        dup2(before, 2);
        ck_assert_int_eq(attester_update_policy(a.owner_fd, writer_span(&policy_part), 3), ATTESTER_OK);
        sent_by(&a, &sent, &envelope);
        ck_assert(span_is(sent.crls[0], "list"));
        ck_assert_uint_eq(lines_with(errors, "cannot be read again"), linked && landlock);
        attester_end(&a);
        writer_release(&envelope);
    }
    unlink(from);
    unlink(target);
    rmdir(link);
    rmdir(folder);
    fclose(errors);
    close(before);
}
END_TEST

START_TEST(a_start_that_fails_says_why)
{
    static const char *const nowhere[] = {"/nonexistent"};
    struct attester_config config = {.role = VERIFIER_ENGINE,
                                     .program = "airlock-engine",
                                     .version = "1",
                                     .kernels = "cpu",
                                     .producer = attester_producer(),
                                     .device = {.names = names, .paths = nowhere, .count = 1}};
    struct attester a;
    char why[256] = "";

    ck_assert_int_eq(attester_fork(&config, &a, why), -1);
    ck_assert_ptr_nonnull(strstr(why, "measure"));
    config.device.paths = paths;
    config.collateral = paths[0]; /* a file, and no bundle */
    ck_assert_int_eq(attester_fork(&config, &a, why), -1);
    ck_assert_ptr_nonnull(strstr(why, "collateral"));
    config.collateral = NULL;
    config.version = "a\nb";
    ck_assert_int_eq(attester_fork(&config, &a, why), -1);
}
END_TEST

/* --- state ------------------------------------------------------------------------------------------------------- */

START_TEST(updates_show_in_the_next_quote)
{
    static const uint8_t root[64] = {9};
    struct attester a = start(VERIFIER_ENGINE);
    struct writer c = challenge_of(VERIFIER_PROXY, VERIFIER_ENGINE, 1), envelope = {0};
    struct attester_seal seal;
    uint8_t digest[64];
    struct view v;
    static uint8_t paper[200000] = {1};

    ck_assert_int_eq(attester_update_policy(a.owner_fd, writer_span(&policy_part), 3), ATTESTER_OK);
    ck_assert_int_eq(attester_update_model(a.owner_fd, root, span_str("context=4096")), ATTESTER_OK);
    ck_assert_int_eq(attester_update_time(a.owner_fd, 1795255200), ATTESTER_OK);
    ck_assert_int_eq(
        attester_update_papers(a.owner_fd, span_of(paper, sizeof paper), span_of(NULL, 0), span_str("lease")),
        ATTESTER_OK); /* several pieces */
    ck_assert_int_eq(attester_seal_now(a.owner_fd, &seal), ATTESTER_OK);
    attest(a.peer_fd, writer_span(&c), "key", &v, &envelope);
    ck_assert(v.binds);
    verifier_sha512(digest, span_str("version = 3;"));
    ck_assert(v.state.has_policy && v.state.policy.version == 3);
    ck_assert_mem_eq(v.state.policy.digest, digest, 64);
    ck_assert(v.state.has_model && span_is(v.state.model.load_options, "context=4096"));
    ck_assert(v.state.has_seal && seal.has && v.state.seal.epoch == seal.epoch);
    ck_assert_mem_eq(v.state.seal.public, seal.public, 32);
    ck_assert_uint_ge(v.state.at, 1795255200);
    ck_assert_uint_le(v.state.at, 1795255210);
    ck_assert(span_equal(v.env.policy.bytes, writer_span(&policy_part)));
    ck_assert_uint_eq(v.env.revocations.len, sizeof paper);
    ck_assert(span_is(v.env.lease, "lease") && v.env.fleet.data == NULL);

    ck_assert_int_eq(attester_update_serves(a.owner_fd, 1, root), ATTESTER_E_CALL); /* a proxy's */
    ck_assert_int_eq(attester_update_policy(a.owner_fd, writer_span(&policy_part), 2), ATTESTER_E_FELL);
    ck_assert_int_eq(attester_update_time(a.owner_fd, 1795255200 - 1000), ATTESTER_E_FELL);
    ck_assert_int_eq(attester_update_policy(a.owner_fd, span_str("garbage"), 4), ATTESTER_E_SHAPE);
    struct writer foreign = make_policy("keyset of another owner", "version = 4;");
    ck_assert_int_eq(attester_update_policy(a.owner_fd, writer_span(&foreign), 4), ATTESTER_E_OWNER);
    writer_release(&foreign);
    ck_assert_int_eq(attester_update_model(a.owner_fd, NULL, span_of(NULL, 0)), ATTESTER_OK);
    attest(a.peer_fd, writer_span(&c), "key", &v, &envelope);
    ck_assert(v.binds && !v.state.has_model && v.state.policy.version == 3);
    writer_release(&c);
    writer_release(&envelope);
    attester_end(&a);
}
END_TEST

START_TEST(a_proxy_serves_a_tree_and_has_no_model)
{
    static const uint8_t root[64] = {9};
    struct attester a = start(VERIFIER_PROXY);
    struct writer c = challenge_of(VERIFIER_CLIENT, VERIFIER_PROXY, 1), envelope = {0};
    struct view v;

    ck_assert_int_eq(attester_update_policy(a.owner_fd, writer_span(&policy_part), 3), ATTESTER_OK);
    ck_assert_int_eq(attester_update_serves(a.owner_fd, 2, root), ATTESTER_OK);
    ck_assert_int_eq(attester_update_model(a.owner_fd, root, span_str("")), ATTESTER_E_CALL);
    attest(a.owner_fd, writer_span(&c), "key", &v, &envelope);
    ck_assert(v.binds && v.state.has_serves && v.state.serves.count == 2 && !v.state.has_seal);
    ck_assert_int_eq(attester_update_serves(a.owner_fd, 0, NULL), ATTESTER_OK);
    attest(a.owner_fd, writer_span(&c), "key", &v, &envelope);
    ck_assert(v.binds && !v.state.has_serves);
    writer_release(&c);
    writer_release(&envelope);
    attester_end(&a);
}
END_TEST

START_TEST(the_stage_is_read_and_not_believed)
{
    struct attester a = start(VERIFIER_ENGINE);
    unsigned stage;

    /* this test has no seccomp filter and no no_new_privs: /proc says so */
    ck_assert_int_eq(attester_update_stage(a.owner_fd, VERIFIER_STAGE_SECCOMP, &stage), ATTESTER_E_STAGE);
    ck_assert_int_eq(attester_update_stage(a.owner_fd, VERIFIER_STAGE_NO_NEW_PRIVS, &stage), ATTESTER_E_STAGE);
    ck_assert_int_eq(attester_update_stage(a.owner_fd, VERIFIER_STAGE_LANDLOCK, &stage), ATTESTER_OK);
    ck_assert_uint_eq(stage & ~(unsigned)VERIFIER_STAGE_NO_SWAP & ~(unsigned)VERIFIER_STAGE_UNPRIVILEGED,
                      VERIFIER_STAGE_LANDLOCK);
    ck_assert_int_eq(attester_update_stage(a.owner_fd, 0, &stage), ATTESTER_OK); /* only rises */
    ck_assert_uint_ne(stage & VERIFIER_STAGE_LANDLOCK, 0);
    attester_end(&a);
}
END_TEST

START_TEST(devices_need_a_nonce_of_ours_and_a_mode)
{
    struct attester a = start(VERIFIER_ENGINE);
    struct writer c = challenge_of(VERIFIER_PROXY, VERIFIER_ENGINE, 1), envelope = {0};
    struct attester_device d = {.report = span_str("report"), .chain = span_str("chain")};
    uint8_t nonce[32], want[32], item[1][64], digest[64];
    struct view v;

    ck_assert_int_eq(attester_update_devices(a.owner_fd, VERIFIER_CC_ON, &d, 1), ATTESTER_E_NOT_READY);
    ck_assert_int_eq(attester_device_nonce(a.owner_fd, nonce), ATTESTER_OK);
    ck_assert_int_eq(attester_update_devices(a.owner_fd, VERIFIER_CC_OFF, &d, 1), ATTESTER_E_SHAPE);
    ck_assert_int_eq(attester_update_devices(a.owner_fd, VERIFIER_CC_ON, &d, 1), ATTESTER_OK);
    ck_assert_int_eq(attester_update_devices(a.owner_fd, VERIFIER_CC_ON, &d, 1), ATTESTER_E_NOT_READY); /* once */
    attest(a.peer_fd, writer_span(&c), "key", &v, &envelope);
    ck_assert(v.binds && v.state.has_devices && v.state.cc == VERIFIER_CC_ON && v.env.device_count == 1);
    verifier_device_nonce(want, v.state.devices.tree_size, v.state.devices.tree_root);
    ck_assert_mem_eq(nonce, want, 32);
    verifier_device_item(item[0], d.report, d.chain);
    verifier_devices_digest(digest, (const uint8_t(*)[64])item, 1);
    ck_assert_mem_eq(v.state.devices.digest, digest, 64);
    writer_release(&c);
    writer_release(&envelope);
    attester_end(&a);
}
END_TEST

/* --- keys -------------------------------------------------------------------------------------------------------- */

START_TEST(it_signs_receipts_and_nothing_else)
{
    struct attester a = start(VERIFIER_ENGINE);
    struct writer w = writer_with_max(1000);
    uint8_t sig[64];

    ck_assert_int_eq(attester_sign(a.owner_fd, "receipt", span_str("body"), sig), ATTESTER_OK);
    writer_lp_str(&w, "airlock signed v1");
    writer_lp_str(&w, "receipt");
    writer_lp_str(&w, "body");
    ck_assert(verifier_ed25519_verify(a.identity, writer_span(&w), sig));
    ck_assert_int_eq(attester_sign(a.owner_fd, "lease", span_str("body"), sig), ATTESTER_E_SHAPE);
    ck_assert_int_eq(attester_sign(a.owner_fd, "policy", span_str("body"), sig), ATTESTER_E_SHAPE);
    writer_release(&w);
    attester_end(&a);
}
END_TEST

START_TEST(a_weight_key_opens_until_it_is_forgotten)
{
    struct attester a = start(VERIFIER_ENGINE);
    struct verifier_release_bind bind = {.policy = {1}, .artefact_root = {2}, .i = 0, .n = 1};
    uint8_t key[32] = {3}, enc[32], sealed[VERIFIER_RELEASE_SEALED_LEN], aad[VERIFIER_RELEASE_AAD_LEN];
    struct writer plain = writer_with_max(64);
    struct verifier_hpke hpke;

    verifier_sha512(bind.statement, span_of(a.statement, a.statement_len));
    ck_assert(verifier_release_seal(a.release, &bind, key, enc, sealed));
    verifier_release_aad(aad, &bind);
    ck_assert_int_eq(attester_open(a.owner_fd, enc, verifier_release_info(), span_of(aad, sizeof aad), &hpke),
                     ATTESTER_OK);
    ck_assert_int_eq(
        verifier_aead_open(hpke.key, hpke.nonce, span_of(aad, sizeof aad), span_of(sealed, sizeof sealed), &plain),
        VERIFIER_OK);
    ck_assert(span_equal(writer_span(&plain), span_of(key, 32)));
    aad[0] ^= 1; /* another statement */
    ck_assert_int_eq(attester_open(a.owner_fd, enc, verifier_release_info(), span_of(aad, sizeof aad), &hpke),
                     ATTESTER_E_KEY);
    aad[0] ^= 1;
    memset(enc, 0, sizeof enc); /* of small order */
    ck_assert_int_eq(attester_open(a.owner_fd, enc, verifier_release_info(), span_of(aad, sizeof aad), &hpke),
                     ATTESTER_E_KEY);
    enc[0] = 9;
    ck_assert_int_eq(attester_forget_release(a.owner_fd), ATTESTER_OK);
    ck_assert_int_eq(attester_open(a.owner_fd, enc, verifier_release_info(), span_of(aad, sizeof aad), &hpke),
                     ATTESTER_E_KEY);
    writer_release(&plain);
    attester_end(&a);
}
END_TEST

/* A sealed request to the attester's key of `epoch`; opens it. */
static enum attester_err seal_and_open(const struct attester *a, const struct attester_seal *seal, const char *policy,
                                       uint8_t enc[32])
{
    struct verifier_sealed_head head = {
        .epoch = seal->epoch, .endpoint = span_str("/v1/chat/completions"), .model = span_str("m"), .max_tokens = 5};
    struct writer body = writer_with_max(10000), info = writer_with_max(1000), plain = writer_with_max(10000);
    struct verifier_sealed_request req;
    struct verifier_hpke theirs, ours;
    uint8_t h_statement[64], h_policy[64];
    enum attester_err err;

    memcpy(head.engine, a->identity, 32);
    verifier_sha512(h_statement, span_of(a->statement, a->statement_len));
    verifier_sha512(h_policy, span_str(policy));
    ck_assert(
        verifier_sealed_request_seal(&head, seal->public, h_statement, h_policy, span_str("{}"), &body, &theirs, enc));
    ck_assert_int_eq(verifier_sealed_request_parse(&req, writer_span(&body)), VERIFIER_OK);
    verifier_sealed_info(&info, h_statement, h_policy);
    err = attester_open(a->owner_fd, req.enc, writer_span(&info), req.head_bytes, &ours);
    if (err == ATTESTER_OK)
        ck_assert_int_eq(verifier_sealed_request_open(&req, &ours, &plain), VERIFIER_OK);
    writer_release(&body);
    writer_release(&info);
    writer_release(&plain);
    return err;
}

START_TEST(sealed_requests_open_once_and_under_their_policy)
{
    struct attester a = start(VERIFIER_ENGINE);
    struct writer c = challenge_of(VERIFIER_CLIENT, VERIFIER_ENGINE, 1),
                  envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    struct writer newer = make_policy("keyset one", "version = 4;");
    struct attester_seal one, two;
    uint8_t enc[32], leaf[64];
    struct view v;

    ck_assert_int_eq(attester_update_policy(a.owner_fd, writer_span(&policy_part), 3), ATTESTER_OK);
    ck_assert_int_eq(attester_seal_now(a.owner_fd, &one), ATTESTER_OK);
    ck_assert_int_eq(attester_sealed_leaf(a.peer_fd, writer_span(&c), &envelope), ATTESTER_OK);
    verifier_sealed_leaf(leaf, writer_span(&c), one.public);
    look(&v, writer_span(&envelope), leaf);
    ck_assert(v.binds && v.state.seal.epoch == one.epoch);

    ck_assert_int_eq(seal_and_open(&a, &one, "version = 3;", enc), ATTESTER_OK);
    ck_assert_int_eq(attester_opened_once(a.owner_fd, enc, one.epoch), ATTESTER_OK);
    ck_assert_int_eq(attester_opened_once(a.owner_fd, enc, one.epoch), ATTESTER_E_REPLAY);
    ck_assert_int_eq(seal_and_open(&a, &one, "version = 9;", enc), ATTESTER_E_KEY); /* another policy */

    ck_assert_int_eq(attester_update_policy(a.owner_fd, writer_span(&newer), 4), ATTESTER_OK);
    ck_assert_int_eq(attester_seal_now(a.owner_fd, &two), ATTESTER_OK);
    ck_assert_uint_eq(two.epoch, one.epoch + 1);
    ck_assert_int_eq(seal_and_open(&a, &two, "version = 4;", enc), ATTESTER_OK);
    ck_assert_int_eq(seal_and_open(&a, &one, "version = 3;", enc), ATTESTER_OK); /* lives a minute more */
    one.epoch = 77;
    ck_assert_int_eq(seal_and_open(&a, &one, "version = 3;", enc), ATTESTER_E_EPOCH);
    writer_release(&newer);
    writer_release(&c);
    writer_release(&envelope);
    attester_end(&a);
}
END_TEST

START_TEST(sealing_keys_rotate_by_age_and_by_use)
{
    struct attester a = start_with(VERIFIER_ENGINE, 1, 8);
    struct writer c = challenge_of(VERIFIER_CLIENT, VERIFIER_ENGINE, 1),
                  envelope = writer_with_max(VERIFIER_ENVELOPE_MAX);
    struct attester_seal first, seal;
    uint8_t enc[32] = {0};

    ck_assert_int_eq(attester_update_policy(a.owner_fd, writer_span(&policy_part), 3), ATTESTER_OK);
    ck_assert_int_eq(attester_seal_now(a.owner_fd, &first), ATTESTER_OK);
    for (uint8_t i = 0; i < 6; i++) { /* three quarters of 8 */
        enc[0] = i;
        ck_assert_int_eq(attester_opened_once(a.owner_fd, enc, first.epoch), ATTESTER_OK);
    }
    ck_assert_int_eq(attester_sealed_leaf(a.owner_fd, writer_span(&c), &envelope), ATTESTER_OK);
    ck_assert_int_eq(attester_seal_now(a.owner_fd, &seal), ATTESTER_OK);
    ck_assert_uint_eq(seal.epoch, first.epoch + 1);
    usleep(1100 * 1000);
    writer_reset(&envelope);
    ck_assert_int_eq(attester_sealed_leaf(a.owner_fd, writer_span(&c), &envelope), ATTESTER_OK);
    ck_assert_int_eq(attester_seal_now(a.owner_fd, &seal), ATTESTER_OK);
    ck_assert_uint_eq(seal.epoch, first.epoch + 2);
    ck_assert_int_eq(attester_opened_once(a.owner_fd, enc, first.epoch), ATTESTER_E_EPOCH); /* two rotations ago */
    writer_release(&c);
    writer_release(&envelope);
    attester_end(&a);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_leaf_binds_its_session_and_no_other);
    tcase_add_loop_test(t, foreign_pairs_are_refused, 0, (int)(sizeof pairs / sizeof *pairs));
    tcase_add_test(t, leaves_that_arrive_together_share_a_quote);
    tcase_add_test(t, parts_the_verifier_holds_come_by_digest);
    tcase_add_test(t, a_hostile_peer_gets_refusals_and_harms_nobody);
    tcase_add_test(t, a_peer_that_never_reads_stops_itself_only);
    tcase_add_test(t, it_ends_with_its_owner);
    tcase_add_test(t, it_locks_itself_in);
    tcase_add_test(t, an_operators_bundle_goes_along);
    tcase_add_test(t, a_bundle_that_cannot_be_read_again_is_told_of);
    tcase_add_test(t, a_start_that_fails_says_why);
    tcase_add_test(t, updates_show_in_the_next_quote);
    tcase_add_test(t, a_proxy_serves_a_tree_and_has_no_model);
    tcase_add_test(t, the_stage_is_read_and_not_believed);
    tcase_add_test(t, devices_need_a_nonce_of_ours_and_a_mode);
    tcase_add_test(t, it_signs_receipts_and_nothing_else);
    tcase_add_test(t, a_weight_key_opens_until_it_is_forgotten);
    tcase_add_test(t, sealed_requests_open_once_and_under_their_policy);
    tcase_add_test(t, sealing_keys_rotate_by_age_and_by_use);
}

RUN("tunnel_attester", add_tests)
