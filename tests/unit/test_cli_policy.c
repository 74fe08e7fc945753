/* Do the tool's words make what the programs read, refuse what they would not, and keep secrets secret? */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/config.h"
#include "policy/keytext.h"
#include "unit/cli_words.h"
#include "verifier/release.h"

static char base[64];

static void must(const char *words)
{
    int code = run(words);
    ck_assert_msg(code == CLI_OK, "%s: %d: %s", words, code, content("err"));
}

static void refused(const char *words, const char *because)
{
    ck_assert_int_ne(run(words), CLI_OK);
    ck_assert_msg(strstr(content("err"), because) != NULL, "%s: %s", words, content("err"));
}

static void first_line(char *out, size_t cap)
{
    const char *text = content("out");
    size_t len = strcspn(text, "\n");
    ck_assert_uint_lt(len, cap);
    memcpy(out, text, len);
    out[len] = '\0';
}

static void setup(void)
{
    strcpy(base, "/tmp/cli-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    ck_assert_int_eq(chdir(base), 0);
}

static void teardown(void)
{
    char command[128];
    ck_assert_int_eq(chdir("/"), 0);
    snprintf(command, sizeof command, "rm -rf %s", base);
    ck_assert_int_eq(system(command), 0);
}

#define ZERO48 "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"

/* Keys, key set, sealed model and texts; returns with policy.conf in `t/`. */
static void make_all(void)
{
    char owner[160], root[160], words[2048];
    must("policy keygen owner");
    must("policy keygen keyd");
    must("policy keygen tenants");
    must("policy keyset keyset --signer owner.pub --key owner");
    first_line(owner, sizeof owner);
    ck_assert_int_eq(mkdir("model", 0700), 0);
    FILE *f = fopen("model/config.json", "w");
    fputs("{}", f);
    fclose(f);
    must("seal model sealed --key-out weight.key --quiet");
    must("policy root sealed");
    first_line(root, sizeof root);
    snprintf(words, sizeof words,
             "policy init t --owner %s --keyd keyd.pub --tenants-key tenants.pub --model m --root %s --proxy " ZERO48
             " --engine " ZERO48 " --simulated",
             owner, root);
    must(words);
}

START_TEST(from_keys_to_a_bundle)
{
    make_all();
    must("policy init empty");
    refused("policy check empty/policy.conf", "keyd[0]"); /* FILL IN */
    must("policy check t/policy.conf");
    must("policy check t/acceptance.conf");
    must("policy check t/tenants.conf");
    must("policy sign t/policy.conf --key owner");
    must("policy bundle papers --keyset keyset --policy t/policy.conf");
    must("policy show papers");
    ck_assert_ptr_nonnull(strstr(content("out"), "all signatures good"));
}
END_TEST

START_TEST(a_changed_text_or_a_strangers_signature_makes_no_bundle)
{
    make_all();
    must("policy sign t/policy.conf --key tenants");
    refused("policy bundle papers --keyset keyset --policy t/policy.conf", "signed_key");
    ck_assert_int_eq(unlink("t/policy.conf.sig"), 0);
    must("policy sign t/policy.conf --key owner");
    ck_assert_int_eq(system("echo >> t/policy.conf"), 0);
    refused("policy bundle papers --keyset keyset --policy t/policy.conf", "signed_signature");
    must("policy sign t/policy.conf --key owner"); /* drops the signature of the earlier text */
    must("policy bundle papers --keyset keyset --policy t/policy.conf");
}
END_TEST

START_TEST(two_of_three_signers)
{
    make_all();
    must("policy keygen second");
    must("policy keygen third");
    must("policy keyset trio --signer owner.pub --signer second.pub --signer third.pub --m 2 --key owner --key third");
    must("policy sign t/policy.conf --key owner");
    refused("policy bundle papers --keyset trio --policy t/policy.conf", "signed_count");
    must("policy sign t/policy.conf --key second");
    must("policy bundle papers --keyset trio --policy t/policy.conf");
    must("policy keyset next --signer second.pub --previous trio --key owner --key second");
    must("policy sign t/policy.conf --key second");
    refused("policy bundle papers --keyset trio --keyset next --policy t/policy.conf", "signed_key");
    ck_assert_int_eq(unlink("t/policy.conf.sig"), 0);
    must("policy sign t/policy.conf --key second");
    must("policy bundle papers --keyset trio --keyset next --policy t/policy.conf");
    refused("policy bundle papers --keyset next --policy t/policy.conf", "keyset_chain");
    refused("policy keyset bad --signer second.pub --m 2 --key second", "--m");
}
END_TEST

START_TEST(tenants_enter_as_hashes)
{
    char key[128];
    make_all();
    must("policy tenant add t/tenants.conf --name alice");
    first_line(key, sizeof key);
    ck_assert_ptr_nonnull(strstr(key, "sk-"));
    must("policy tenant add t/tenants.conf --name bob --requests-per-minute 5 --expires 2027-01-01");
    ck_assert_ptr_null(strstr(content("t/tenants.conf"), key));
    ck_assert_ptr_nonnull(strstr(content("t/tenants.conf"), "requests_per_minute = 5"));
    refused("policy tenant add t/tenants.conf --name bob", "two tenants");
    must("policy sign t/tenants.conf --type tenants --key tenants");
}
END_TEST

START_TEST(secrets_have_mode_0600_and_are_never_overwritten)
{
    struct stat st;
    make_all();
    ck_assert_int_eq(stat("owner", &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    ck_assert_int_eq(stat("weight.key", &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    refused("policy keygen owner", "exists already");
    refused("seal model sealed2 --key-out weight.key", "exists already");
    ck_assert_int_eq(chmod("owner", 0644), 0);
    refused("policy sign t/policy.conf --key owner", "chmod 600");
    refused("policy keyset keyset --signer owner.pub --key owner", "never rewritten");
}
END_TEST

/* Two shares, neither of which is the key, and the key id of both together. */
START_TEST(a_weight_key_in_shares)
{
    static const char *const files[] = {"one.key", "two.key"};
    uint8_t shares[2][32], key[32], id[32];
    char hex[65], line[96];
    make_all();
    must("seal model split --key-out one.key --key-out two.key --quiet");
    snprintf(line, sizeof line, "%s", strstr(content("out"), "key_id"));
    for (int i = 0; i < 2; i++) {
        struct secret share = {0};
        ck_assert(policy_keytext_parse(&share, POLICY_KEYTEXT_WEIGHT, span_str(content(files[i]))));
        memcpy(shares[i], share.data, 32);
        secret_release(&share);
    }
    ck_assert_mem_ne(shares[0], shares[1], 32);
    ck_assert(verifier_release_combine((const uint8_t(*)[32])shares, 2, key));
    ck_assert(verifier_release_key_id(key, id));
    policy_hex_print(span_of(id, 32), hex);
    ck_assert_int_eq(memcmp(line, "key_id = \"", 10), 0);
    ck_assert_int_eq(memcmp(line + 10, hex, 64), 0);
    ck_assert_int_eq(memcmp(line + 74, "\";\nshares = 2;\n", 15), 0);
    refused("seal model split2 --key-out three.key --key-out one.key", "exists already");
    ck_assert_int_ne(access("three.key", F_OK), 0); /* half of the shares is not left behind */
}
END_TEST

START_TEST(a_revocation_list)
{
    make_all();
    must("policy revoke list --epoch 2 --entry measurement=" ZERO48 " --entry gpu=123 --key owner");
    must("policy show list");
    ck_assert_ptr_nonnull(strstr(content("out"), "signed revocations"));
    refused("policy revoke list --epoch 2 --entry gpu=12x --key owner", "KIND=HEX");
    refused("policy revoke list --epoch 0 --entry gpu=12 --key owner", "--epoch");
    refused("policy revoke list --epoch 5abc --entry gpu=12 --key owner", "--epoch 5abc");
    refused("policy revoke list --epoch -1 --entry gpu=12 --key owner", "--epoch -1");
}
END_TEST

START_TEST(a_release_is_accepted_by_its_publishers_key_alone)
{
    must("policy keygen publisher");
    must("policy keygen stranger");
    must("policy release r --version 1.0 --proxy " ZERO48 " --engine tdx=" ZERO48 " --key publisher");
    must("policy accept r --publisher publisher.pub");
    ck_assert_ptr_nonnull(strstr(content("out"), "tee = \"tdx\""));
    refused("policy accept r --publisher stranger.pub", "signed_key");
    refused("policy release r --version 1.0 --proxy " ZERO48 " --proxy " ZERO48 " --key publisher", "given twice");
}
END_TEST

START_TEST(mistakes_get_an_answer)
{
    refused("policy", "usage");
    refused("policy sing x", "usage");
    refused("policy sign x --kye y", "unrecognized option");
    refused("policy sign x --key", "requires an argument");
    refused("policy check nowhere.conf", "cannot be read");
    refused("policy root nowhere", "nowhere");
    refused("policy sign", "usage: airlock policy sign");
    must("policy sign --help"); /* asked for, it is an answer: on standard output, exit 0 */
    ck_assert_ptr_nonnull(strstr(content("out"), "usage: airlock policy sign"));
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, from_keys_to_a_bundle);
    tcase_add_test(t, a_changed_text_or_a_strangers_signature_makes_no_bundle);
    tcase_add_test(t, two_of_three_signers);
    tcase_add_test(t, tenants_enter_as_hashes);
    tcase_add_test(t, secrets_have_mode_0600_and_are_never_overwritten);
    tcase_add_test(t, a_weight_key_in_shares);
    tcase_add_test(t, a_revocation_list);
    tcase_add_test(t, a_release_is_accepted_by_its_publishers_key_alone);
    tcase_add_test(t, mistakes_get_an_answer);
}

RUN("cli_policy", add_tests)
