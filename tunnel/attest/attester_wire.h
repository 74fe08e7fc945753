/* attester_wire.h - records between the attester and its callers, on a SEQPACKET pair. Private to this folder.
 * A record: u32be id | u8 call | u8 flags (1: more pieces follow) | u16be status | at most 60 KiB of body. Requests
 * have status 0; an answer repeats id and call and has a status of enum attester_err, and a body only when that is 0.
 * Pieces of one message follow one another on a descriptor without others between. Bodies are msgpack lists: */
#ifndef TUNNEL_ATTEST_ATTESTER_WIRE_H
#define TUNNEL_ATTEST_ATTESTER_WIRE_H

#include "tunnel/attest/attester.h"
#include "verifier/base/reader.h"

/*                     request                                    answer */
enum attester_call {
    ATTESTER_HELLO =
        0,            /* (none: the first record, by the child)      identity, release, statement | text of a refusal */
    ATTESTER_LEAF,    /* challenge, spki, exporter                   the envelope itself, no list */
    ATTESTER_SEALED,  /* challenge                                   the envelope itself, no list */
    ATTESTER_OPEN,    /* enc, info, aad                              key, nonce, exporter secret */
    ATTESTER_OPENED,  /* enc, epoch                                  - */
    ATTESTER_FORGET,  /* -                                           - */
    ATTESTER_SIGN,    /* type (text), body                           signature */
    ATTESTER_STAGE,   /* claimed bits                                bits in force */
    ATTESTER_MODEL,   /* root | nil, load options (text)             - */
    ATTESTER_SERVES,  /* count, root                                 - */
    ATTESTER_POLICY,  /* part, version                               - */
    ATTESTER_PAPERS,  /* revocations | nil, fleet | nil, lease | nil - */
    ATTESTER_TIME,    /* seconds                                     - */
    ATTESTER_DEVICES, /* mode, list of [report, chain]               - */
    ATTESTER_NONCE,   /* -                                           nonce */
    ATTESTER_SEAL,    /* -                                           epoch (0: none), public */
    ATTESTER_CALLS
};

enum {
    ATTESTER_HEAD_LEN = 8,
    ATTESTER_PIECE_MAX = 60 << 10,
    ATTESTER_RECORD_MAX = ATTESTER_HEAD_LEN + ATTESTER_PIECE_MAX,
    ATTESTER_MESSAGE_MAX = (1 << 20) + (64 << 10), /* body of an answer, or of an owner's request */
    ATTESTER_PEER_MAX = 16 << 10,                  /* body of a peer's request */
    ATTESTER_SIGN_MAX = 128 << 10,                 /* body to sign */
    ATTESTER_INFO_MAX = 1024,
    ATTESTER_AAD_MAX = 2048,
    ATTESTER_MORE = 1,
};

struct attester_record {
    uint32_t id;
    uint8_t call, flags;
    uint16_t status;
    struct span body; /* borrowed from the bytes read */
};

/* False for a record that is too short or has unknown flags. */
MUST_CHECK bool attester_record_parse(struct attester_record *out, struct span in);
/* Head and body into `out` (ATTESTER_RECORD_MAX bytes); the length. */
size_t attester_record_encode(uint8_t *out, const struct attester_record *in);

#endif
