/* evidence.h - what one challenge brought, kept on disk: `airlock verify --save`, judged again as of its own time. A
 * file is JSON with everything in hex; a folder holds the same as bare bytes, for whoever asked with a client of their
 * own: challenge, envelope, spki.der, exporter (32 bytes) and evidence.json {airlock_evidence: 1, now, session}. */
#ifndef PROXY_CLI_EVIDENCE_H
#define PROXY_CLI_EVIDENCE_H

#include "proxy/attest.h"

/* A file, or a folder when `path` is one or ends in '/'. False after saying why. */
MUST_CHECK bool evidence_save(const char *path, const struct attest_record *r);
/* Into an empty record. False after saying why. */
MUST_CHECK bool evidence_load(const char *path, struct attest_record *r);

#endif
