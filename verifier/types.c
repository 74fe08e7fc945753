#include "verifier/types.h"

const char *const verifier_role_names[VERIFIER_ROLES] = {"client", "proxy", "engine", "keyd"};
const char *const verifier_tee_names[VERIFIER_TEES] = {"snp", "tdx", "azure", "gcp", "nitro"};
const char *const verifier_cc_names[VERIFIER_CCS] = {"none", "off", "on", "devtools", "ppcie"};
