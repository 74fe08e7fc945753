"""second_hpke.py - the sealed parts of tunnel/PROTOCOL.md a second time (§ 10 key release, § 11 sealed mode): HPKE base
mode of RFC 9180 with suite 0x0020/0x0001/0x0003, from the standard library alone. Slow and not constant in time: to
compare with, never to serve with. results(folder) yields what hpke.json says and what comes out here."""

import hashlib
import hmac
import json
import pathlib

from second import Refused, be, lp, need, outcome, parse, plain, refused_as, unhex

# --- X25519 (RFC 7748), ChaCha20-Poly1305 (RFC 8439), HKDF (RFC 5869) ----------------------------------------

P = 2 ** 255 - 19


def x25519(scalar, point):
    k = int.from_bytes(scalar, "little") & ~7 & ~(128 << 248) | 64 << 248
    u = int.from_bytes(point, "little") & ((1 << 255) - 1)
    a, b, c, d, swap = 1, 0, u, 1, 0
    for bit in range(254, -1, -1):
        now = k >> bit & 1
        if swap != now:
            a, b, c, d = c, d, a, b
        swap = now
        s, t, v, w = (a + b) ** 2 % P, (a - b) ** 2 % P, (c + d) * (a - b) % P, (c - d) * (a + b) % P
        c, d = (v + w) ** 2 % P, u * (v - w) ** 2 % P
        a, b = s * t % P, (s - t) * (t + 121666 * (s - t)) % P
    if swap:
        a, b = c, d
    shared = (a * pow(b, P - 2, P) % P).to_bytes(32, "little")
    need(any(shared), "seal_open")  # a point of small order
    return shared


def chacha_block(key, counter, nonce):
    words = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574]
    words += [int.from_bytes(key[i:i + 4], "little") for i in range(0, 32, 4)]
    words += [counter] + [int.from_bytes(nonce[i:i + 4], "little") for i in range(0, 12, 4)]
    x = list(words)
    for _ in range(10):
        for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                           (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            for to, by, other, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[to] = (x[to] + x[by]) & 0xffffffff
                y = x[other] ^ x[to]
                x[other] = (y << turn | y >> (32 - turn)) & 0xffffffff
    return b"".join(((a + b) & 0xffffffff).to_bytes(4, "little") for a, b in zip(x, words))


def poly1305(key, message):
    r = int.from_bytes(key[:16], "little") & 0x0ffffffc0ffffffc0ffffffc0fffffff
    total = 0
    for i in range(0, len(message), 16):
        total = (total + int.from_bytes(message[i:i + 16] + b"\1", "little")) * r % (2 ** 130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) & (1 << 128) - 1).to_bytes(16, "little")


def pad16(data):
    return data + bytes(-len(data) % 16)


def aead_open(key, nonce, aad, data):
    need(len(data) >= 16, "seal_open")
    data, tag = data[:-16], data[-16:]
    lengths = len(aad).to_bytes(8, "little") + len(data).to_bytes(8, "little")
    wanted = poly1305(chacha_block(key, 0, nonce)[:32], pad16(aad) + pad16(data) + lengths)
    need(hmac.compare_digest(tag, wanted), "seal_open")
    stream = b"".join(chacha_block(key, 1 + i, nonce) for i in range((len(data) + 63) // 64))
    return bytes(a ^ b for a, b in zip(data, stream))


def extract(salt, material):
    return hmac.digest(salt or bytes(32), material, "sha256")


def expand(key, info, length):
    out, block = b"", b""
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:length]


# --- HPKE, receiver (RFC 9180 § 4.1, 5.1.1, 5.3) -------------------------------------------------------------

KEM_SUITE, SUITE = b"KEM\0\x20", b"HPKE\0\x20\0\1\0\3"
BASE_POINT = bytes([9]) + bytes(31)


class Context:
    def __init__(self, private, enc, info):
        def labelled_extract(suite, salt, label, material):
            return extract(salt, b"HPKE-v1" + suite + label + material)

        def labelled_expand(suite, key, label, info, length):
            return expand(key, be(length, 2) + b"HPKE-v1" + suite + label + info, length)

        both = enc + x25519(private, BASE_POINT)
        prk = labelled_extract(KEM_SUITE, b"", b"eae_prk", x25519(private, enc))
        shared = labelled_expand(KEM_SUITE, prk, b"shared_secret", both, 32)
        context = b"\0" + labelled_extract(SUITE, b"", b"psk_id_hash", b"") + labelled_extract(SUITE, b"", b"info_hash", info)
        secret = labelled_extract(SUITE, shared, b"secret", b"")
        self.key = labelled_expand(SUITE, secret, b"key", context, 32)
        self.nonce = labelled_expand(SUITE, secret, b"base_nonce", context, 12)
        self.exporter = labelled_expand(SUITE, secret, b"exp", context, 32)
        self.export = lambda label, length: labelled_expand(SUITE, self.exporter, b"sec", label, length)

    def open(self, aad, data):
        return aead_open(self.key, self.nonce, aad, data)


# --- § 10 and 11 ---------------------------------------------------------------------------------------------


def release(private, enc, sealed, statement, policy, artefact_root, i, n):
    context = Context(private, enc, lp("airlock release v1"))
    return context.open(statement + policy + artefact_root + bytes([i, n]), sealed)


def combine(shares):
    return shares[0] if len(shares) == 1 else extract(lp("airlock split v1"), b"".join(shares))


def key_id(key):
    return expand(key, lp("airlock key id v1"), 32)


def open_request(body, private, statement, policy, engine, epoch):
    """(head, plaintext, export secret's first 32 bytes for the response)."""
    need(len(body) >= 4, "truncated")
    length = int.from_bytes(body[:4], "big")
    need(length <= 1024, "size")
    need(len(body) >= 4 + length + 32, "truncated")
    head_bytes, enc, sealed = body[4:4 + length], body[4 + length:36 + length], body[36 + length:]
    head = parse("head", head_bytes)
    need(sealed, "truncated")
    need(head["engine"] == engine, "seal_engine")
    need(head["epoch"] == epoch, "seal_epoch")
    context = Context(private, enc, lp("airlock sealed v1") + statement + policy)
    return head, context.open(head_bytes, sealed), context.export(lp("airlock sealed response v1"), 32)


def varint(data):
    """QUIC's, in its shortest form: (value, rest)."""
    need(data, "seal_truncated")
    width = 1 << (data[0] >> 6)
    need(len(data) >= width, "seal_truncated")
    value = int.from_bytes(data[:width], "big") & ((1 << (8 * width - 2)) - 1)
    need(width == 1 or value >= 1 << (8 * width // 2 - 2), "minimal")
    return value, data[width:]


SIZES = [64 << i for i in range(9)]  # 64 to 16384


def open_chunk(key, base, counter, aad, data):
    nonce = bytes(a ^ b for a, b in zip(base, counter.to_bytes(12, "big")))
    text = aead_open(key, nonce, aad, data)
    need(len(text) in SIZES, "seal_padding")
    length = int.from_bytes(text[:4], "big")
    need(length <= len(text) - 4 and not any(text[4 + length:]), "seal_padding")
    return text[4:4 + length]


def open_answer(answer, enc, secret):
    """The pieces, in order, as far as they came: [(bytes)], then the refusal or None."""
    pieces = []
    try:
        need(len(answer) >= 32, "seal_truncated")
        prk = extract(enc + answer[:32], secret)
        key, base, rest = expand(prk, b"key", 32), expand(prk, b"nonce", 12), answer[32:]
        while True:
            length, rest = varint(rest)
            if length == 0:
                need(rest, "seal_truncated")
                need(len(rest) <= 16400, "size")
                pieces.append(open_chunk(key, base, len(pieces), b"final", rest))
                return pieces, None
            need(length <= 16400, "size")
            need(len(rest) >= length, "seal_truncated")
            pieces.append(open_chunk(key, base, len(pieces), b"", rest[:length]))
            rest = rest[length:]
    except Refused as why:
        return pieces, why


# --- the vectors ----------------------------------------------------------------------------------------------


def results(folder):
    vectors = json.loads((pathlib.Path(folder) / "hpke.json").read_text())
    r = {k: bytes.fromhex(v) for k, v in vectors["rfc9180"].items() if k != "source"}
    c = Context(r["private_r"], r["enc"], r["info"])
    yield "hpke", (c.key, c.nonce, c.exporter) == (r["key"], r["base_nonce"], r["exporter_secret"]) and \
        c.open(r["aad"], r["sealed"]) == r["plaintext"] and c.export(b"TestContext", 32) == r["export_TestContext_32"] and \
        x25519(r["private_e"], BASE_POINT) == r["enc"], None
    for v in vectors["key_release"]:
        fields = [bytes.fromhex(v[k]) for k in ("private", "enc", "sealed", "statement", "policy", "artefact_root")]
        got, want = outcome(release, *fields, v["i"], v["n"]), v["expect"]
        good = refused_as(got, want["refusal"]) if "refusal" in want else plain(got) == want["key"]
        yield v["name"], good and ("key_id" not in want or key_id(got).hex() == want["key_id"]), got
    v = vectors["combine"]
    shares = unhex(v["sub_keys"])
    yield "combine", combine(shares).hex() == v["key"] and key_id(combine(shares)).hex() == v["key_id"] and \
        combine(shares[::-1]).hex() == v["reversed_key"], None
    secrets = {}
    for v in vectors["sealed_requests"]:
        fields = [bytes.fromhex(v[k]) for k in ("body", "seal_private", "statement", "policy", "engine")]
        got, want = outcome(open_request, *fields, v["epoch"]), v["expect"]
        if isinstance(got, tuple):
            secrets[v["name"]] = got[2]
            good = "refusal" not in want and plain(got[0]) == want["head"] and got[1].hex() == want["plaintext"] and \
                got[2].hex() == want["export_32"]
        else:
            good = refused_as(got, want.get("refusal", []))
        yield v["name"], good, got
    answers = vectors["sealed_responses"]
    for v in answers["cases"]:
        pieces, why = open_answer(bytes.fromhex(v["bytes"]), bytes.fromhex(answers["enc"]), secrets[answers["request"]])
        want = v["expect"]
        good = refused_as(why, want["refusal"]) if "refusal" in want else why is None and plain(pieces) == want["pieces"]
        yield v["name"], good, (plain(pieces), why)
