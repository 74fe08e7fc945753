#include "vectors/forge_snp.h"

#include <stdio.h>

#define AMD_OID "1.3.6.1.4.1.3704.1."

EVP_PKEY *forge_ark, *forge_ask, *forge_asvk;

void forge_snp_keys(void)
{
    forge_ark = forge_rsa("ARK", 4096);
    forge_ask = forge_rsa("ASK", 4096);
    forge_asvk = forge_rsa("ASVK", 4096);
}

struct forge_snp forge_snp_good(enum verifier_snp_line line, uint32_t version, bool vlek)
{
    static const uint8_t cpuid[][3] = {{0}, {0x19, 0x01, 0x01}, {0x19, 0x11, 0x01}, {0x1a, 0x02, 0x01}};
    struct forge_snp s = {.line = line, .version = version, .vlek = vlek, .signing_key = vlek, .policy = 0x3001f};
    static char label[4][2][64];

    snprintf(label[line][vlek], sizeof label[line][vlek], "%s %s", verifier_snp_line_name(line),
             vlek ? "VLEK" : "VCEK");
    s.label = label[line][vlek];
    memcpy(s.tcb, line == VERIFIER_SNP_TURIN ? "\1\2\3\4\0\0\0\x50" : "\4\1\0\0\0\0\x18\xdb", 8);
    if (version >= 3)
        memcpy(s.cpuid, cpuid[line], 3);
    forge_fill(s.report_data, sizeof s.report_data, "report data");
    forge_fill(s.chip_id, sizeof s.chip_id, s.label);
    if (line == VERIFIER_SNP_TURIN)
        memset(s.chip_id + 8, 0, sizeof s.chip_id - 8);
    s.key = forge_ec(s.label, "P-384");
    return s;
}

static void put_le(uint8_t *at, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(v >> 8 * i);
}

void forge_snp_report(const struct forge_snp *s, uint8_t out[VERIFIER_SNP_LEN])
{
    static const uint16_t tcbs[] = {0x38, 0x180, 0x1e0, 0x1f0};
    uint8_t rs[96];

    memset(out, 0, VERIFIER_SNP_LEN);
    put_le(out, s->version, 4);
    put_le(out + 0x04, 2, 4);
    put_le(out + 0x08, s->policy, 8);
    put_le(out + 0x30, s->vmpl, 4);
    put_le(out + 0x34, 1, 4);
    for (size_t i = 0; i < sizeof tcbs / sizeof *tcbs; i++)
        memcpy(out + tcbs[i], s->tcb, 8);
    put_le(out + 0x40, 0x25, 8);
    put_le(out + 0x48, (uint64_t)s->signing_key << 2, 4);
    memcpy(out + 0x50, s->report_data, 64);
    forge_fill(out + 0x90, 48, "measurement");
    forge_fill(out + 0xc0, 32, "host data");
    forge_fill(out + 0x140, 32, s->label);
    memset(out + 0x160, 0xff, 32);
    memcpy(out + 0x188, s->cpuid, 3);
    if (!s->vlek)
        memcpy(out + 0x1a0, s->chip_id, 64);
    memcpy(out + 0x1e8, "\x1d\x37\x01\0\x1d\x37\x01\0", 8);
    if (s->version >= 5)
        put_le(out + 0x1f8, 3, 8), put_le(out + 0x200, 7, 8);
    forge_ecdsa(s->key, s->label, span_of(out, VERIFIER_SNP_SIGNED), rs, sizeof rs);
    for (size_t i = 0; i < 48; i++) {
        out[0x2a0 + i] = rs[47 - i];
        out[0x2e8 + i] = rs[95 - i];
    }
}

/* --- certificates ------------------------------------------------------------------------------------ */

struct forge_cert forge_snp_ark(enum verifier_snp_line line)
{
    static char cn[4][32];

    snprintf(cn[line], sizeof cn[line], "ARK-%s", verifier_snp_line_name(line));
    return (struct forge_cert){
        .cn = cn[line], .key = forge_ark, .form = FORGE_PSS, .serial = 0x10000, .ca = true, .room = -1};
}

struct forge_cert forge_snp_ask(enum verifier_snp_line line, X509 *ark, bool vlek)
{
    static char cn[4][2][32];

    snprintf(cn[line][vlek], sizeof cn[line][vlek], "SEV-%s%s", vlek ? "VLEK-" : "", verifier_snp_line_name(line));
    return (struct forge_cert){.cn = cn[line][vlek],
                               .key = vlek ? forge_asvk : forge_ask,
                               .signer = forge_ark,
                               .issuer = ark,
                               .form = FORGE_PSS,
                               .serial = vlek ? 0x10002 : 0x10001,
                               .ca = true,
                               .room = 0};
}

static void add(struct forge_cert *c, const char *oid, const void *value, size_t len)
{
    struct forge_extension *e = &c->extension[c->extension_count++];

    *e = (struct forge_extension){.oid = oid, .len = len};
    memcpy(e->value, value, len);
}

static void add_number(struct forge_cert *c, const char *oid, uint8_t v)
{
    const uint8_t small[] = {2, 1, v}, large[] = {2, 2, 0, v};

    add(c, oid, v < 0x80 ? small : large, v < 0x80 ? sizeof small : sizeof large);
}

static void add_text(struct forge_cert *c, const char *oid, const char *text)
{
    uint8_t der[80] = {0x16, (uint8_t)strlen(text)};

    memcpy(der + 2, text, strlen(text));
    add(c, oid, der, 2 + strlen(text));
}

struct forge_cert forge_snp_leaf(const struct forge_snp *s, X509 *ask)
{
    bool turin = s->line == VERIFIER_SNP_TURIN;
    struct forge_cert c = {.cn = s->vlek ? "SEV-VLEK" : "SEV-VCEK",
                           .key = s->key,
                           .signer = s->vlek ? forge_asvk : forge_ask,
                           .issuer = ask,
                           .form = FORGE_PSS,
                           .from = "2026-01-01T00:00:00Z",
                           .to = "2033-01-01T00:00:00Z"};
    struct verifier_tcb t = verifier_snp_tcb(s->line, s->tcb);

    add_text(&c, AMD_OID "2", s->product ? s->product : verifier_snp_line_name(s->line));
    add_number(&c, AMD_OID "3.1", t.bootloader);
    add_number(&c, AMD_OID "3.2", t.tee);
    add_number(&c, AMD_OID "3.3", t.snp);
    add_number(&c, AMD_OID "3.8", t.microcode);
    if (turin)
        add_number(&c, AMD_OID "3.9", t.fmc);
    if (s->vlek)
        add_text(&c, AMD_OID "5", "CN=cc.cloud.example");
    else
        add(&c, AMD_OID "4", s->chip_id, turin ? 8 : 64);
    return c;
}
