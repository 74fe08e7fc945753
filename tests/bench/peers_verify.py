"""peers_verify.py - other verifiers on the same evidence in the same run. usage: peers_verify.py VECTORS [MODULE=WHY...] <
rows of bench_verify. Prints a row for each: ours is the cold row. A peer that checks less than we do says so in its row.
Packages come from PyPI (bench_verify.sh); one that is not there is a skip, with WHY it could not be installed. Processor
time of this thread, least of several rounds."""

import importlib
import json
import sys
import time

ROUNDS, CALLS = 15, 10


def read(item, name, mode="rb"):
    with open(f"{VECTORS}/{item}/{name}", mode) as f:
        return f.read()


def least(call):
    best = None
    for _ in range(ROUNDS):
        start = time.thread_time()
        for _ in range(CALLS):
            call()
        each = (time.thread_time() - start) / CALLS * 1e6
        best = each if best is None else min(best, each)
    return best


def tdx(package):
    item = "tdx/v4-emr-uptodate"
    info, identity = json.loads(read(item, "tcb_info.json")), json.loads(read(item, "qe_identity.json"))
    # the exact bytes between the member's name and the signature are what is signed
    exact = read(item, "tcb_info.json", "r")
    exact_identity = read(item, "qe_identity.json", "r")
    given = package.QuoteCollateralV3(
        pck_crl_issuer_chain=read(item, "pck_chain.pem", "r"), root_ca_crl=read(item, "root_ca.crl"),
        pck_crl=read(item, "pck.crl"), tcb_info_issuer_chain=read(item, "tcb_info_chain.pem", "r"),
        tcb_info=exact[exact.index(":") + 1:exact.rindex(',"signature"')],
        tcb_info_signature=bytes.fromhex(info["signature"]),
        qe_identity_issuer_chain=read(item, "qe_identity_chain.pem", "r"),
        qe_identity=exact_identity[exact_identity.index(":") + 1:exact_identity.rindex(',"signature"')],
        qe_identity_signature=bytes.fromhex(identity["signature"]))
    quote = read(item, "quote.bin")
    return lambda: package.verify(quote, given, 1751624191)


def snp(package):
    item = "snp/genoa-v3-azure"
    raw, leaf = read(item, "report.bin"), read(item, "leaf.der")

    def number(at, size):
        return int.from_bytes(raw[at:at + size], "little")

    def octets(at, size):
        return list(raw[at:at + size])

    def tcb(at):
        return {"bootloader": raw[at], "tee": raw[at + 1], "_reserved": octets(at + 2, 4), "snp": raw[at + 6],
                "microcode": raw[at + 7]}

    report = {"version": number(0, 4), "guest_svn": number(4, 4), "policy": number(8, 8), "family_id": octets(16, 16),
              "image_id": octets(32, 16), "vmpl": number(0x30, 4), "sig_algo": number(0x34, 4),
              "current_tcb": tcb(0x38),
              "plat_info": number(0x40, 8), "_author_key_en": number(0x48, 4), "_reserved_0": number(0x4c, 4),
              "report_data": octets(0x50, 64), "measurement": octets(0x90, 48), "host_data": octets(0xc0, 32),
              "id_key_digest": octets(0xe0, 48), "author_key_digest": octets(0x110, 48), "report_id": octets(0x140, 32),
              "report_id_ma": octets(0x160, 32), "reported_tcb": tcb(0x180), "_reserved_1": octets(0x188, 24),
              "chip_id": octets(0x1a0, 64), "committed_tcb": tcb(0x1e0), "current_build": raw[0x1e8],
              "current_minor": raw[0x1e9], "current_major": raw[0x1ea], "_reserved_2": raw[0x1eb],
              "committed_build": raw[0x1ec], "committed_minor": raw[0x1ed], "committed_major": raw[0x1ee],
              "_reserved_3": raw[0x1ef], "launch_tcb": tcb(0x1f0), "_reserved_4": octets(0x1f8, 168),
              "signature": {"r": octets(0x2a0, 72), "s": octets(0x2e8, 72), "_reserved": octets(0x330, 368)}}
    text = json.dumps(report)
    return lambda: package.verify_attestation_report(text, leaf)


PEERS = [("SNP report, chain, revocation list", "sev_attest_tool", snp, "(no revocation list)"),
         ("TDX quote, chain, lists, documents", "dcap_qvl", tdx, "")]


def row(*fields):
    print("\t".join(("verify",) + fields), flush=True)


def main():
    ours = {}
    for line in sys.stdin:
        fields = line.split("\t")
        if len(fields) > 3 and fields[1].endswith(", cold"):
            ours[fields[1][:-6]] = float(fields[2].split()[0])
    for case, module, prepare, note in PEERS:
        what = f"{case}, cold, beside {module} {note}".rstrip()
        try:
            package = importlib.import_module(module)
            call = prepare(package)
            call()
        except ImportError:
            row(what, "-", "-", "-", "-", f"skipped: {module} is not installed: {WHY.get(module, 'its import fails')}")
            continue
        except Exception as problem:  # whatever a peer's binding raises
            row(what, "-", "-", "-", "-", f"skipped: it refuses this evidence: {str(problem).splitlines()[0][:80]}")
            continue
        theirs = least(call)
        ratio = ours[case] / theirs
        verdict = "met" if ratio <= 1 else "short"
        row(what, f"{ours[case]:.0f} us", f"{theirs:.0f} us", f"{ratio:.2f}", "<= 1.00", verdict)
    row("GPU report, beside nv_local_gpu_verifier", "-", "-", "-", "-",
        "skipped: it asks its vendor's services for reference files and revocation, there is no offline form")


VECTORS = sys.argv[1]
WHY = dict(argument.split("=", 1) for argument in sys.argv[2:])
main()
