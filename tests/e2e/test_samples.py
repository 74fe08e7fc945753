"""test_samples.py - the samples of tests/samples do what they say: a good node gets the prompt, another one nothing."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import urllib.parse

from stack import SHARED, TOP, Skip, Stack, run, demo_model

SAMPLES = TOP / "tests" / "samples"
PROMPT = "once upon a time there was a cat " * 12
sys.path.insert(0, str(SAMPLES))
import second  # noqa: E402 (from the samples' folder)

stack = None


class Counter:
    """Passes one connection on, unread, and counts what the client sent: a prompt shows in the size."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.up = self.listener.getsockname()[1], port
        self.sent = 0
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        client, _ = self.listener.accept()
        server = socket.create_connection(("127.0.0.1", self.up))
        back = threading.Thread(target=self._pass, args=(server, client, False), daemon=True)
        back.start()
        self._pass(client, server, True)
        back.join(5)
        client.close()
        server.close()

    def _pass(self, source, target, count):
        try:
            while data := source.recv(65536):
                self.sent += len(data) if count else 0
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.thread.join(10)
        self.listener.close()
        return self.sent


def sample(command, acceptance):
    """(exit code, standard output, standard error, bytes sent) of one run."""
    counter = Counter(urllib.parse.urlsplit(stack.info["proxy_urls"][0]).port)
    done = subprocess.run([*command, "127.0.0.1", str(counter.port), str(acceptance), stack.info["model"], PROMPT],
                          input=stack.info["api_key"] + "\n", capture_output=True, text=True, timeout=60,
                          env={**os.environ, "AIRLOCK_LIBRARY": str(TOP / "build" / "demo" / "verifier" / "libairlock.so")})
    return done.returncode, done.stdout, done.stderr, counter.close()


def other_engine():
    """The acceptance file, but with another measurement for the engine."""
    text = pathlib.Path(stack.info["acceptance"]).read_text()
    swap = lambda m: m[1] + ("0" if m[2] != "0" else "1")
    text, count = re.subn(r"(engine[^}]*?)(?<![0-9a-f])([0-9a-f])(?=[0-9a-f]{95})", swap, text, flags=re.S)
    assert count >= 1, text
    path = stack.dir / "other-engine.conf"
    path.write_text(text)
    return path


def proves_then_sends(command):
    code, out, err, sent = sample(command, stack.info["acceptance"])
    assert code == 0, (code, err)
    assert json.loads(out)["choices"][0]["message"]["role"] == "assistant", out
    assert sent > len(PROMPT), sent
    bad_code, bad_out, bad_err, bad_sent = sample(command, other_engine())
    assert bad_code == 1 and bad_out == "" and "measurement" in bad_err, (bad_code, bad_out, bad_err)
    assert sent - bad_sent > len(PROMPT), (sent, bad_sent)


def the_c_client():
    proves_then_sends([TOP / "build" / "demo" / "tests" / "sample_client"])


def the_python_client():
    proves_then_sends([sys.executable, SAMPLES / "client.py"])


def agrees(folder):
    passed, failures = second.check(folder)
    assert passed > 200 and not failures, (passed, failures)


def the_second_implementation_agrees_with_our_vectors():
    agrees(TOP / "tests" / "vectors" / "protocol")


def the_second_implementation_agrees_with_the_shared_vectors():
    folder = SHARED / "vectors" / "protocol"
    if not folder.exists():
        raise Skip(f"{folder} is not there (AIRLOCK_SHARED)")
    agrees(folder)


def main():
    global stack
    tests = [the_second_implementation_agrees_with_our_vectors, the_second_implementation_agrees_with_the_shared_vectors]
    try:
        model = demo_model()
    except Skip as why:
        print(f"SKIP the clients, which chat: {why}")
        run(tests)
    with Stack(model) as stack:
        run([*tests, the_c_client, the_python_client])


main()
