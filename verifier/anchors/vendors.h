/* vendors.h - the hardware vendors' roots: SHA-256 of each DER. Included by the anchor objects, by nobody else.
 * Values: attestation.md § 7 (AMD KDS, Intel PCS, NVIDIA, AWS and Google publish the certificates). */
#ifndef VERIFIER_ANCHORS_VENDORS_H
#define VERIFIER_ANCHORS_VENDORS_H

#include "verifier/anchors.h"

struct vendor_anchor {
    const char *sha256; /* 64 lower-case hex digits */
    struct verifier_anchor anchor;
};

static const struct vendor_anchor vendor_anchors[] = {
    {"69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd", {VERIFIER_ANCHOR_AMD, "Milan", false}},
    {"4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1", {VERIFIER_ANCHOR_AMD, "Genoa", false}},
    {"1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a", {VERIFIER_ANCHOR_AMD, "Turin", false}},
    {"44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3", {VERIFIER_ANCHOR_INTEL, "", false}},
    {"102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48", {VERIFIER_ANCHOR_NVIDIA_DEVICE, "", false}},
    {"12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1", {VERIFIER_ANCHOR_NVIDIA_RIM, "", false}},
    {"641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b", {VERIFIER_ANCHOR_NITRO, "", false}},
    {"594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2", {VERIFIER_ANCHOR_GCP, "", false}},
};

static inline bool vendor_anchor_find(const uint8_t sha256[32], struct verifier_anchor *out)
{
    static const char digits[] = "0123456789abcdef";
    char hex[64];

    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[sha256[i] >> 4];
        hex[2 * i + 1] = digits[sha256[i] & 15];
    }
    for (size_t i = 0; i < sizeof vendor_anchors / sizeof *vendor_anchors; i++) {
        if (memcmp(vendor_anchors[i].sha256, hex, sizeof hex) == 0) {
            *out = vendor_anchors[i].anchor;
            return true;
        }
    }
    return false;
}

#endif
