/* collateral.h - the parts of `airlock collateral`: what is gathered, what it says about time, how it is fetched.
 * Nothing is trusted here: contents are read strictly for their kind and their dates; signatures are the verifier's
 * business, when the bundle is used. Only OCSP answers are checked at once, because the responder was just asked. */
#ifndef PROXY_CLI_COLLATERAL_H
#define PROXY_CLI_COLLATERAL_H

#include "proxy/cli/files.h"
#include "verifier/bundle.h"

/* Exit codes beyond cli.h's, one a reason. */
enum {
    COLLATERAL_UNREACHABLE = 3, /* no connection, no such host, TLS */
    COLLATERAL_STATUS,          /* an HTTP status other than 200, redirections included */
    COLLATERAL_TOO_LONG,
    COLLATERAL_TOO_SLOW,
    COLLATERAL_TORN,    /* the answer ended early */
    COLLATERAL_CONTENT, /* not what was asked for */
    COLLATERAL_STALE,   /* check: something is not valid at that time */
    COLLATERAL_MISSING, /* check: something that the hardware needs is not there */
};

enum collateral_kind {
    COLLATERAL_CHAIN, /* certificates of a machine or device: list of DER, leaf first */
    COLLATERAL_CRL,
    COLLATERAL_TCB_INFO,
    COLLATERAL_TCB_CHAIN,
    COLLATERAL_QE_IDENTITY,
    COLLATERAL_QE_CHAIN,
    COLLATERAL_OCSP,
    COLLATERAL_RIM,
    COLLATERAL_KINDS
};
extern const char *const collateral_names[COLLATERAL_KINDS];

#define COLLATERAL_ITEMS_MAX 160
#define COLLATERAL_ITEM_MAX (256u << 10) /* bytes of one item, as fetched or read */

/* What was gathered so far. Start with all zero; collateral_release() in any case. About 10 KiB. */
struct collateral {
    size_t count;
    struct {
        enum collateral_kind kind;
        struct writer bytes; /* owned, in the bundle's form */
    } item[COLLATERAL_ITEMS_MAX];
};
void collateral_release(struct collateral *c);

/* Bring `bytes` into the bundle's form and keep them: DER or PEM for lists and certificates, XML or the service's JSON
 * (field "rim", base64) for reference files. NULL, or a sentence that says what is wrong; nothing is kept then. */
const char *collateral_add(struct collateral *c, enum collateral_kind kind, struct span bytes);
/* Write all as a bundle, whole or not at all. False after saying why. */
MUST_CHECK bool collateral_write(const struct collateral *c, const char *path);

/* When one item is valid. */
struct collateral_dates {
    uint64_t from, until; /* seconds since 1970 */
};
/* Of an item in the bundle's form. False when it cannot be read. */
MUST_CHECK bool collateral_dates(enum collateral_kind kind, struct span item, struct collateral_dates *out);

/* The certificates in a reference file's signature, signer first, as a `chain` part; found by their element's name,
 * proven when the file is used. False when there are none, or one cannot be read. */
MUST_CHECK bool collateral_rim_chain(struct span xml, struct writer *out);

/* `airlock collateral fetch`: returns an exit code. */
int collateral_fetch(const char *config, const char *out);

#endif
