/* Target functions: verifier_pck_parse verifier_event_log_replay der_any der_uint */
#include <stdlib.h>

#include "verifier/der.h"
#include "verifier/eventlog.h"
#include "verifier/pck.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size), content;
    struct verifier_event_log log;
    struct verifier_pck pck;
    struct der d = der_over(in);

    if (verifier_pck_parse(&pck, in) == VERIFIER_OK &&
        (!memmem(data, size, pck.ppid, sizeof pck.ppid) || !memmem(data, size, pck.fmspc, sizeof pck.fmspc) ||
         !memmem(data, size, pck.cpusvn, sizeof pck.cpusvn) || !memmem(data, size, pck.pceid, sizeof pck.pceid)))
        abort(); /* what it says stands in it */
    (void)!verifier_event_log_replay(&log, in, VERIFIER_LOG_RTMR);
    (void)!verifier_event_log_replay(&log, in, VERIFIER_LOG_PCR);
    while (der_any(&d, &content) != 0)
        if (content.len > 0 && (content.data < data || content.data + content.len > data + size))
            abort();
    d = der_over(in);
    (void)der_uint(&d, DER_INTEGER);
    return 0;
}
