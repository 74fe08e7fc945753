/* attester.h - the proving half of a node: a child process that alone holds the quoting device and the private keys.
 * airlock-engine and airlock-proxy fork it before any byte from a peer is read. It answers five calls (leaf,
 * sealed-leaf, open, sign, update) on one SEQPACKET pair, and only the first two on a second pair for the process that
 * talks to strangers. It parses every challenge itself, refuses pairs of roles that are not its own and never has
 * report data signed that a caller chose. PROTOCOL.md § Attester; bytes between caller and attester: attester_wire.h.
 *
 * What that buys, and no more: a leaf proves that the measured software names this session as its own. A caller that
 * holds a TLS key could name another machine's session; it never obtains weight keys, identity or seal keys.
 * A verifier detects replayed challenges, not the attester: it answers any well-formed one. */
#ifndef TUNNEL_ATTEST_ATTESTER_H
#define TUNNEL_ATTEST_ATTESTER_H

#include <sys/types.h>

#include "tunnel/attest/producer.h"
#include "verifier/base/secret.h"
#include "verifier/base/writer.h"
#include "verifier/hpke.h"
#include "verifier/types.h"

enum attester_err {
    ATTESTER_OK = 0,
    ATTESTER_E_BUSY,      /* too many requests are waiting; retry */
    ATTESTER_E_CALL,      /* no such call, or not on this descriptor */
    ATTESTER_E_CHALLENGE, /* the challenge is malformed */
    ATTESTER_E_CLOSED,    /* the attester is gone: the node must end */
    ATTESTER_E_DEVICE,    /* the hardware did not give a quote */
    ATTESTER_E_EPOCH,     /* sealed to a key that has been replaced */
    ATTESTER_E_FELL,      /* a policy version below the one in force, or a time that runs back */
    ATTESTER_E_INTERNAL,  /* our fault or out of memory */
    ATTESTER_E_KEY,       /* an encapsulated key of small order, or information that names no key here */
    ATTESTER_E_NOT_READY, /* the state lacks what the verifier needs: sealed-leaf without a seal key */
    ATTESTER_E_OWNER,     /* a policy of another owner than the statement names */
    ATTESTER_E_PAIR,      /* the challenge is for a pair of roles that is not this node's */
    ATTESTER_E_REPLAY,    /* this sealed request was opened before */
    ATTESTER_E_SHAPE,     /* an argument is malformed or too long */
    ATTESTER_E_STAGE,     /* the sandbox claimed is not the one that /proc shows */
    ATTESTER_E_TIMEOUT,   /* no answer within ATTESTER_DEADLINE_MS */
    ATTESTER_ERR_COUNT
};
/* Short lower-case name. */
const char *attester_err_name(enum attester_err err);

enum {
    ATTESTER_DEADLINE_MS = 5000,
    ATTESTER_BATCH_MS = 5,         /* a leaf waits so long for others to share its quote */
    ATTESTER_BATCH_MAX = 256,      /* leaves in one tree */
    ATTESTER_SEAL_LIFE_S = 3600,   /* then a new sealing key */
    ATTESTER_SEAL_GRACE_S = 60,    /* the old one still opens so long */
    ATTESTER_REPLAY_MAX = 1 << 20, /* sealed requests remembered an epoch; a new epoch comes at three quarters */
};

/* Everything is copied before attester_fork() returns. */
struct attester_config {
    enum verifier_role role;                  /* VERIFIER_PROXY or VERIFIER_ENGINE */
    const char *program, *version;            /* texts of the statement, 1 to 64 bytes */
    struct span config_text;                  /* the effective configuration as printed, <= 64 KiB; no secret in it */
    uint8_t owner[VERIFIER_DIGEST_LEN];       /* digest of the body of the owner's first key set */
    const char *collateral;                   /* a file of `airlock collateral` whose pieces go along; NULL or empty:
                                                 none. Looked at again with each quote; its folder may be read for it */
    const char *kernels;                      /* engine: code path, e.g. "cpu-avx2"; NULL for a proxy */
    const struct attester_producer *producer; /* attester_producer(): the one linked in */
    struct attester_producer_config device;   /* its .role is taken from above */
    unsigned batch_ms;                        /* 0: ATTESTER_BATCH_MS */
    unsigned sandbox; /* SANDBOX_* bits that must be on in the attester (tunnel/sandbox.h) or it refuses to start */
    bool no_sandbox;  /* tests under sanitizers only */
    uid_t uid;        /* the attester's own when started as root; 0: nobody */
    gid_t gid;
    uint32_t seal_life_s; /* tests only; 0: ATTESTER_SEAL_LIFE_S */
    uint32_t replay_max;  /* tests only; 0: ATTESTER_REPLAY_MAX */
};

struct attester {
    pid_t pid;                                 /* a child: attester_end() reaps it */
    int owner_fd;                              /* all calls; closing it ends the attester */
    int peer_fd;                               /* leaf and sealed-leaf only, for airlock-tunnel; -1 in a proxy */
    uint8_t identity[VERIFIER_KEY_LEN];        /* Ed25519 public */
    uint8_t release[VERIFIER_KEY_LEN];         /* X25519 public */
    uint8_t statement[VERIFIER_STATEMENT_MAX]; /* exact bytes, constant for life */
    size_t statement_len;
};

/* Fork the attester; the caller must still have one thread. Waits until it has keys, device and sandbox. -1 with one
 * line for people in `why` (what, why, what to do). */
MUST_CHECK int attester_fork(const struct attester_config *config, struct attester *out, char why[256]);
/* Close the descriptors and reap the child. */
void attester_end(struct attester *a);

/* --- blocking calls: one answer is awaited for ATTESTER_DEADLINE_MS; one thread a descriptor -------- */

/* The envelope (its `engines` empty or nil) that binds this TLS session: `spki` of our own TLS key, its exporter for
 * `challenge` (label VERIFIER_EXPORTER_LABEL, context SHA-256(challenge)). Parts that the challenge's `have` lists come
 * by digest. */
MUST_CHECK enum attester_err attester_leaf(int fd, struct span challenge, struct span spki,
                                           const uint8_t exporter[VERIFIER_EXPORTER_LEN], struct writer *envelope);
/* The same for sealed mode: binds the sealing key instead of a session. Engine only. */
MUST_CHECK enum attester_err attester_sealed_leaf(int fd, struct span challenge, struct writer *envelope);

/* HPKE SetupBaseR (RFC 9180 § 5.1.1, suite 0x0020/0x0001/0x0003) with the key that `info` names: lp("airlock release
 * v1") the release key, lp("airlock sealed v1") ... the sealing key of the epoch in `aad`, the request's head. Wipe
 * `*out` with verifier_hpke_wipe(). */
MUST_CHECK enum attester_err attester_open(int fd, const uint8_t enc[32], struct span info, struct span aad,
                                           struct verifier_hpke *out);
/* The tag of the request with this `enc` verified: remember it. ATTESTER_E_REPLAY when it already was: refuse the
 * request. Ask after the tag verified and before the request is acted on. */
MUST_CHECK enum attester_err attester_opened_once(int fd, const uint8_t enc[32], uint32_t epoch);
/* Wipe the release key: weight keys can no longer be opened. After loading. */
MUST_CHECK enum attester_err attester_forget_release(int fd);

/* Ed25519 by the identity over lp("airlock signed v1"), lp(type), lp(body); type: "receipt", "checkpoint", "close". */
MUST_CHECK enum attester_err attester_sign(int fd, const char *type, struct span body, uint8_t sig[VERIFIER_SIG_LEN]);

/* --- update(...): the state moves, so the next leaf gets a quote over the new state ------------------ */

/* Read the owner process's sandbox from /proc again. What the kernel does not show (Landlock always; namespaces where
 * /proc hides them) is taken from `claimed`, sandbox_stage() of the owner: measured code's word. A claim that /proc
 * contradicts is ATTESTER_E_STAGE. `*stage` gets the bits in force: they only rise. */
MUST_CHECK enum attester_err attester_update_stage(int fd, unsigned claimed, unsigned *stage);
/* Which model serves; a NULL `root`: none. */
MUST_CHECK enum attester_err attester_update_model(int fd, const uint8_t *root, struct span load_options);
/* The tree of engines that a proxy shows; count 0: none. */
MUST_CHECK enum attester_err attester_update_serves(int fd, uint32_t count, const uint8_t root[VERIFIER_DIGEST_LEN]);
/* The envelope's policy part (list of keysets, then the signed policy) and the version its text states. Makes a new
 * sealing key in an engine. */
MUST_CHECK enum attester_err attester_update_policy(int fd, struct span part, uint32_t version);
/* Signed objects that go into the envelope as they are; an empty span: none. They do not change the state. */
MUST_CHECK enum attester_err attester_update_papers(int fd, struct span revocations, struct span fleet,
                                                    struct span lease);
/* Trusted seconds now, from a grant; state.at counts on from there by the monotonic clock. Never runs back. */
MUST_CHECK enum attester_err attester_update_time(int fd, uint64_t now);
/* Accelerators: their mode and, with ON, DEVTOOLS or PPCIE, 1 to 16 devices' evidence, collected with the nonce of the
 * last attester_device_nonce(), which serves once. `chain` are the bytes of the chain part. */
struct attester_device {
    struct span report, chain;
};
MUST_CHECK enum attester_err attester_update_devices(int fd, enum verifier_cc cc, const struct attester_device *devices,
                                                     size_t count);
/* The SPDM nonce to collect device evidence with: of a tree of one random leaf that the attester draws. */
MUST_CHECK enum attester_err attester_device_nonce(int fd, uint8_t nonce[VERIFIER_NONCE_LEN]);

/* The sealing key in force. */
struct attester_seal {
    bool has;
    uint8_t public[VERIFIER_KEY_LEN];
    uint32_t epoch;
};
MUST_CHECK enum attester_err attester_seal_now(int fd, struct attester_seal *out);

/* --- leaves for an event loop: ask now, receive later ------------------------------------------------ */

/* Ask; the answer comes with `id` (the caller's, not 0). ATTESTER_E_BUSY when the non-blocking descriptor's buffer is
 * full. Do not mix with blocking calls while answers are outstanding. */
MUST_CHECK enum attester_err attester_ask_leaf(int fd, uint32_t id, struct span challenge, struct span spki,
                                               const uint8_t exporter[VERIFIER_EXPORTER_LEN]);
MUST_CHECK enum attester_err attester_ask_sealed_leaf(int fd, uint32_t id, struct span challenge);

/* Collects answers' pieces. Zero-initialised is empty. */
struct attester_inbox {
    struct writer body;
    bool whole;
};
/* Read what is there: 1 when an answer is whole (`*id`, `*err` and, on ATTESTER_OK, `*envelope`, borrowed until the
 * next call), 0 when nothing more is there now, -1 when the attester is gone. Call again while it is 1. */
MUST_CHECK int attester_receive(int fd, struct attester_inbox *in, uint32_t *id, enum attester_err *err,
                                struct span *envelope);
void attester_inbox_release(struct attester_inbox *in);

#endif
