/* eventlog.h - a TDX guest's event log (CCEL): replayed into the four run-time registers. A log proves nothing until
 * its replay equals the quote's registers. Format: TCG PC Client Platform Firmware Profile, crypto-agile log; UEFI CC
 * measurement protocol (register index in the log = RTMR index + 1). */
#ifndef VERIFIER_EVENTLOG_H
#define VERIFIER_EVENTLOG_H

#include "verifier/base/span.h"
#include "verifier/err.h"

#define VERIFIER_RTMRS 4

struct verifier_event_log {
    uint8_t rtmr[VERIFIER_RTMRS][48];
    uint32_t events[VERIFIER_RTMRS]; /* that extended it */
};

/* The registers that `log` leads to, each from zero. VERIFIER_E_PARSE for a log that is no crypto-agile one, ends
 * inside a record, has no SHA-384 or names another register. */
MUST_CHECK enum verifier_err verifier_event_log_replay(struct verifier_event_log *out, struct span log);

#endif
