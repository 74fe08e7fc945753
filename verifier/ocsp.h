/* ocsp.h - a vendor's word, collected beforehand, that a certificate is not revoked: OCSP responses (DER) as
 * collateral. A response counts only for the one certificate that it names, signed by that certificate's issuer or by a
 * delegate with the OCSP-signing purpose that the same issuer certified, between thisUpdate and nextUpdate. Pure:
 * nobody is asked. Source: RFC 6960 §§ 3.2, 4.2; attestation.md § 3, revocation. */
#ifndef VERIFIER_OCSP_H
#define VERIFIER_OCSP_H

#include "verifier/chain.h"

#define VERIFIER_OCSP_BYTES_MAX (16u << 10) /* of one response */
#define VERIFIER_OCSP_ANSWERS_MAX 4         /* about one certificate: each costs a signature, whoever sends them */

/* What `responses` say about certificate `subject` of a chain that verifier_chain_check() accepted (not the last one).
 * Every response that names it must hold and say good. VERIFIER_OK lowers c->expires and c->issued. Otherwise
 * - nothing answers: VERIFIER_E_OCSP_MISSING (no response at all), _OCSP_MISMATCH (only about other certificates),
 *   _OCSP_PARSE or _OCSP_STATUS (one cannot be read, or is a responder's error);
 * - an answer that is no use: _OCSP_ISSUER, _OCSP_DELEGATE (no OCSP-signing purpose), _CERT_EXPIRED and
 *   _CERT_NOT_YET_VALID (the delegate's), _OCSP_SIGNATURE, _OCSP_NOT_YET_VALID, _OCSP_EXPIRED, _OCSP_PARSE (also: too
 * many answers);
 * - an answer: _CERT_REVOKED, _OCSP_HOLD (revoked for the time being), _OCSP_UNKNOWN. */
MUST_CHECK enum verifier_err verifier_ocsp_check(struct verifier_chain *c, size_t subject, const struct span *responses,
                                                 size_t count, uint64_t now, struct verifier_note *why);
/* Does this reason mean that nothing was said about the certificate, rather than something wrong? */
bool verifier_ocsp_is_silence(enum verifier_err err);

#endif
