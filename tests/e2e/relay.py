"""relay.py - a man in the middle with a certificate of its own: ends TLS, passes the plain bytes on to the real proxy over
a TLS session of its own, and keeps what it saw."""

import pathlib
import socket
import ssl
import subprocess
import threading


def own_certificate(folder):
    """A self-signed certificate for 127.0.0.1: (certificate file, key file)."""
    folder = pathlib.Path(folder)
    cert, key = folder / "relay.pem", folder / "relay.pem-key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    return cert, key


class Relay:
    def __init__(self, folder, target_port):
        self.target_port, self.seen = target_port, bytearray()
        cert, key = own_certificate(folder)
        self.cert = cert
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        upstream_context = ssl._create_unverified_context()
        try:
            near = self.context.wrap_socket(client, server_side=True)
            far = upstream_context.wrap_socket(socket.create_connection(("127.0.0.1", self.target_port)))
        except OSError:
            client.close()
            return
        threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
        self._pump(far, near, False)

    def _pump(self, source, sink, record):
        try:
            while data := source.recv(65536):
                if record:
                    self.seen += data
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()
