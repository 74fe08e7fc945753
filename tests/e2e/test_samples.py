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
import urllib.request

from stack import SHARED, TOP, Skip, Stack, run, demo_model

SAMPLES = TOP / "tests" / "samples"
LIBRARY = TOP / "build" / "demo" / "verifier" / "libairlock.so"
PROMPT = "once upon a time there was a cat " * 12
sys.path.insert(0, str(SAMPLES))
import second  # noqa: E402 (from the samples' folder)

stack = None


class Counter:
    """Passes connections on, unread, and counts what the client sent: a prompt shows in the size."""

    def __init__(self, port, most=1):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.up = self.listener.getsockname()[1], port
        self.sent = 0
        self.threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(most)]
        for thread in self.threads:
            thread.start()

    def _serve(self):
        try:
            client, _ = self.listener.accept()
        except OSError:  # never asked for
            return
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
        if len(self.threads) > 1:
            self.listener.shutdown(socket.SHUT_RDWR)  # ends those that still wait
        for thread in self.threads:
            thread.join(10)
        self.listener.close()
        return self.sent


def sample(command, acceptance):
    """(exit code, standard output, standard error, bytes sent) of one run."""
    counter = Counter(urllib.parse.urlsplit(stack.info["proxy_urls"][0]).port)
    done = subprocess.run([*command, "127.0.0.1", str(counter.port), str(acceptance), stack.info["model"], PROMPT],
                          input=stack.info["api_key"] + "\n", capture_output=True, text=True, timeout=60,
                          env={**os.environ, "AIRLOCK_LIBRARY": str(LIBRARY)})
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


def an_acceptance_file_from_what_was_seen():
    """`airlock verify --init URL`: the file accepts that proxy and says what nobody verified."""
    tool, url = TOP / "build" / "demo" / "bin" / "airlock", stack.info["proxy_urls"][0]
    airlock = lambda *words: subprocess.run([tool, *map(str, words)], capture_output=True, text=True, timeout=60)
    made, kept = stack.dir / "made.conf", stack.dir / "kept"
    done = airlock("verify", "--init", made, url, "--simulated", "--save", f"{kept}/")
    assert done.returncode == 0, done.stderr
    text = made.read_text()
    assert text.count("# observed, not verified") >= 5, text
    for target in (url, kept):
        done = airlock("verify", target, "--acceptance", made, "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["verdict"]["ok"], done.stdout
    assert airlock("verify", kept, "--acceptance", other_engine()).returncode == 1
    assert airlock("verify", "--init", made, url).returncode == 2  # never over an old one
    assert airlock("verify", "https://127.0.0.1:9", "--acceptance", made).returncode == 2


def connect_with_a_bundle_of_its_own():
    tool, bundle = TOP / "build" / "demo" / "bin" / "airlock", stack.dir / "bundle"
    assert subprocess.run([tool, "collateral", "pack", "--out", bundle], timeout=60).returncode == 0
    words = [tool, "connect", stack.info["proxy_urls"][0], "--acceptance", stack.info["acceptance"], "--listen", "127.0.0.1:0",
             "--state", str(stack.dir / "seen"), "--collateral"]
    bad = subprocess.run([*words, stack.info["acceptance"]], capture_output=True, text=True, timeout=60)
    assert bad.returncode == 2 and "not a collateral bundle" in bad.stderr, bad
    connect = subprocess.Popen([*words, bundle], stderr=subprocess.PIPE, text=True)
    try:
        url = connect.stderr.readline().split()[-1]
        request = urllib.request.Request(f"{url}/models", headers={"Authorization": f"Bearer {stack.info['api_key']}"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            assert json.load(answer)["data"][0]["id"] == stack.info["model"]
    finally:
        connect.terminate()
        connect.wait(60)
        connect.stderr.close()


OPENAI = """
import sys
sys.path.insert(0, sys.argv[1])
import client, openai
port, acceptance, model, key, prompt = sys.argv[2:]
ai = openai.OpenAI(base_url=f"https://127.0.0.1:{port}/v1", api_key=key, max_retries=0,
                   http_client=client.httpx.Client(transport=client.Transport(acceptance, model)))
ask = dict(model=model, max_tokens=8, messages=[{"role": "user", "content": prompt}])
try:
    print(ai.models.list().data[0].id)
    print(ai.chat.completions.create(**ask).choices[0].message.role)
    print(sum(1 for _ in ai.chat.completions.create(stream=True, **ask)))
    for _ in ai.chat.completions.create(stream=True, **ask):
        break  # left early: the next request goes out on a connection of its own
    print(ai.chat.completions.create(**ask).object)
except openai.APIConnectionError as why:
    print(why.__cause__, file=sys.stderr)
    sys.exit(1)
"""


def openai_python():
    """The Python of a folder with the openai package, which is installed there once; Skip where that cannot be."""
    folder = TOP / "build" / "openai-venv"
    python = folder / "bin" / "python"
    have = [str(python), "-c", "import openai"]
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, timeout=120)
        if subprocess.run(have, capture_output=True, timeout=60).returncode != 0:
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--timeout", "10", "--retries", "0", "openai"],
                           check=True, capture_output=True, timeout=180)
    except (OSError, subprocess.SubprocessError) as why:
        raise Skip(f"the openai package cannot be installed here ({type(why).__name__})") from None
    return str(python)


def the_transport_below_openai():
    python = openai_python()

    def ask(acceptance):
        ports = [Counter(urllib.parse.urlsplit(stack.info["proxy_urls"][0]).port, 8)]
        done = subprocess.run([python, "-c", OPENAI, str(SAMPLES), str(ports[0].port), str(acceptance), stack.info["model"],
                               stack.info["api_key"], PROMPT], capture_output=True, text=True, timeout=120,
                              env={**os.environ, "AIRLOCK_LIBRARY": str(LIBRARY)})
        return done.returncode, done.stdout.split(), done.stderr, ports[0].close()

    code, out, err, sent = ask(stack.info["acceptance"])
    assert code == 0, (code, err)
    assert out[0] == stack.info["model"] and out[1] == "assistant" and int(out[2]) > 1 and out[3] == "chat.completion", out
    assert sent > 4 * len(PROMPT), sent
    code, out, err, sent = ask(other_engine())
    assert code == 1 and not out and "measurement" in err and "nothing was sent" in err, (code, out, err)
    assert sent < 4096, sent  # a handshake and a challenge


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
        run([*tests, an_acceptance_file_from_what_was_seen, connect_with_a_bundle_of_its_own, the_c_client, the_python_client, the_transport_below_openai])


main()
