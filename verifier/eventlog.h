/* eventlog.h - a guest's event log replayed into the registers it leads to: a TDX guest's (CCEL) into its four run-time
 * registers, a TPM's into the SHA-256 bank. A log proves nothing until its replay equals the quote's registers. Format:
 * TCG PC Client Platform Firmware Profile, crypto-agile log; UEFI CC measurement protocol (register in the log = RTMR
 * index + 1). */
#ifndef VERIFIER_EVENTLOG_H
#define VERIFIER_EVENTLOG_H

#include "verifier/base/span.h"
#include "verifier/err.h"

enum verifier_event_log_kind {
    VERIFIER_LOG_RTMR, /* SHA-384, registers 0 to 3 */
    VERIFIER_LOG_PCR,  /* SHA-256, registers 0 to 23 */
};
#define VERIFIER_RTMRS 4
#define VERIFIER_LOG_REGISTERS 24

struct verifier_event_log {
    uint8_t reg[VERIFIER_LOG_REGISTERS][48]; /* the first 32 bytes of a PCR */
    uint32_t events[VERIFIER_LOG_REGISTERS]; /* that extended it; 0: the log does not speak of it */
};

/* The registers that `log` leads to, each from zero (PCR 0: from the locality that the log names). VERIFIER_E_PARSE for
 * a log that is no crypto-agile one, ends inside a record, lacks a digest of the kind or names another register. */
MUST_CHECK enum verifier_err verifier_event_log_replay(struct verifier_event_log *out, struct span log,
                                                       enum verifier_event_log_kind kind);

#endif
