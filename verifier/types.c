#include "verifier/types.h"

#include <openssl/sha.h>

const char *const verifier_role_names[VERIFIER_ROLES] = {"client", "proxy", "engine", "keyd"};
const char *const verifier_tee_names[VERIFIER_TEES] = {"snp", "tdx", "azure", "gcp", "nitro"};
const char *const verifier_cc_names[VERIFIER_CCS] = {"none", "off", "on", "devtools", "ppcie"};

void verifier_sha512(uint8_t out[VERIFIER_DIGEST_LEN], struct span in)
{
    (void)SHA512(in.data ? in.data : (const uint8_t *)"", in.len, out);
}
