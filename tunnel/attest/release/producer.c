/* The producer of a release: the hardware, nothing else. */
#include "tunnel/attest/tsm.h"

const struct attester_producer *attester_producer(void)
{
    return &attester_tsm;
}
