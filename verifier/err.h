/* err.h - every reason to refuse, once: its name on the wire and what a person can do about it.
 * The names are the vocabulary of PROTOCOL.md and of the evidence vectors; a VERDICT carries them, nothing more.
 * Append inside a block; the numbers are no interface, the names are. */
#ifndef VERIFIER_ERR_H
#define VERIFIER_ERR_H

#include "verifier/base/reader.h"

/* Bytes that do not follow the format (stage 1, and wherever an object is read). Same names as enum reader_err. */
#define VERIFIER_ERRORS_SHAPE(X)                                                                                       \
    X(DUPLICATE, "duplicate", "The peer repeats an element that must be distinct; update the peer.")                   \
    X(KEY, "key", "The peer speaks another version of the protocol; update the older side.")                           \
    X(MINIMAL, "minimal", "The peer encodes a number in a longer form than needed; update the peer.")                  \
    X(RANGE, "range", "A number lies outside its range, or another protocol version was sent; update the peer.")       \
    X(SIZE, "size", "A field is shorter or longer than the format allows; update the peer.")                           \
    X(TEXT, "text", "A text is not UTF-8 or holds a control character; update the peer.")                              \
    X(TRAILING, "trailing", "Bytes follow the end of the object; it was changed on its way or the peer is faulty.")    \
    X(TRUNCATED, "truncated", "The object ends early; it was cut on its way or the peer is faulty.")                   \
    X(TYPE, "type", "A field has another type than the format; update the peer.")                                      \
    X(VALUE, "value", "A field has a value outside its closed set; update the older side.")

/* Protocol: envelope, connection, tree, statement and state, signed objects, engines, sealed mode. */
#define VERIFIER_ERRORS_PROTOCOL(X)                                                                                    \
    X(CC_MISMATCH, "cc_mismatch", "The node states devices in a mode that has no evidence; restart the node.")         \
    X(CONFIG_MISMATCH, "config_mismatch", "The configuration sent is not the one stated; restart the node.")           \
    X(DEVICES_AT, "devices_at", "Device evidence is dated after the state that names it; restart the node.")           \
    X(DEVICES_COUNT, "devices_count", "Another number of devices answered than is stated; restart the node.")          \
    X(DEVICES_DIGEST, "devices_digest", "The device evidence is not the stated one; attest again.")                    \
    X(DEVICES_DUPLICATE, "devices_duplicate", "One device answered twice; check the machine's accelerators.")          \
    X(DEVICES_MISSING, "devices_missing", "The node states devices and sends no evidence of them.")                    \
    X(DEVICES_UNEXPECTED, "devices_unexpected", "The node sends device evidence that its state does not name.")        \
    X(EARLY_DATA, "early_data", "Connect without TLS early data.")                                                     \
    X(ENGINES, "engines", "The answer shows engines that were not asked for, or too many, or none where asked.")       \
    X(ENGINE_DUPLICATE, "engine_duplicate", "One engine is shown twice; attest again.")                                \
    X(ENGINE_OLD, "engine_old", "The proxy last checked this engine more than 10 minutes ago; attest again.")          \
    X(ENGINE_PATH, "engine_path", "The engine's path does not fit the proxy's tree; attest again.")                    \
    X(ENGINE_ROOT, "engine_root", "The engine is not in the tree that the proxy's quote covers; do not use it.")       \
    X(EPOCH_OLD, "epoch_old", "The node shows older revocations than were seen; let it renew its lease.")              \
    X(FUTURE, "future", "Something is dated more than 5 minutes ahead; check both clocks.")                            \
    X(HANDSHAKE_UNFINISHED, "handshake_unfinished", "Attest only after the TLS handshake has finished.")               \
    X(INDEX, "index", "The leaf's index lies outside the tree; attest again.")                                         \
    X(KEYSET_CHAIN, "keyset_chain", "The owner's key sets do not follow one another; send all from the first on.")     \
    X(KEYSET_OLD, "keyset_old", "The node shows an older key set than was seen; give it the newest policy.")           \
    X(LEASE_EPOCH, "lease_epoch", "The lease was given before the newest revocations; let the node renew it.")         \
    X(LEASE_EXPIRED, "lease_expired", "The lease has ended; check that the node reaches its key server.")              \
    X(LEASE_IDENTITY, "lease_identity", "The lease belongs to another node; let this node ask for its own.")           \
    X(LEASE_LIFE, "lease_life", "The lease lives longer than the policy allows; check the key server.")                \
    X(LEASE_POLICY, "lease_policy", "The lease was given under another policy; let the node renew it.")                \
    X(LEASE_ROLE, "lease_role", "The lease was given for another role; let the node ask for its own.")                 \
    X(NO_LEASE, "no_lease", "The node has no lease yet; retry once it has reached its key server.")                    \
    X(NO_MODEL, "no_model", "The engine has no model loaded; wait until it serves.")                                   \
    X(NO_POLICY, "no_policy", "The node has no policy; wait for its first grant.")                                     \
    X(NO_SEAL, "no_seal", "The engine has no sealing key; wait until it serves.")                                      \
    X(NO_TIME, "no_time", "The node has no trusted time yet; wait for its first grant.")                               \
    X(NOT_FOR_ROLE, "not_for_role", "The node states something that its role cannot have; do not use it.")             \
    X(OWNER_MISMATCH, "owner_mismatch", "The policy belongs to another owner than the node states.")                   \
    X(PAIR, "pair", "The answer is for another pair of roles; check which service this address is.")                   \
    X(PART_NOT_ASKED, "part_not_asked", "A part came by digest although it was not offered; ask again without it.")    \
    X(PATH, "path", "The leaf's path does not fit the tree; attest again.")                                            \
    X(POLICY_EXPIRED, "policy_expired", "The policy's time is over; the owner has to sign a new one.")                 \
    X(POLICY_MISMATCH, "policy_mismatch", "The policy sent is not the one in force; restart the node.")                \
    X(POLICY_NOT_YET, "policy_not_yet_valid", "The policy's time has not begun; check the clock.")                     \
    X(POLICY_OLD, "policy_old", "The node shows an older policy than was seen; let it renew its lease.")               \
    X(POLICY_TEXT, "policy_text", "The policy's text cannot be read; check it with 'airlock policy check'.")           \
    X(POST_HANDSHAKE_AUTH, "post_handshake_auth", "Connect without TLS post-handshake authentication.")                \
    X(PSK, "psk", "Connect without TLS pre-shared keys.")                                                              \
    X(REPORT_DATA_MISMATCH, "report_data_mismatch",                                                                    \
      "The quote does not cover this connection; somebody may stand between. Do not send anything.")                   \
    X(RESUMED, "resumed", "Connect with a full TLS handshake, without session resumption.")                            \
    X(REVOKED, "revoked", "The owner has revoked this; use another node.")                                             \
    X(ROLE_MISMATCH, "role_mismatch", "The node runs another role than was asked for; check the address.")             \
    X(ROOT, "root", "The tree has another root; attest again.")                                                        \
    X(SEAL_ENGINE, "seal_engine", "The request is sealed to another engine; seal it again.")                           \
    X(SEAL_EPOCH, "seal_epoch", "The sealing key has been replaced; attest again and seal anew.")                      \
    X(SEAL_OPEN, "seal_open", "The sealed bytes cannot be opened; they were changed or sealed to another key.")        \
    X(SEAL_PADDING, "seal_padding", "The sealed answer is padded wrongly; treat it as forged.")                        \
    X(SEAL_TRUNCATED, "seal_truncated", "The sealed answer ends early; it is incomplete, ask again.")                  \
    X(SIGNED_COUNT, "signed_count", "Too few signatures by keys that may sign this; collect more.")                    \
    X(SIGNED_KEY, "signed_key", "Signed by a key that may not sign this.")                                             \
    X(SIGNED_SIGNATURE, "signed_signature", "A signature is wrong; the object was changed after signing.")             \
    X(SIGNED_TYPE, "signed_type", "A signed object of another type stands here.")                                      \
    X(STATE_FELL, "state_fell", "The node's sandbox or policy version fell since it last attested; do not use it.")    \
    X(TLS_VERSION, "tls_version", "Connect with TLS 1.3.")

/* The judge's rules (stage 11). */
#define VERIFIER_ERRORS_RULES(X)                                                                                       \
    X(CC_NOT_ACCEPTED, "cc_not_accepted", "The accelerator's confidential-computing mode is not accepted.")            \
    X(DEVICES_NOT_ACCEPTED, "devices_not_accepted", "The accelerators do not satisfy the rules.")                      \
    X(DEVICES_OLD, "devices_old", "The accelerators' evidence is older than the rules allow; attest again.")           \
    X(HARDWARE_NOT_ACCEPTED, "hardware_not_accepted",                                                                  \
      "This machine is not listed; add its hardware id to the rules or to the fleet file if it is yours.")             \
    X(MEASUREMENT_NOT_ACCEPTED, "measurement_not_accepted",                                                            \
      "This software is not listed; compare with the publisher's release and update the rules if it is right.")        \
    X(MODEL_NOT_ACCEPTED, "model_not_accepted", "The engine serves another model than the rules allow.")               \
    X(NO_ENGINE, "no_engine", "The proxy shows no engine; wait until one serves.")                                     \
    X(OWNER_NOT_ACCEPTED, "owner_not_accepted", "The owner is not one that the rules accept.")                         \
    X(POLICY_NOT_ACCEPTED, "policy_not_accepted", "The policy is older than the rules allow.")                         \
    X(PRODUCT_NOT_ACCEPTED, "product_not_accepted", "This processor line is not accepted; move to a newer one.")       \
    X(SIMULATED, "simulated", "The evidence is simulated; it proves nothing. Use a machine with a real TEE.")          \
    X(STAGE_NOT_ACCEPTED, "stage_not_accepted", "The node's sandbox is not complete; wait or restart it.")

/* Hardware evidence: certificates, SNP, TDX, GPU, TPM, Nitro. */
#define VERIFIER_ERRORS_EVIDENCE(X)                                                                                    \
    X(ARCH_MISMATCH, "arch_mismatch", "The device is of another architecture than expected.")                          \
    X(BAD_MAGIC, "bad_magic", "The TPM structure is not one that a TPM made.")                                         \
    X(BAD_SIGNATURE, "bad_signature", "The hardware's signature is wrong; the evidence was changed.")                  \
    X(CERT_EXPIRED, "cert_expired", "A certificate has expired; fetch the current one.")                               \
    X(CERT_NOT_YET_VALID, "cert_not_yet_valid", "A certificate is not valid yet; check the clock.")                    \
    X(CERT_REVOKED, "cert_revoked", "The vendor has revoked a certificate; do not use this machine.")                  \
    X(CHAIN_ISSUER, "chain_issuer", "The certificates do not follow one another; send the whole chain in order.")      \
    X(CHAIN_LENGTH, "chain_length", "The chain has another number of certificates than this hardware uses.")           \
    X(CHAIN_SIGNATURE, "chain_signature", "A certificate is not signed by the next one.")                              \
    X(CHIP_ID_MISMATCH, "chip_id_mismatch", "The certificate belongs to another chip than the report.")                \
    X(CHIP_ID_MISSING, "chip_id_missing", "The certificate names no chip.")                                            \
    X(COLLATERAL_EXPIRED, "collateral_expired", "The vendor's collateral is out of date; fetch it again.")             \
    X(COLLATERAL_MISMATCH, "collateral_mismatch", "The collateral is of another kind or version than needed.")         \
    X(COLLATERAL_MISSING, "collateral_missing", "The vendor's collateral is missing; fetch it.")                       \
    X(COLLATERAL_SIGNATURE, "collateral_signature", "The collateral is not signed by the vendor.")                     \
    X(COLLATERAL_TOO_OLD, "collateral_too_old", "The collateral is older than the rules allow; fetch it again.")       \
    X(CRL_EXPIRED, "crl_expired", "The revocation list is out of date; fetch it again.")                               \
    X(CRL_ISSUER, "crl_issuer", "The revocation list is of another authority.")                                        \
    X(CRL_MISSING, "crl_missing", "The vendor's revocation list is missing; fetch it.")                                \
    X(CRL_NOT_YET_VALID, "crl_not_yet_valid", "The revocation list is not valid yet; check the clock.")                \
    X(CRL_SIGNATURE, "crl_signature", "The revocation list is not signed by the vendor.")                              \
    X(DEBUG_ENABLED, "debug_enabled", "The machine's owner can debug this guest; do not use it.")                      \
    X(DRIVER_NOT_ALLOWED, "driver_not_allowed", "The accelerator's driver version is not accepted.")                   \
    X(FABRIC_MISMATCH, "fabric_mismatch",                                                                              \
      "The switches that the accelerators name are not those that proved themselves.")                                 \
    X(FEATURE_FLAG_MISMATCH, "feature_flag_mismatch", "The accelerators run in different or wrong modes.")             \
    X(FMSPC_MISMATCH, "fmspc_mismatch", "The collateral is for another processor model.")                              \
    X(FMSPC_NOT_ALLOWED, "fmspc_not_allowed", "This processor model is not accepted.")                                 \
    X(FWID_MISMATCH, "fwid_mismatch", "The device's certificate is for other firmware than runs.")                     \
    X(MEASUREMENT_MISMATCH, "measurement_mismatch", "What runs is not what the reference values say.")                 \
    X(MIGRATION_AGENT, "migration_agent", "The guest may be moved by a migration agent; do not use it.")               \
    X(NONCE_MISMATCH, "nonce_mismatch", "The evidence answers another nonce; attest again.")                           \
    X(NOT_A_CA, "not_a_ca", "A certificate in the chain is not one of an authority.")                                  \
    X(NOT_A_QUOTE, "not_a_quote", "The TPM structure is not a quote.")                                                 \
    X(OCSP_DELEGATE, "ocsp_delegate", "A certificate's status is signed by a key that may not sign statuses.")         \
    X(OCSP_EXPIRED, "ocsp_expired", "A certificate's status is out of date; fetch it again.")                          \
    X(OCSP_HOLD, "ocsp_hold", "The vendor has suspended a certificate; do not use this machine until it is lifted.")   \
    X(OCSP_ISSUER, "ocsp_issuer", "A certificate's status is not signed by the certificate's issuer.")                 \
    X(OCSP_MISMATCH, "ocsp_mismatch", "The certificate statuses given are about other certificates.")                  \
    X(OCSP_MISSING, "ocsp_missing", "The vendor's status of the device's certificates is missing; fetch it.")          \
    X(OCSP_NOT_YET_VALID, "ocsp_not_yet_valid", "A certificate's status is not valid yet; check the clock.")           \
    X(OCSP_PARSE, "ocsp_parse", "A certificate's status cannot be read; fetch it again.")                              \
    X(OCSP_SIGNATURE, "ocsp_signature", "A certificate's status has a wrong signature; it was changed.")               \
    X(OCSP_STATUS, "ocsp_status", "The responder sent an error instead of a certificate's status; fetch it again.")    \
    X(OCSP_UNKNOWN, "ocsp_unknown", "The vendor does not know a certificate; do not use this machine.")                \
    X(PARSE, "parse", "The evidence cannot be read; it was changed or is of another format.")                          \
    X(PCEID_MISMATCH, "pceid_mismatch", "The collateral is for another provisioning enclave.")                         \
    X(PCR_MISMATCH, "pcr_mismatch", "The boot measurements are not the quoted or the expected ones.")                  \
    X(PRODUCT_MISMATCH, "product_mismatch", "Report and certificates are of different processor lines.")               \
    X(QE_BINDING, "qe_binding", "The quoting enclave does not vouch for the quote's key.")                             \
    X(QE_IDENTITY_MISMATCH, "qe_identity_mismatch", "The quoting enclave is not Intel's.")                             \
    X(QE_REPORT_SIGNATURE, "qe_report_signature", "The quoting enclave's report is not signed by the processor.")      \
    X(RIM_CERT_EXPIRED, "rim_cert_expired", "The reference file's signer has expired; fetch a newer file.")            \
    X(RIM_CERT_REVOKED, "rim_cert_revoked", "The vendor has revoked the reference file's signer; fetch a newer file.") \
    X(RIM_CHAIN_ISSUER, "rim_chain_issuer", "The reference file's certificates do not follow one another.")            \
    X(RIM_CHAIN_LENGTH, "rim_chain_length", "The reference file has another number of certificates.")                  \
    X(RIM_CHAIN_SIGNATURE, "rim_chain_signature", "A certificate of the reference file is not signed right.")          \
    X(RIM_INDEX_CONFLICT, "rim_index_conflict", "Two reference files claim one measurement.")                          \
    X(RIM_MISSING, "rim_missing", "The vendor's reference file for this version is missing; fetch it.")                \
    X(RIM_OCSP_MISSING, "rim_ocsp_missing",                                                                            \
      "The vendor's status of the reference file's signer is missing; fetch it.")                                      \
    X(RIM_PARSE, "rim_parse", "The reference file cannot be read.")                                                    \
    X(RIM_SIGNATURE, "rim_signature", "The reference file's signature is wrong.")                                      \
    X(RIM_UNTRUSTED_ROOT, "rim_untrusted_root", "The reference file is not signed by the vendor.")                     \
    X(RIM_VERSION_MISMATCH, "rim_version_mismatch", "The reference file is for another version than runs.")            \
    X(RUNTIME_DATA_MISMATCH, "runtime_data_mismatch", "The paravisor's data is not what the hardware signed.")         \
    X(SEPT_VE_DISABLE, "sept_ve_disable", "The guest may be sent page faults by the host; do not use it.")             \
    X(SIGNING_KEY_MISMATCH, "signing_key_mismatch", "The report was signed by another kind of key.")                   \
    X(TCB_MISMATCH, "tcb_mismatch", "The certificate is for another firmware version than the report.")                \
    X(TCB_NOT_SUPPORTED, "tcb_not_supported", "The vendor no longer lists this firmware version; update it.")          \
    X(TCB_STATUS, "tcb_status", "The vendor's status of this machine's firmware is not accepted; update it.")          \
    X(TCB_TOO_OLD, "tcb_too_old", "The machine's firmware is older than the rules allow; update it.")                  \
    X(TDX_MODULE_MISMATCH, "tdx_module_mismatch", "The TDX module is not one that Intel signed.")                      \
    X(TD_ATTRIBUTES_RESERVED, "td_attributes_reserved", "Reserved attributes of the guest are set.")                   \
    X(TRAILING_DATA, "trailing_data", "Bytes follow the evidence; it was changed on its way.")                         \
    X(UNSUPPORTED_ALG, "unsupported_alg", "The evidence uses an algorithm that is not known.")                         \
    X(UNSUPPORTED_CERT_DATA, "unsupported_cert_data", "The quote carries another kind of certificate data.")           \
    X(UNSUPPORTED_PRODUCT, "unsupported_product", "This processor line is not known; update the verifier.")            \
    X(UNSUPPORTED_TEE, "unsupported_tee", "This kind of trusted hardware is not known; update the verifier.")          \
    X(UNSUPPORTED_VENDOR, "unsupported_vendor", "The evidence is of an unknown vendor.")                               \
    X(UNSUPPORTED_VERSION, "unsupported_version", "The evidence has an unknown version; update the verifier.")         \
    X(UNTRUSTED_ROOT, "untrusted_root", "The evidence leads to a root that is not trusted here.")                      \
    X(VBIOS_NOT_ALLOWED, "vbios_not_allowed", "The accelerator's firmware version is not accepted.")                   \
    X(VMPL, "vmpl", "The report was asked for from a less privileged level of the guest than allowed.")

/* Ours: nothing about the peer. */
#define VERIFIER_ERRORS_OWN(X)                                                                                         \
    X(BUNDLE, "bundle", "The collateral file cannot be read; fetch or pack it again.")                                 \
    X(INTERNAL, "internal", "Our own fault or out of memory; nothing was decided, so it is refused. Try again.")       \
    X(RULES, "rules", "The rules cannot be read; correct the file.")                                                   \
    X(STRUCT_SIZE, "struct_size", "The program was built for another libairlock; set every size, or update the older.")

#define VERIFIER_ERRORS(X)                                                                                             \
    VERIFIER_ERRORS_SHAPE(X)                                                                                           \
    VERIFIER_ERRORS_PROTOCOL(X) VERIFIER_ERRORS_RULES(X) VERIFIER_ERRORS_EVIDENCE(X) VERIFIER_ERRORS_OWN(X)

enum verifier_err {
    VERIFIER_OK = 0,
#define X(name, text, remedy) VERIFIER_E_##name,
    VERIFIER_ERRORS(X)
#undef X
        VERIFIER_ERR_COUNT
};

/* Short lower-case name, at most 63 characters; "ok" for VERIFIER_OK, "internal" for a number that is no error. */
const char *verifier_err_name(enum verifier_err err);
/* One sentence or two: what to do about it. "" for VERIFIER_OK. */
const char *verifier_err_remedy(enum verifier_err err);
/* The error of a reader's fault; VERIFIER_OK for READER_OK. */
enum verifier_err verifier_err_of_reader(enum reader_err err);

/* What was found and what was wanted, for people: filled by whoever refuses, never parsed. No secrets. */
struct verifier_note {
    char observed[512], required[512];
};
/* Fill one side each, printf-style, cut to fit; a NULL note is fine. */
void verifier_note_observed(struct verifier_note *note, const char *format, ...) __attribute__((format(printf, 2, 3)));
void verifier_note_required(struct verifier_note *note, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
