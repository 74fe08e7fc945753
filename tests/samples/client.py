"""client.py - a client of its own, in Python: libairlock and OpenSSL through ctypes prove proxy and engines on one
connection, then a prompt goes out on it. usage: client.py HOST PORT ACCEPTANCE-FILE MODEL PROMPT, the API key on
standard input. AIRLOCK_LIBRARY: where libairlock.so is. Exit codes: 0 answered, 1 refused and nothing sent, 2 could
not check. (Python's own ssl module has no exporter, so it cannot bind an attestation to its connection.)

Where httpx or httpx2 is installed, Transport does the same below the `openai` package:
    OpenAI(base_url="https://HOST:PORT/v1", http_client=httpx.Client(transport=Transport("acceptance.conf")))"""

import hashlib
import json
import os
import re
import socket
import sys
import time
from ctypes import (CDLL, POINTER, Structure, byref, c_bool, c_char, c_char_p, c_int, c_size_t, c_ssize_t, c_uint,
                    c_uint32, c_uint64, c_void_p, create_string_buffer, sizeof, string_at)

try:
    import httpx2 as httpx  # what the openai package rests on since its version 3
except ImportError:
    try:
        import httpx
    except ImportError:  # the rest does without
        httpx = None

CLIENT, PROXY, TLS1_3 = 0, 1, 0x0304
LABEL = b"EXPORTER-airlock-attest-v1"
air = CDLL(os.environ.get("AIRLOCK_LIBRARY", "libairlock.so.0"))
tls_lib = CDLL("libssl.so.3")
crypto = CDLL("libcrypto.so.3")


# verifier/airlock.h, word for word.
class Span(Structure):
    _fields_ = [("data", c_char_p), ("len", c_size_t)]


class Ask(Structure):
    _fields_ = [("size", c_size_t), ("verifier", c_int), ("attester", c_int), ("nonce", c_char_p), ("engines", c_bool),
                ("model", c_char_p), ("engines_max", c_uint), ("have", c_void_p), ("have_count", c_size_t)]


class Session(Structure):
    _fields_ = [(name, c_bool) for name in ("tls13", "finished", "resumed", "psk", "early_data", "post_handshake_auth")]


class Input(Structure):
    _fields_ = [("size", c_size_t), ("envelope", Span), ("challenge", Span), ("spki", Span), ("exporter", c_char_p),
                ("session", Session), ("verifier", c_int), ("attester", c_int), ("now", c_uint64), ("held", c_void_p),
                ("held_count", c_size_t), ("collateral", Span), ("previous", c_void_p), ("cache", c_void_p)]


class Result(Structure):
    _fields_ = [("code", c_char * 64), ("stage", c_int), ("inner_stage", c_int), ("engine", c_int),
                ("observed", c_char * 512), ("required", c_char * 512), ("remedy", c_char_p)]


class Seen(Structure):
    _fields_ = [(name, c_uint32) for name in ("policy", "keyset", "epoch")] + \
               [(name, c_uint64) for name in ("policy_since", "keyset_since", "epoch_since")]


class Verdict(Structure):
    _fields_ = [("size", c_size_t), ("result", Result), ("valid_until", c_uint64), ("valid_by", c_char_p),
                ("simulated", c_bool), ("revocation_latency", c_uint64), ("seen", Seen)]


def declare(library, name, result, *arguments):
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments


declare(air, "airlock_challenge", c_int, POINTER(Ask), c_void_p, c_size_t, POINTER(c_size_t))
declare(air, "airlock_check", c_void_p, POINTER(Input), POINTER(Result))
declare(air, "airlock_judge", c_int, c_void_p, c_void_p, POINTER(Seen), c_uint64, POINTER(Verdict))
declare(air, "airlock_rules_parse", c_void_p, Span, POINTER(Result))
declare(air, "airlock_rules_free", None, c_void_p)
declare(air, "airlock_claims_free", None, c_void_p)
declare(tls_lib, "TLS_client_method", c_void_p)
declare(tls_lib, "SSL_CTX_new", c_void_p, c_void_p)
declare(tls_lib, "SSL_CTX_ctrl", c_ssize_t, c_void_p, c_int, c_ssize_t, c_void_p)
declare(tls_lib, "SSL_new", c_void_p, c_void_p)
declare(tls_lib, "SSL_free", None, c_void_p)
declare(tls_lib, "SSL_CTX_free", None, c_void_p)
for verb in ("SSL_connect", "SSL_version", "SSL_is_init_finished", "SSL_session_reused"):
    declare(tls_lib, verb, c_int, c_void_p)
declare(tls_lib, "SSL_set_fd", c_int, c_void_p, c_int)
declare(tls_lib, "SSL_get0_peer_certificate", c_void_p, c_void_p)
declare(tls_lib, "SSL_read", c_int, c_void_p, c_void_p, c_int)
declare(tls_lib, "SSL_write", c_int, c_void_p, c_char_p, c_int)
declare(tls_lib, "SSL_export_keying_material", c_int, c_void_p, c_void_p, c_size_t, c_char_p, c_size_t, c_char_p,
        c_size_t, c_int)
declare(crypto, "X509_get_X509_PUBKEY", c_void_p, c_void_p)
declare(crypto, "i2d_X509_PUBKEY", c_int, c_void_p, POINTER(c_void_p))
declare(crypto, "CRYPTO_free", None, c_void_p, c_char_p, c_int)


class Unchecked(Exception):
    """Could not check."""


class Connection:
    """One TLS 1.3 connection. Attestation names the key, so no authority is asked."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), 30)
        self.socket.settimeout(None)  # OpenSSL reads the descriptor itself
        self.context = tls_lib.SSL_CTX_new(tls_lib.TLS_client_method())
        tls_lib.SSL_CTX_ctrl(self.context, 123, TLS1_3, None)  # SSL_CTRL_SET_MIN_PROTO_VERSION
        self.ssl = tls_lib.SSL_new(self.context)
        self.data = b""  # read, not yet taken
        if tls_lib.SSL_set_fd(self.ssl, self.socket.fileno()) != 1 or tls_lib.SSL_connect(self.ssl) != 1:
            raise Unchecked("no TLS 1.3 connection")

    def close(self):
        tls_lib.SSL_free(self.ssl)
        tls_lib.SSL_CTX_free(self.context)
        self.socket.close()

    def read(self):
        piece = create_string_buffer(16384)
        got = tls_lib.SSL_read(self.ssl, piece, len(piece))
        if got <= 0:
            raise Unchecked("the connection ended")
        self.data += piece.raw[:got]

    def until(self, mark):
        """What stands before the next `mark`."""
        while mark not in self.data:
            if len(self.data) > 65536:
                raise Unchecked("the answer has no end of line")
            self.read()
        before, _, self.data = self.data.partition(mark)
        return before

    def pieces(self, length):
        """`length` bytes, as they come."""
        while length > 0:
            if not self.data:
                self.read()
            piece, self.data = self.data[:length], self.data[length:]
            length -= len(piece)
            yield piece

    def send(self, method, path, headers, body):
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        message = f"{method} {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        if tls_lib.SSL_write(self.ssl, message, len(message)) != len(message):
            raise Unchecked("cannot send")

    def answer(self):
        """(status, [(name, value)], the body's pieces); take all pieces before anything else is sent."""
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = re.fullmatch(r"HTTP/1\.1 (\d\d\d)(?: .*)?", first)
        if not status:
            raise Unchecked("the answer is not HTTP")
        headers = [(n.strip().lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
        found = dict(headers)
        if found.get("transfer-encoding") == "chunked":
            return int(status[1]), headers, self.chunks()
        return int(status[1]), headers, self.pieces(int(found.get("content-length", 0)))

    def chunks(self):
        while length := int(self.until(b"\r\n").split(b";")[0], 16):
            yield from self.pieces(length)
            self.until(b"\r\n")
        while self.until(b"\r\n"):  # trailers
            pass

    def post(self, path, kind, body, key=None):
        headers = [("Host", "airlock"), ("Content-Type", kind)] + ([("Authorization", f"Bearer {key}")] if key else [])
        self.send("POST", path, headers, body)
        status, _, pieces = self.answer()
        if status != 200:
            raise Unchecked(f"status {status}")
        return b"".join(pieces)

    def spki(self):
        out = c_void_p()
        cert = tls_lib.SSL_get0_peer_certificate(self.ssl)
        length = crypto.i2d_X509_PUBKEY(crypto.X509_get_X509_PUBKEY(cert), byref(out)) if cert else -1
        if length <= 0:
            raise Unchecked("no certificate")
        der = string_at(out, length)
        crypto.CRYPTO_free(out, b"", 0)
        return der

    def exporter(self, challenge):
        out = create_string_buffer(32)
        context = hashlib.sha256(challenge).digest()
        if tls_lib.SSL_export_keying_material(self.ssl, out, 32, LABEL, len(LABEL), context, 32, 1) != 1:
            raise Unchecked("no exporter")
        return out.raw


def verify(tls, rules, model):
    """The verdict on the far end of `tls`; accepted only when `valid_until` is not 0."""
    ask = Ask(sizeof(Ask), CLIENT, PROXY, os.urandom(32), True, model.encode() if model else None, 8, None, 0)
    made, length, verdict = create_string_buffer(4096), c_size_t(), Verdict(sizeof(Verdict))
    if air.airlock_challenge(byref(ask), made, len(made), byref(length)) != 0:
        raise Unchecked("cannot make a challenge")
    challenge = made.raw[:length.value]
    envelope = tls.post("/.well-known/airlock/attest", "application/msgpack", challenge)
    spki, now = tls.spki(), int(time.time())
    session = Session(tls_lib.SSL_version(tls.ssl) == TLS1_3, tls_lib.SSL_is_init_finished(tls.ssl) == 1,
                      tls_lib.SSL_session_reused(tls.ssl) != 0)
    given = Input(sizeof(Input), Span(envelope, len(envelope)), Span(challenge, len(challenge)), Span(spki, len(spki)),
                  tls.exporter(challenge), session, CLIENT, PROXY, now)
    claims = air.airlock_check(byref(given), byref(verdict.result))
    if claims and air.airlock_judge(claims, rules, None, now, byref(verdict)) != 0:
        verdict.valid_until = 0
    air.airlock_claims_free(claims)
    return verdict


def read_rules(acceptance):
    with open(acceptance, "rb") as f:
        text = f.read()
    rules = air.airlock_rules_parse(Span(text, len(text)), None)
    if not rules:
        raise Unchecked("the acceptance file cannot be read")
    return rules


if httpx:
    class Transport(httpx.BaseTransport):
        """Proves the far end of each connection before a request goes out on it, again when the verdict has ended.
        One request at a time; a stream has to be read to its end or closed."""

        def __init__(self, acceptance, model=None):
            self.rules, self.model, self.tls, self.valid_until, self.busy = read_rules(acceptance), model, None, 0, False

        def connect(self, url):
            if self.tls and not self.busy and time.time() < self.valid_until:
                return
            self.drop()
            self.tls = Connection(url.host, url.port or 443)
            verdict = verify(self.tls, self.rules, self.model)
            if not verdict.valid_until:
                result = verdict.result
                raise Unchecked(f"refused at stage {result.stage}: {result.code.decode()}; nothing was sent")
            self.valid_until = verdict.valid_until

        def handle_request(self, request):
            skip = ("host", "content-length", "transfer-encoding", "connection")
            headers = [(n, v) for n, v in request.headers.items() if n.lower() not in skip]
            try:
                self.connect(request.url)
                self.busy = True
                self.tls.send(request.method, request.url.raw_path.decode(), [("Host", request.url.host), *headers],
                              request.read())
                status, answer, pieces = self.tls.answer()
            except (Unchecked, OSError) as why:
                self.drop()
                raise httpx.ConnectError(str(why), request=request) from why
            return httpx.Response(status, headers=answer, stream=Body(self, pieces))

        def drop(self):
            if self.tls:
                self.tls.close()
            self.tls, self.busy, self.valid_until = None, False, 0

        def close(self):
            self.drop()
            air.airlock_rules_free(self.rules)
            self.rules = None

    class Body(httpx.SyncByteStream):
        def __init__(self, transport, pieces):
            self.transport, self.pieces = transport, pieces

        def __iter__(self):
            try:
                yield from self.pieces
                self.transport.busy = False
            except Unchecked as why:
                raise httpx.ReadError(str(why)) from why

        def close(self):  # left early: what is still on its way cannot be told from the next answer
            if self.transport.busy:
                self.transport.drop()


def main(host, port, acceptance, model, prompt):
    rules = read_rules(acceptance)
    tls = Connection(host, int(port))
    try:
        verdict = verify(tls, rules, model)
        if not verdict.valid_until:
            result = verdict.result
            print(f"refused at stage {result.stage}: {result.code.decode()}", file=sys.stderr)
            return 1
        body = {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": prompt}]}
        print(tls.post("/v1/chat/completions", "application/json", json.dumps(body).encode(),
                       sys.stdin.readline().strip()).decode())
        return 0
    finally:
        tls.close()
        air.airlock_rules_free(rules)


if __name__ == "__main__":
    try:
        if len(sys.argv) != 6:
            raise Unchecked("usage: client.py HOST PORT ACCEPTANCE-FILE MODEL PROMPT")
        sys.exit(main(*sys.argv[1:]))
    except (Unchecked, OSError) as why:
        print(f"could not check: {why}", file=sys.stderr)
        sys.exit(2)
