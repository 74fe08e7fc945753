/* wipe.c - what the sampler needs of verifier/base without libcrypto. */
#include "verifier/base/secret.h"

void secret_wipe(void *data, size_t len)
{
    explicit_bzero(data, len);
}
