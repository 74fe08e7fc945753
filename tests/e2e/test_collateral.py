#!/usr/bin/env python3
"""test_collateral.py - `airlock collateral`: a local server plays the vendors' services, well and badly. Every failure
has its own exit code and message, and leaves no bundle. Needs the openssl tool for the certificates; nothing is asked
of anybody but 127.0.0.1."""

import base64
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import stack
from stack import Skip

TOOL = next((p for p in (stack.BIN / "airlock", stack.TOP / "build" / "bin" / "airlock") if p.exists()), None)
DIR = pathlib.Path(tempfile.mkdtemp(prefix="airlock-collateral-"))
UNREACHABLE, STATUS, TOO_LONG, TOO_SLOW, TORN, CONTENT, STALE, MISSING = range(3, 11)


# --- what vendors would answer ----------------------------------------------------------------------------


def openssl(*words, **more):
    done = subprocess.run(["openssl", *map(str, words)], cwd=DIR, capture_output=True, **more)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def certificate(name, issuer, extensions):
    """NAME.key, NAME.pem, NAME.der by ISSUER (None: by itself), entered in the authority's index."""
    (DIR / f"{name}.ext").write_text(extensions)
    openssl("ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", f"{name}.key")
    openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr")
    by = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial"] if issuer else ["-signkey", f"{name}.key"]
    openssl("x509", "-req", "-in", f"{name}.csr", *by, "-days", "30", "-sha384", "-extfile", f"{name}.ext", "-out",
            f"{name}.pem")
    openssl("x509", "-in", f"{name}.pem", "-outform", "DER", "-out", f"{name}.der")


def index_of(name, status="V", date=""):
    serial = openssl("x509", "-in", f"{name}.pem", "-noout", "-serial").decode().strip().split("=")[1]
    return f"{status}\t400101000000Z\t{date}\t{serial}\tunknown\t/CN={name}\n"


def make_vendors():
    if not shutil.which("openssl"):
        raise Skip("the openssl tool is not installed")
    ca = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
    certificate("root", None, ca)
    certificate("middle", "root", ca)
    certificate("device", "middle", ca)
    certificate("leaf", "device", "basicConstraints=CA:FALSE\n")
    certificate("signer", "middle", "basicConstraints=CA:FALSE\n")  # of reference files
    (DIR / "root.index").write_text(index_of("middle"))
    (DIR / "middle.index").write_text(index_of("device") + index_of("signer"))
    (DIR / "gone.index").write_text(index_of("device") + index_of("signer", "R", "250101000000Z"))
    (DIR / "held.index").write_text(index_of("middle", "R", "250101000000Z,certificateHold"))
    (DIR / "ca.conf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={DIR}/root.index\ndefault_md=sha384\ncrlnumber={DIR}/number\n")
    (DIR / "number").write_text("01\n")
    openssl("ca", "-config", "ca.conf", "-gencrl", "-keyfile", "root.key", "-cert", "root.pem", "-crldays", "7", "-out",
            "crl.pem")
    openssl("crl", "-in", "crl.pem", "-outform", "DER", "-out", "crl.der")
    pems = "".join((DIR / f"{n}.pem").read_text() for n in ("leaf", "device", "middle", "root"))
    (DIR / "gpu.pem").write_text(pems)
    day = lambda n: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + n * 86400))
    body = {"issueDate": day(-1), "nextUpdate": day(5)}
    (DIR / "tcb.json").write_text(json.dumps({"tcbInfo": body, "signature": "00"}))
    (DIR / "qe.json").write_text(json.dumps({"enclaveIdentity": body, "signature": "00"}))
    signers = "".join(f"<ds:X509Certificate>{base64.b64encode((DIR / f'{n}.der').read_bytes()).decode()}</ds:X509Certificate>"
                      for n in ("signer", "middle", "root"))
    xml = f"<SoftwareIdentity>{signers}</SoftwareIdentity>"
    (DIR / "rim.json").write_text(json.dumps({"id": "X", "rim": base64.b64encode(xml.encode()).decode()}))


ASKED = []  # the path of every question about a status


def answer_ocsp(request, path):
    """The issuer answers itself; the index with the certificate that was asked about knows which issuer."""
    ASKED.append(path)
    (DIR / "request.der").write_bytes(request)
    other = {("/held", "root"): "held.index", ("/revoked", "middle"): "gone.index"}
    for issuer in ("root", "middle"):
        index = other.get((path, issuer), f"{issuer}.index")
        out = DIR / "response.der"
        subprocess.run(["openssl", "ocsp", "-index", index, "-CA", f"{issuer}.pem", "-rsigner", f"{issuer}.pem", "-rkey",
                        f"{issuer}.key", "-rmd", "sha384", "-reqin", "request.der", "-respout", str(out), "-ndays", "3"],
                       cwd=DIR, capture_output=True, check=True)
        text = openssl("ocsp", "-respin", out, "-text", "-noverify")
        if b"Cert Status: unknown" not in text:
            break
    return out.read_bytes()


class Vendor(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def reply(self, body, status=200, length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass
        if length is not None:
            self.close_connection = True

    def do_POST(self):
        if self.path == "/gone":
            return self.reply(b"no", 404)
        request = self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(answer_ocsp(request, self.path))

    def do_GET(self):
        crl = (DIR / "crl.der").read_bytes()
        chain = urllib.parse.quote((DIR / "middle.pem").read_text() + (DIR / "root.pem").read_text())
        if self.path == "/gone":
            self.reply(b"no", 404)
        elif self.path == "/moved":
            self.reply(b"", 302, Location="/crl")
        elif self.path == "/long":
            self.reply(b"x" * (300 << 10))
        elif self.path == "/endless":  # no length said beforehand
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for _ in range(1000):
                    self.wfile.write(b"x" * 4096)
            except OSError:
                pass
            self.close_connection = True
        elif self.path == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            except OSError:
                pass
            self.close_connection = True
        elif self.path == "/torn":
            self.reply(crl[:100], length=len(crl))
        elif self.path == "/silent":
            self.close_connection = True
        elif self.path == "/html":
            self.reply(b"<html>sign in first</html>")
        elif self.path == "/padded":
            self.reply(crl + b"\0")
        elif self.path == "/tcb":
            self.reply((DIR / "tcb.json").read_bytes(), TCB_Info_Issuer_Chain=chain)
        elif self.path == "/qe":
            self.reply((DIR / "qe.json").read_bytes(), SGX_Enclave_Identity_Issuer_Chain=chain)
        elif self.path == "/bare":
            self.reply((DIR / "tcb.json").read_bytes())
        else:
            names = {"/crl": "crl.der", "/crl.pem": "crl.pem", "/leaf": "device.der", "/issuers": "middle.pem",
                     "/rim": "rim.json"}
            self.reply((DIR / names[self.path]).read_bytes())


SERVER = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
SERVER.daemon_threads = True
SERVER.handle_error = lambda *words: None  # clients that hang up are part of the test
URL = f"http://127.0.0.1:{SERVER.server_address[1]}"


# --- the tool ---------------------------------------------------------------------------------------------


def airlock(*words):
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return subprocess.run([str(TOOL), "collateral", *map(str, words)], capture_output=True, text=True, timeout=60, env=env)


def fetch(text, out):
    (DIR / "config").write_text(text)
    return airlock("fetch", "--config", DIR / "config", "--out", out)


def refused(text, code, words):
    out = DIR / "never"
    done = fetch(text, out)
    assert done.returncode == code, (code, done.returncode, done.stderr)
    assert words in done.stderr, done.stderr
    assert not list(DIR.glob("never*")), "a bundle was left"


GOOD = lambda: f"""
timeout = "10s";
crls = [ "{URL}/crl", "{URL}/crl.pem" ];
chains = ( {{ leaf = "{URL}/leaf"; issuers = "{URL}/issuers"; }} );
tcb_info = "{URL}/tcb";
qe_identity = "{URL}/qe";
rims = [ "{URL}/rim" ];
rim_responder = "{URL}/ocsp";
ocsp = ( {{ certificates = "{DIR}/gpu.pem"; responder = "{URL}/ocsp"; }} );
"""


# --- tests ------------------------------------------------------------------------------------------------


def test_everything_into_one_bundle():
    bundle = DIR / "bundle"
    done = fetch(GOOD(), bundle)
    assert done.returncode == 0, done.stderr
    shown = airlock("show", bundle).stdout
    for kind, count in (("chain", 1), ("crl", 2), ("tcb_info", 1), ("tcb_chain", 1), ("qe_identity", 1), ("qe_chain", 1),
                        ("ocsp", 3), ("rim", 1)):
        assert sum(line.split()[0] == kind for line in shown.splitlines()) == count, (kind, shown)
    assert len(ASKED) == 3, ASKED  # signer, middle, device: the authority that both chains share is asked about once


def test_check_names_what_is_stale_or_missing():
    bundle = DIR / "bundle"
    assert airlock("check", bundle).returncode == 0
    assert airlock("check", bundle, "--for", "snp", "--for", "tdx").returncode == 0
    gpu = airlock("check", bundle, "--for", "gpu")
    assert gpu.returncode == MISSING and "rim" in gpu.stdout and "MISSING" in gpu.stdout, gpu
    later = airlock("check", bundle, "--at", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6 * 86400)))
    assert later.returncode == STALE and later.stdout.count("STALE") == 5, later.stdout  # two documents, three statuses
    bare = DIR / "bare"  # the same without anybody's word on the reference file's signer
    (DIR / "config").write_text(GOOD().replace("rim_responder", "# rim_responder"))
    assert airlock("fetch", "--config", DIR / "config", "--out", bare).returncode == 0
    unknown = airlock("check", bare, "--for", "gpu")
    assert "certificate 0 of reference file 0 (ocsp_mismatch)" in unknown.stdout, unknown.stdout
    assert "of reference file" not in gpu.stdout, gpu.stdout
    early = airlock("check", bundle, "--at", "2020-01-01")
    assert early.returncode == STALE and "NOT YET VALID" in early.stdout
    assert airlock("check", bundle, "--for", "abacus").returncode == 2


def test_pack_makes_the_same_from_files():
    (DIR / "issuers.pem").write_text((DIR / "middle.pem").read_text() + (DIR / "root.pem").read_text())
    done = airlock("pack", "--out", DIR / "packed", "--crl", DIR / "crl.pem", "--tcb-info", DIR / "tcb.json", "--tcb-chain",
                   DIR / "issuers.pem", "--rim", DIR / "rim.json", "--chain", DIR / "gpu.pem")
    assert done.returncode == 0, done.stderr
    assert airlock("check", DIR / "packed").returncode == 0
    wrong = airlock("pack", "--out", DIR / "never", "--crl", DIR / "tcb.json")
    assert wrong.returncode == CONTENT and not (DIR / "never").exists()


def test_a_damaged_bundle_is_refused():
    whole = (DIR / "bundle").read_bytes()
    for bad in (whole[:-1], whole + b"\0", b"", b"\x85" + bytes(100)):
        (DIR / "damaged").write_bytes(bad)
        done = airlock("check", DIR / "damaged")
        assert done.returncode == 1 and "not a collateral bundle" in done.stderr, done


def test_each_failure_has_its_code():
    short = 'timeout = "1s";'
    closed = http.server.HTTPServer(("127.0.0.1", 0), Vendor)
    port = closed.server_address[1]
    closed.server_close()
    refused(f'crls = [ "http://127.0.0.1:{port}/crl" ];', UNREACHABLE, "connect")
    refused(f'crls = [ "file://{DIR}/crl.der" ];', UNREACHABLE, "rotocol")
    for path, code, words in (("gone", STATUS, "404"), ("moved", STATUS, "302"), ("long", TOO_LONG, "longer"),
                              ("endless", TOO_LONG, "longer"), ("slow", TOO_SLOW, "in time"), ("torn", TORN, "early"),
                              ("silent", TORN, "early"), ("html", CONTENT, "crl"), ("padded", CONTENT, "crl")):
        refused(f'{short} crls = [ "{URL}/crl", "{URL}/{path}" ];', code, words)
    refused(f'tcb_info = "{URL}/bare";', CONTENT, "issuer")
    refused(f'tcb_info = "{URL}/qe";', CONTENT, "tcb_info")
    refused(f'rims = [ "{URL}/crl" ];', CONTENT, "rim")
    refused(f'ocsp = ( {{ certificates = "{DIR}/gpu.pem"; responder = "{URL}/held"; }} );', CONTENT, "ocsp_hold")
    refused(f'rims = [ "{URL}/rim" ]; rim_responder = "{URL}/revoked";', CONTENT, "cert_revoked")
    refused(f'rims = [ "{URL}/rim" ]; rim_responder = "{URL}/gone";', STATUS, "404")
    refused(f'ocsp = ( {{ certificates = "{DIR}/tcb.json"; responder = "{URL}/ocsp"; }} );', CONTENT, "certificates")
    refused(f'mirrors = [ "{URL}" ];', 1, "mirrors")


def test_an_old_bundle_survives_a_failure():
    before = (DIR / "bundle").read_bytes()
    assert fetch(f'crls = [ "{URL}/torn" ];', DIR / "bundle").returncode == TORN
    assert (DIR / "bundle").read_bytes() == before


def main():
    tests = [test_everything_into_one_bundle, test_check_names_what_is_stale_or_missing,
             test_pack_makes_the_same_from_files, test_a_damaged_bundle_is_refused, test_each_failure_has_its_code,
             test_an_old_bundle_survives_a_failure]
    try:
        if not TOOL:
            raise Skip("the airlock tool is not built")
        make_vendors()
    except Skip as why:
        print(f"SKIP collateral: {why}")
        print(f"collateral: 0 passed, 0 failed, {len(tests)} skipped")
        return 77
    threading.Thread(target=SERVER.serve_forever, daemon=True).start()
    try:
        return stack.run(tests)
    finally:
        SERVER.shutdown()
        shutil.rmtree(DIR, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
