"""second_envelope.py - whole envelopes a second time: the order of checks of tunnel/PROTOCOL.md § 8, stages 1 to 11, for
evidence of SEV-SNP (report: AMD 56860; certificates: AMD 57230) without devices. Certificates and P-384 are those of the
`cryptography` package. results(folder) yields what envelopes.json says of each and what comes out here; without that
file nothing."""

import hashlib
import json
import pathlib
import re

from second import H, Refused, engine_leaf, follow, follow_keysets, leaf, need, open_signed, parse, report_data, sealed_leaf

FUTURE, ENGINE_AGE = 300, 600  # seconds


class Stage(Exception):
    def __init__(self, stage, code, engine=None, inner=None):
        super().__init__(code)
        self.stage, self.code, self.engine, self.inner = stage, code, engine, inner

    def __str__(self):
        return f"{self.code} at stage {self.stage}, engine {self.engine}, inner stage {self.inner}"


def at(stage, call, *arguments):
    """What refuses in there, refuses at this stage."""
    try:
        return call(*arguments)
    except Refused as why:
        raise Stage(stage, str(why)) from None


def demand(stage, ok, code):
    if not ok:
        raise Stage(stage, code)


# --- stage 1: shape --------------------------------------------------------------------------------------------


class Node:
    """One envelope on its way through the stages."""


def resolve(part, have, held):
    if part is None or "bytes" in part:
        return part and part["bytes"]
    need(part["digest"] in have and part["digest"] in held, "part_not_asked")
    return held[part["digest"]]


def shape(envelope, have, held, engines_max):
    n = Node()
    n.e = e = parse("envelope", envelope)
    n.statement, n.state = parse("statement", e["statement"]), parse("state", e["state"])
    n.chain, n.collateral, n.policy, n.log = (resolve(e[k], have, held) for k in ("chain", "collateral", "policy", "event_log"))
    n.chain = parse("chain", n.chain) if n.chain else []
    n.collateral = parse("collateral", n.collateral) if n.collateral else {"crls": []}
    n.papers = parse("policy_part", n.policy) if n.policy else None
    for document in (n.papers or []) + [e[k] for k in ("revocations", "fleet", "lease") if e[k] is not None]:
        parse("signed", document)
    need((e["engines"] is not None) == (engines_max > 0) and len(e["engines"] or []) <= engines_max, "engines")
    n.inner = []
    for entry in e["engines"] or []:
        inner = shape(entry["envelope"], have, held, 0)
        inner.asked = parse("challenge", entry["challenge"])
        inner.entry = entry
        n.inner.append(inner)
    return n


# --- stage 5: SEV-SNP ------------------------------------------------------------------------------------------

OID = "1.3.6.1.4.1.3704.1."
COMPONENTS = {"3.1": 0, "3.2": 1, "3.3": 6, "3.8": 7}  # of Genoa's and Milan's REPORTED_TCB


def signed_by(thing, body, issuer):
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    try:
        issuer.public_key().verify(thing.signature, body,
                                   padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())
        return True
    except (InvalidSignature, AttributeError, TypeError):
        return False


def when(date):
    return int(date.timestamp())


def authority(cert):
    from cryptography import x509
    try:
        return cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def chain_of(n, anchors, now):
    """[leaf, intermediate, root], proven and not revoked."""
    from cryptography import x509
    need(len(n.chain) == 3, "chain_length")
    certs = [x509.load_der_x509_certificate(der) for der in n.chain]
    need(hashlib.sha256(n.chain[2]).hexdigest() in anchors, "untrusted_root")
    need(all(certs[i].issuer == certs[i + 1].subject for i in (0, 1)), "chain_issuer")
    for i in (0, 1):
        need(signed_by(certs[i], certs[i].tbs_certificate_bytes, certs[i + 1]), "chain_signature")
        need(authority(certs[i + 1]), "not_a_ca")
    for c in certs:
        need(now >= when(c.not_valid_before_utc), "cert_not_yet_valid")
        need(now <= when(c.not_valid_after_utc), "cert_expired")
    need(n.collateral["crls"], "crl_missing")
    lists = [x509.load_der_x509_crl(der) for der in n.collateral["crls"]]
    mine = [c for c in lists if c.issuer == certs[2].subject]
    need(mine, "crl_issuer")
    need(signed_by(mine[0], mine[0].tbs_certlist_bytes, certs[2]), "crl_signature")
    need(now >= when(mine[0].last_update_utc), "crl_not_yet_valid")
    need(now <= when(mine[0].next_update_utc), "crl_expired")
    need(mine[0].get_revoked_certificate_by_serial_number(certs[1].serial_number) is None, "cert_revoked")
    return certs


def extension(cert, oid):
    from cryptography import x509
    try:
        return cert.extensions.get_extension_for_oid(x509.ObjectIdentifier(OID + oid)).value.value
    except x509.ExtensionNotFound:
        return None


def hardware(n, anchors, now):
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    r = n.e["quote"]
    need(n.e["tee"] == "snp", "unsupported_tee")
    need(n.log is None, "parse")  # SNP has no registers for it
    need(len(r) >= 1184, "parse")
    need(len(r) == 1184, "trailing_data")
    number = lambda offset, size: int.from_bytes(r[offset:offset + size], "little")
    need(number(0, 4) in (2, 3, 5), "unsupported_version")
    need(number(0x34, 4) == 1, "unsupported_alg")
    need(not any(r[0x2d0:0x2e8] + r[0x318:0x330] + r[0x330:]), "parse")
    certs = chain_of(n, anchors, now)
    signature = utils.encode_dss_signature(number(0x2a0, 48), number(0x2e8, 48))
    try:
        certs[0].public_key().verify(signature, r[:0x2a0], ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise Refused("bad_signature") from None
    need(number(0x48, 4) >> 2 & 7 == 0, "signing_key_mismatch")
    for oid, byte in COMPONENTS.items():
        value = extension(certs[0], oid)
        need(value and int.from_bytes(value[2:], "big") == r[0x180 + byte], "tcb_mismatch")
    n.chip = r[0x1a0:0x1e0]
    masked = number(0x48, 4) >> 1 & 1
    hwid = extension(certs[0], "4")
    need(hwid is not None, "chip_id_missing")
    need(masked or hwid == n.chip, "chip_id_mismatch")
    policy = number(8, 8)
    need(not policy >> 19 & 1, "debug_enabled")
    need(not policy >> 18 & 1, "migration_agent")
    need(number(0x30, 4) == 0, "vmpl")
    n.measurement, n.data = r[0x90:0xc0], r[0x50:0x90]


# --- stages 2 to 8 ---------------------------------------------------------------------------------------------


def connection(s):
    for name, wanted, code in (("tls13", True, "tls_version"), ("finished", True, "handshake_unfinished"),
                               ("resumed", False, "resumed"), ("psk", False, "psk"), ("early_data", False, "early_data"),
                               ("post_handshake_auth", False, "post_handshake_auth")):
        demand(2, s[name] == wanted, code)


def fields(n, verifier, attester, now):
    s, role = n.state, n.statement["role"]
    demand(8, role == attester, "role_mismatch")
    demand(8, H(n.e["config"]) == n.statement["config"], "config_mismatch")
    proxy = role == "proxy"
    stray = (n.statement["kernels"] is not None or s["model"] or s["seal"]) if proxy else (n.statement["kernels"] is None or s["serves"])
    demand(8, not stray, "not_for_role")
    demand(8, proxy or s["model"] or verifier == "keyd", "no_model")
    demand(8, not s["devices"] or s["cc"] in ("on", "devtools", "ppcie"), "cc_mismatch")
    demand(8, s["at"] or verifier == "keyd", "no_time")
    demand(8, s["at"] <= now + FUTURE, "future")
    demand(8, not s["devices"] or s["devices"]["at"] <= s["at"], "devices_at")


def check_node(n, asked, bound, verifier, attester, anchors, now):
    """Stages 3 to 8. `bound`: challenge, spki, exporter; spki None: a sealed leaf."""
    demand(3, (asked["verifier"], asked["attester"]) == (verifier, attester), "pair")
    challenge, spki, exporter = bound
    if spki is None:
        demand(3, n.state["seal"], "no_seal")
        start = sealed_leaf(challenge, n.state["seal"]["public"])
    else:
        start = leaf(challenge, spki, exporter)
    tree = n.e["tree"]
    root = at(4, follow, tree["size"], tree["index"], start, tree["path"])
    at(5, hardware, n, anchors, now)
    demand(6, n.data == report_data(tree["size"], root, n.e["statement"], n.e["state"]), "report_data_mismatch")
    demand(7, n.e["devices"] or not n.state["devices"], "devices_missing")
    demand(7, not n.e["devices"] or n.state["devices"], "devices_unexpected")
    fields(n, verifier, attester, now)


# --- stage 9 ---------------------------------------------------------------------------------------------------


def facts(body):
    """What stage 9 reads of a policy's text; the vectors' texts have nothing else."""
    text, f = body.decode(), {"not_before": 0, "version_grace": 0}
    for name in ("version", "not_before", "not_after", "lease_max", "version_grace"):
        found = re.search(rf"^\s*{name}\s*=\s*(\d+)L?\s*;", text, re.M)
        if found:
            f[name] = int(found[1])
    for name in ("keyd", "fleet"):
        found = re.search(rf"^\s*{name}\s*=\s*[\[(]([^\])]*)[\])]\s*;", text, re.M)
        f[name] = [bytes.fromhex(h) for h in re.findall(r'"([0-9a-f]{64})"', found[1])] if found else []
    return f


def revoked(n, entries):
    mine = [("policy", n.state["policy"]["digest"]), ("identity", n.statement["identity"]), ("snp_chip", n.chip),
            ("measurement", n.measurement)]
    return any((e["kind"], e["value"]) in mine for e in entries)


def papers(n, verifier, seen, now):
    e, s, keyd = n.e, n.state, verifier == "keyd"
    if n.papers is None and keyd:
        n.facts = {"version": 0, "fleet": []}
        return
    need(n.papers is not None and (s["policy"] or keyd), "no_policy")
    keys = follow_keysets(n.papers[:-1], n.statement["owner"])
    holders = lambda role: {k["public"] for k in keys["keys"] if role in k["roles"]}
    body = open_signed(n.papers[-1], "policy", [(holders("signer"), keys["m"]["signer"])], holders("signer"))
    need(s["policy"] and H(body) == s["policy"]["digest"], "policy_mismatch")
    n.facts = f = facts(body)
    need(f["version"] == s["policy"]["version"], "policy_mismatch")
    need(keyd or now >= f["not_before"], "policy_not_yet_valid")
    need(keyd or now < f["not_after"], "policy_expired")
    epoch = 0
    if e["revocations"] is not None:
        m = keys["m"]["revoker"]
        listed = parse("revocations", open_signed(e["revocations"], "revocations", [(holders("revoker"), m)], holders("revoker")))
        need(not revoked(n, listed["entries"]), "revoked")
        epoch = listed["epoch"]
    if keyd:
        return
    need(keys["version"] >= seen["keyset"], "keyset_old")
    need(f["version"] >= seen["policy"], "policy_old")
    need(epoch >= seen["epoch"], "epoch_old")
    need(e["lease"] is not None, "no_lease")
    lease = parse("lease", open_signed(e["lease"], "lease", [(set(f["keyd"]), 1)], set(f["keyd"])))
    need(lease["identity"] == n.statement["identity"], "lease_identity")
    need(lease["role"] == n.statement["role"], "lease_role")
    need(lease["policy"] == s["policy"], "lease_policy")
    need(lease["epoch"] >= epoch, "lease_epoch")
    need(lease["issued"] <= now + FUTURE, "future")
    need(lease["expires"] - lease["issued"] <= f["lease_max"], "lease_life")
    need(now < lease["expires"], "lease_expired")


# --- stages 10 and 11 ------------------------------------------------------------------------------------------


def entries(n, anchors, now):
    serves, before = n.state["serves"], []
    for i, inner in enumerate(n.inner):
        x = inner.entry
        try:
            demand(10, serves, "engine_root")
            start = engine_leaf(x["challenge"], x["spki"], x["exporter"], inner.e["quote"], inner.e["statement"],
                                inner.e["state"], x["checked_at"])
            try:
                root = follow(serves["count"], x["index"], start, x["path"])
            except Refused:
                raise Stage(10, "engine_path") from None
            demand(10, root == serves["root"], "engine_root")
            me = {x["index"], inner.statement["identity"]}
            demand(10, not any(me & other for other in before), "engine_duplicate")
            before.append(me)
            demand(10, x["checked_at"] <= now + FUTURE, "future")
            demand(10, x["checked_at"] >= now - ENGINE_AGE, "engine_old")
        except Stage as why:
            raise Stage(10, why.code, i) from None
        try:
            check_node(inner, inner.asked, (x["challenge"], x["spki"], x["exporter"]), "proxy", "engine", anchors, now)
        except Stage as why:
            raise Stage(10, why.code, i, why.stage) from None


def rules(n, r, verifier, now):
    role = n.statement["role"]
    demand(11, r["simulated"], "simulated")
    demand(11, n.statement["owner"].hex() == r["owner"], "owner_not_accepted")
    demand(11, n.measurement.hex() in r["measurements"][role], "measurement_not_accepted")
    demand(11, any(n.chip), "hardware_not_accepted")
    if n.chip.hex() not in r["chips"]:
        demand(11, n.e["fleet"] is not None, "hardware_not_accepted")
        keys = set(n.facts["fleet"])
        fleet = parse("fleet", at(11, open_signed, n.e["fleet"], "fleet", [(keys, 1)], keys))
        demand(11, now < fleet["expires"] and n.chip in fleet["snp_chip_ids"], "hardware_not_accepted")
    demand(11, n.facts["version"] >= r["policy"] or (verifier == "keyd" and not n.facts["version"]), "policy_not_accepted")
    demand(11, n.state["stage"] & r["stage"] == r["stage"], "stage_not_accepted")
    demand(11, not n.state["model"] or n.state["model"]["root"].hex() in r["models"], "model_not_accepted")


def judge(case, held):
    """Raises Stage where the case is refused."""
    given = {k: bytes.fromhex(case[k]) for k in ("envelope", "challenge", "spki", "exporter")}
    verifier, attester = case["pair"]
    now, sealed = case["now"], case["pair"] == ["client", "engine"]
    anchors = {a["sha256"] for a in case["anchors"] if a["line"] == "Genoa"}
    asked = at(1, parse, "challenge", given["challenge"])
    n = at(1, shape, given["envelope"], asked["have"], held, asked["engines"]["max"] if asked["engines"] else 0)
    if not sealed:
        connection(case["session"])
    check_node(n, asked, (given["challenge"], None if sealed else given["spki"], given["exporter"]), verifier, attester, anchors, now)
    entries(n, anchors, now)
    at(9, papers, n, verifier, case["seen"], now)
    for i, inner in enumerate(n.inner):
        try:
            papers(inner, "proxy", case["seen"], now)
        except Refused as why:
            raise Stage(10, str(why), i, 9) from None
    rules(n, case["rules"], verifier, now)
    for i, inner in enumerate(n.inner):
        try:
            rules(inner, case["rules"], "proxy", now)
        except Stage as why:
            raise Stage(11, why.code, i, 11) from None
    demand(11, not asked["engines"] or n.inner, "no_engine")


def results(folder):
    path = pathlib.Path(folder) / "envelopes.json"
    if not path.exists():
        return
    vectors = json.loads(path.read_text())
    held = {bytes.fromhex(h["digest"]): bytes.fromhex(h["bytes"]) for h in vectors["held"]}
    for case in vectors["cases"]:
        want, got = case["expect"], None
        try:
            judge({**vectors["defaults"], **case}, held)
        except Stage as why:
            got = why
        if "ok" in want:
            good = got is None
        else:
            good = got is not None and got.stage == want["stage"] and got.code in want["code"] and \
                ("engine" not in want or got.engine == want["engine"]) and \
                ("inner_stage" not in want or got.inner == want["inner_stage"])
        yield case["name"], good, (str(got), want)
