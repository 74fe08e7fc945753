"""second.py - a second implementation of tunnel/PROTOCOL.md, written from that text alone: encodings (§ 2 to 7, 11, 13),
hashes and trees (§ 5), signed objects and key sets (§ 7). check(folder) compares it with the vectors of § 16 in a
folder and gives (passed, failures); sealed mode and key release: second_hpke.py, whole
envelopes: second_envelope.py. Python's standard library and, for Ed25519, libcrypto through ctypes."""

import hashlib
import importlib.util
import itertools
import json
import pathlib
import sys
from ctypes import CDLL, c_char_p, c_int, c_size_t, c_void_p


class Refused(Exception):
    """Its text is the name of the refusal."""


def need(ok, name):
    if not ok:
        raise Refused(name)


# --- § 2: msgpack, the strict form ------------------------------------------------------------------------


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        need(n <= len(self.data) - self.at, "truncated")
        self.at += n
        return self.data[self.at - n:self.at]

    def peek(self):
        need(self.at < len(self.data), "truncated")
        return self.data[self.at]

    def sized(self, first, forms, fix=None, fix_max=0):
        """A length or number behind its first byte: `forms` first byte -> width; `fix` the short form's range."""
        if fix is not None and fix <= first <= fix + fix_max:
            return first - fix
        need(first in forms, "type")
        value = int.from_bytes(self.take(forms[first]), "big")
        widths = sorted(forms.values())
        shorter = [w for w in widths if w < forms[first]]
        least = 1 << (8 * shorter[-1]) if shorter else (fix_max + 1 if fix is not None else 0)
        need(value >= least, "minimal")
        return value

    def head(self, kind):
        first = self.peek()
        forms, fix, fix_max = {"number": ({0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8}, 0, 127),
                               "str": ({0xd9: 1, 0xda: 2, 0xdb: 4}, 0xa0, 31),
                               "bin": ({0xc4: 1, 0xc5: 2, 0xc6: 4}, None, 0),
                               "list": ({0xdc: 2, 0xdd: 4}, 0x90, 15),
                               "map": ({0xde: 2, 0xdf: 4}, 0x80, 15)}[kind]
        need(first in forms or (fix is not None and fix <= first <= fix + fix_max), "type")
        self.at += 1
        return self.sized(first, forms, fix, fix_max)

    def nil(self):
        if self.peek() != 0xc0:
            return False
        self.at += 1
        return True


def number(low, high):
    def read(r):
        value = r.head("number")
        need(low <= value <= high, "range")
        return value
    return read


def binary(low, high=None):
    def read(r):
        n = r.head("bin")
        need(low <= n <= (low if high is None else high), "size")
        return r.take(n)
    return read


def text(low, high):
    def read(r):
        n = r.head("str")
        need(low <= n <= high, "size")
        try:
            value = r.take(n).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("text") from None
        need(all(ord(c) > 0x1f and ord(c) != 0x7f for c in value), "text")
        return value
    return read


def word(*words):
    def read(r):
        value = text(0, 1 << 20)(r)
        need(value in words, "value")
        return value
    return read


def maybe(inner):
    return lambda r: None if r.nil() else inner(r)


def boolean(r):
    need(r.peek() in (0xc2, 0xc3), "type")
    return r.take(1)[0] == 0xc3


def array(low, high, item, distinct=False):
    def read(r):
        n = r.head("list")
        need(low <= n <= high, "size")
        values = []
        for _ in range(n):
            values.append(item(r))
            need(not distinct or values[-1] not in values[:-1], "duplicate")
        return values
    return read


def record(_rule=None, **fields):
    def read(r):
        n = r.head("map")
        need(n == len(fields), "key")
        value = {}
        for key, item in fields.items():
            need(r.take(r.head("str")) == key.encode(), "key")
            value[key] = item(r)
        need(_rule is None or _rule(value), "value")
        return value
    return read


def part(limit):
    def read(r):
        need(r.head("map") == 1, "key")
        name = r.take(r.head("str"))
        need(name in (b"bytes", b"digest"), "key")
        return {name.decode(): binary(1, limit)(r) if name == b"bytes" else DIGEST(r)}
    return read


def by_kind(kinds):
    """`{kind, value}` whose value's size follows from the kind."""
    def read(r):
        need(r.head("map") == 2, "key")
        need(r.take(r.head("str")) == b"kind", "key")
        kind = word(*kinds)(r)
        need(r.take(r.head("str")) == b"value", "key")
        return {"kind": kind, "value": kinds[kind](r)}
    return read


# --- § 3 to 13: the objects -------------------------------------------------------------------------------

K = 1024
U32, U64 = (1 << 32) - 1, (1 << 64) - 1
V, TIME, TIME0 = number(1, 1), number(1, (1 << 40) - 1), number(0, (1 << 40) - 1)
VERSION, COUNT0, SIZE, PLACE = number(1, U32), number(0, U32), number(1, 65536), number(0, 65535)
DIGEST, KEY = binary(64), binary(32)
PAIRS = ["client proxy", "client engine", "proxy engine", "engine proxy", "engine engine", "keyd engine", "keyd proxy"]
TYPES = "keyset policy tenants fleet revocations lease grant artefact release receipt checkpoint".split()
POLICY = record(digest=DIGEST, version=VERSION)
ROLES = word("client", "proxy", "engine", "keyd")


def challenge_rule(c):
    pair = c["verifier"] + " " + c["attester"]
    return pair in PAIRS and (c["engines"] is None or pair == "client proxy")


def keyset_rule(k):
    held = lambda role: sum(role in key["roles"] for key in k["keys"])
    return (len({key["public"] for key in k["keys"]}) == len(k["keys"]) and all(k["m"][x] <= held(x) for x in k["m"])
            and (k["previous"] is None) == (k["version"] == 1))


def unique(field):
    def rule(values):
        need(len({v[field] for v in values}) == len(values), "duplicate")
        return values
    return rule


def then(inner, rule):
    return lambda r: rule(inner(r))


NODE_PATH = array(0, 16, DIGEST)
ENTRY = record(challenge=binary(0, 4 * K), spki=binary(0, 4 * K), exporter=KEY, checked_at=TIME, index=PLACE,
               path=NODE_PATH, envelope=binary(0, K * K))
OBJECTS = {  # name: (at most bytes, form)
    "challenge": (4 * K, record(challenge_rule, v=V, verifier=ROLES, attester=ROLES, nonce=KEY,
                                engines=maybe(record(model=maybe(text(1, 256)), max=number(1, 8))),
                                have=array(0, 32, DIGEST, True))),
    "statement": (2 * K, record(v=V, role=word("proxy", "engine"), program=text(1, 64), version=text(1, 64), config=DIGEST,
                                owner=DIGEST, identity=KEY, release=KEY, kernels=maybe(text(1, 64)))),
    "state": (4 * K, record(v=V, stage=number(0, 127), cc=word("none", "off", "on", "devtools", "ppcie"), policy=maybe(POLICY),
                            model=maybe(record(root=DIGEST, load_options=text(0, 1024))),
                            seal=maybe(record(public=KEY, epoch=VERSION)), serves=maybe(record(count=SIZE, root=DIGEST)),
                            devices=maybe(record(count=number(1, 16), digest=DIGEST, tree_size=SIZE, tree_root=DIGEST, at=TIME0)),
                            at=TIME0)),
    "signed": (256 * K, record(v=V, type=word(*TYPES), body=binary(0, 256 * K),
                               sigs=then(array(1, 16, record(key=KEY, sig=binary(64))), unique("key")))),
    "keyset": (256 * K, record(keyset_rule, v=V, version=VERSION,
                               keys=then(array(1, 16, record(public=KEY, roles=array(1, 2, word("signer", "revoker"), True))),
                                         unique("public")),
                               m=record(signer=number(1, 16), revoker=number(1, 16)), previous=maybe(DIGEST))),
    "revocations": (256 * K, record(v=V, epoch=VERSION, entries=array(0, 2048, by_kind(
        {"snp_chip": binary(64), "tdx_instance": binary(16), "gpu": binary(1, 64), "measurement": binary(48),
         "identity": binary(32), "policy": binary(64)}), True))),
    "fleet": (256 * K, record(version=VERSION, expires=TIME, snp_chip_ids=array(0, 2048, binary(64), True),
                              tdx_platform_instances=array(0, 2048, binary(16), True),
                              gpu_ueids=array(0, 2048, text(1, 64), True))),
    "lease": (4 * K, record(lambda o: o["expires"] > o["issued"], v=V, identity=KEY, role=word("proxy", "engine"), policy=POLICY,
                            epoch=COUNT0, issued=TIME, expires=TIME)),
    "grant": (K * K, record(v=V, nonce=KEY, identity=KEY, statement=DIGEST, policy=binary(0, 256 * K),
                            revocations=maybe(binary(0, 256 * K)), tenants_version=maybe(VERSION), issued=TIME, lease=binary(0, 4 * K),
                            keys=then(array(0, 16, record(artefact_root=DIGEST, key_id=KEY, enc=KEY, sealed=binary(48))),
                                      unique("artefact_root")))),
    "head": (K, record(v=V, engine=KEY, epoch=VERSION, request=binary(16), endpoint=text(1, 128), model=text(1, 256),
                       max_tokens=COUNT0, stream=boolean)),
    "receipt": (256 * K, record(v=V, mode=word("plain", "sealed"), request=DIGEST, response=DIGEST, artefact_root=DIGEST,
                                policy=DIGEST, sampling=text(0, 1024), seed=number(0, U64),
                                tokens=record(prompt=COUNT0, completion=COUNT0), kernels=text(1, 64), statement=DIGEST,
                                state=DIGEST, at=TIME, log_index=number(0, U64), previous=DIGEST)),
    "verdict": (K, record(lambda o: (o["code"] == "ok") == (o["valid_until"] is not None), code=text(1, 64), valid_until=maybe(TIME))),
    "status": (K, record(status=number(100, 599), type=text(1, 128))),
    "chain": (64 * K, array(1, 8, binary(1, 8192))),
    "policy_part": (256 * K, array(2, 65, binary(1, 64 * K))),
    "collateral": (256 * K, record(crls=array(0, 16, binary(1, 256 * K)), tcb_info=maybe(binary(1, 256 * K)),
                                   tcb_chain=array(0, 8, binary(1, 8192)), qe_identity=maybe(binary(1, 256 * K)),
                                   qe_chain=array(0, 8, binary(1, 8192)), ocsp=array(0, 64, binary(1, 256 * K)),
                                   rims=array(0, 16, binary(1, 256 * K)))),
    "envelope": (K * K, record(v=V, tee=word("snp", "tdx", "azure", "gcp", "nitro"), quote=binary(1, 32 * K), chain=maybe(part(64 * K)),
                               collateral=maybe(part(256 * K)), statement=binary(0, 2 * K), state=binary(0, 4 * K),
                               tree=record(size=SIZE, index=PLACE, path=NODE_PATH),
                               devices=maybe(array(1, 16, record(report=binary(1, 16 * K), chain=part(32 * K)))),
                               event_log=maybe(part(256 * K)), config=binary(0, 64 * K), policy=maybe(part(256 * K)),
                               revocations=maybe(binary(0, 256 * K)), fleet=maybe(binary(0, 256 * K)),
                               lease=maybe(binary(0, 4 * K)), engines=maybe(array(0, 8, ENTRY)))),
}


def parse(name, data):
    limit, form = OBJECTS[name]
    need(len(data) <= limit, "size")
    r = Reader(data)
    value = form(r)
    need(r.at == len(data), "trailing")
    return value


# --- § 5: hashes and trees --------------------------------------------------------------------------------


def be(value, n):
    return value.to_bytes(n, "big")


def lp(data):
    data = data.encode() if isinstance(data, str) else data
    return be(len(data), 4) + data


def H(*pieces):
    return hashlib.sha512(b"".join(pieces)).digest()


def leaf(challenge, spki, exporter):
    return H(b"\0", lp("airlock leaf v1"), lp(challenge), lp(spki), lp(exporter))


def sealed_leaf(challenge, seal_public):
    return H(b"\0", lp("airlock sealed leaf v1"), lp(challenge), lp(seal_public))


def engine_leaf(challenge, spki, exporter, quote, statement, state, checked_at):
    return H(b"\0", lp("airlock engine v1"), lp(challenge), lp(spki), lp(exporter), H(quote), H(statement), H(state),
             be(checked_at, 8))


def report_data(size, root, statement, state):
    return H(lp("airlock quote v1"), be(size, 4), root, H(statement), H(state))


def device_nonce(size, root):
    return hashlib.sha256(lp("airlock device nonce v1") + be(size, 4) + root).digest()


def device_item(report, chain):
    return H(lp("airlock device v1"), lp(report), lp(chain))


def devices(items):
    return H(lp("airlock devices v1"), be(len(items), 4), *sorted(items))


def commitment(salt, body):
    return H(lp("airlock commit v1"), lp(salt), H(body))


def split(n):
    """The largest power of two below n (RFC 9162 § 2.1.1)."""
    return 1 << ((n - 1).bit_length() - 1)


def root_of(leaves):
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return H(b"\1", root_of(leaves[:k]), root_of(leaves[k:]))


def build(leaves):
    need(1 <= len(leaves) <= 65536, "size")
    need(len(set(leaves)) == len(leaves), "duplicate")
    return root_of(leaves)


def path_of(leaves, m):
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return path_of(leaves[:k], m) + [root_of(leaves[k:])]
    return path_of(leaves[k:], m - k) + [root_of(leaves[:k])]


def sides(size, m):
    """For each step from the leaf up: is our node the left one?"""
    if size == 1:
        return []
    k = split(size)
    return sides(k, m) + [True] if m < k else sides(size - k, m - k) + [False]


def follow(size, index, node, path):
    need(1 <= size <= 65536 and index < size, "index")
    steps = sides(size, index)
    need(len(steps) == len(path), "path")
    for left, other in zip(steps, path):
        node = H(b"\1", node, other) if left else H(b"\1", other, node)
    return node


# --- § 7: signed objects ----------------------------------------------------------------------------------

crypto = CDLL("libcrypto.so.3")
crypto.EVP_PKEY_new_raw_public_key.restype = crypto.EVP_MD_CTX_new.restype = c_void_p
crypto.EVP_PKEY_new_raw_public_key.argtypes = [c_int, c_void_p, c_char_p, c_size_t]
crypto.EVP_DigestVerifyInit.argtypes = [c_void_p] * 5
crypto.EVP_DigestVerify.argtypes = [c_void_p, c_char_p, c_size_t, c_char_p, c_size_t]
crypto.EVP_MD_CTX_free.argtypes = crypto.EVP_PKEY_free.argtypes = [c_void_p]
P = 2 ** 255 - 19
SMALL_ORDER_Y = {0, 1, P - 1, 2707385501144840649318225287225658788936804267575313519463743609750303021,
                 55188659117513257062467267217118295137698188065244968500265048394206261417927}


def ed25519(key, sig, message):
    y = int.from_bytes(key, "little") & ((1 << 255) - 1)
    if y >= P or y in SMALL_ORDER_Y:
        return False
    pkey, ctx = crypto.EVP_PKEY_new_raw_public_key(1087, None, key, 32), crypto.EVP_MD_CTX_new()  # EVP_PKEY_ED25519
    good = bool(pkey) and crypto.EVP_DigestVerifyInit(ctx, None, None, None, pkey) == 1 and \
        crypto.EVP_DigestVerify(ctx, sig, len(sig), message, len(message)) == 1
    crypto.EVP_MD_CTX_free(ctx)
    crypto.EVP_PKEY_free(pkey)
    return good


def open_signed(data, kind, quorums, allowed):
    """The body. `quorums`: pairs of keys and how many of them must have signed; `allowed`: all that may."""
    o = parse("signed", data)
    need(o["type"] == kind, "signed_type")
    need(all(s["key"] in allowed for s in o["sigs"]), "signed_key")
    message = lp("airlock signed v1") + lp(kind) + lp(o["body"])
    need(all(ed25519(s["key"], s["sig"], message) for s in o["sigs"]), "signed_signature")
    need(all(sum(s["key"] in keys for s in o["sigs"]) >= m for keys, m in quorums), "signed_count")
    return o["body"]


def follow_keysets(objects, first):
    """The newest set of a chain that starts at the owner `first`."""
    before, body_before = None, None
    for data in objects:
        o = parse("signed", data)
        need(o["type"] == "keyset", "signed_type")
        new = parse("keyset", o["body"])
        if before is None:
            need(H(o["body"]) == first, "owner_mismatch")
        else:
            need(new["version"] == before["version"] + 1 and new["previous"] == H(body_before), "keyset_chain")
        quorums = [({k["public"] for k in s["keys"] if "signer" in k["roles"]}, s["m"]["signer"]) for s in (before, new) if s]
        open_signed(data, "keyset", quorums, set().union(*(keys for keys, _ in quorums)))
        before, body_before = new, o["body"]
    return before


# --- § 16: the vectors ------------------------------------------------------------------------------------


def plain(value):
    """As the vectors write it: bytes in hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def outcome(call, *arguments):
    try:
        return call(*arguments)
    except Refused as why:
        return why


def unhex(values):
    return [bytes.fromhex(v) for v in values]


def refused_as(result, names):
    return isinstance(result, Refused) and str(result) in (names if isinstance(names, list) else [names])


def results(folder):
    """Yields (name, agrees, what we say) for every vector."""
    load = lambda name: json.loads((pathlib.Path(folder) / name).read_text())
    vectors = load("encodings.json")
    for o in vectors["objects"]:
        data = bytes.fromhex(o["bytes"])
        got = outcome(parse, o["object"], data)
        yield o["object"] + "/" + o["name"], plain(got) == o["value"] and H(data).hex() == o["sha512"], got
    hashes = {"leaf": (leaf, "leaf"), "sealed_leaf": (sealed_leaf, "leaf"), "engine_leaf": (engine_leaf, "leaf"),
              "report_data": (report_data, "report_data"), "device_nonce": (device_nonce, "nonce"),
              "commitment": (commitment, "commitment")}
    for name, (call, result) in hashes.items():
        for v in vectors["derived"][name]:
            given = {k: bytes.fromhex(x) if isinstance(x, str) else x for k, x in v.items() if k != result}
            yield name, call(**given).hex() == v[result], None
    for v in vectors["derived"]["devices"]:
        items = [device_item(*unhex((d["report"], d["chain"]))) for d in v["devices"]]
        yield "devices", plain(sorted(items)) == sorted(v["items"]) and devices(items).hex() == v["digest"], None
    for c in load("refusals.json")["cases"]:
        got = outcome(parse, c["object"], bytes.fromhex(c["bytes"]))
        yield c["object"] + "/" + c.get("name", ""), refused_as(got, c["refusal"]), got
    vectors = load("trees.json")
    for t in vectors["trees"]:
        if "leaves" not in t:  # one path of a large tree
            got = outcome(follow, t["size"], t["index"], bytes.fromhex(t["leaf"]), unhex(t["path"]))
            yield f"path in {t['size']}", plain(got) == t["root"], got
            continue
        leaves = unhex(t["leaves"])
        good = build(leaves).hex() == t["root"] and [plain(path_of(leaves, i)) for i in range(len(leaves))] == t["paths"]
        yes = all(follow(len(leaves), i, leaves[i], unhex(p)).hex() == t["root"] for i, p in enumerate(t["paths"]))
        yield f"tree of {t['size']}", good and yes, None
    for c in vectors["refused_paths"]:
        got = outcome(follow, c["size"], c["index"], bytes.fromhex(c["leaf"]), unhex(c["path"]))
        got = Refused("root") if isinstance(got, bytes) and got.hex() != c["root"] else got
        yield c["name"], refused_as(got, c["refusal"]), got
    for c in vectors["refused_builds"]:
        got = outcome(build, unhex(c["leaves"]))
        yield c["name"], refused_as(got, c["refusal"]), got
    vectors = load("signed.json")
    for o in vectors["objects"]:
        keys = set(unhex(o["keys"]))
        got = outcome(open_signed, bytes.fromhex(o["bytes"]), o["type"], [(keys, o["m"])], keys)
        want = o["expect"]
        yield o["name"], refused_as(got, want["refusal"]) if "refusal" in want else plain(got) == want["body"], got
    for c in vectors["keyset_chains"]:
        got = outcome(follow_keysets, unhex(c["objects"]), bytes.fromhex(c["first"]))
        want = c["expect"]
        good = refused_as(got, want["refusal"]) if "refusal" in want else isinstance(got, dict) and got["version"] == want["version"]
        yield c["name"], good, got


def check(folder):
    import second_envelope  # they build on this module
    import second_hpke
    passed, failures, parts = 0, [], [results(folder), second_hpke.results(folder)]
    if importlib.util.find_spec("cryptography"):
        parts.append(second_envelope.results(folder))
    elif (pathlib.Path(folder) / "envelopes.json").exists():
        print("SKIP second, envelopes: the cryptography package is not installed")
    for name, good, got in itertools.chain(*parts):
        passed += good
        if not good:
            failures.append(f"{name}: {type(got).__name__} {str(got)[:200]}")
    return passed, failures


if __name__ == "__main__":
    for place in sys.argv[1:]:
        count, wrong = check(place)
        print(f"second {place}: {count} passed, {len(wrong)} failed, 0 skipped", *wrong, sep="\n  ")
