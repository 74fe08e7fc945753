"""stack.py - starts the demo's processes for one e2e test and talks to them as a client would.

A test is a list of functions; run(functions) calls each, prints one line for each failure and closes with
"NAME: N passed, N failed, N skipped". Standard library only. All traffic stays on 127.0.0.1."""

import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse

TOP = pathlib.Path(os.environ.get("TOP", pathlib.Path(__file__).resolve().parents[2]))
SHARED = pathlib.Path(os.environ.get("AIRLOCK_SHARED", TOP.parent / "shared"))
BIN = TOP / "build" / "demo" / "bin"


class Skip(Exception):
    """Raised by a test that cannot run here; says why."""


def tiny_model():
    path = SHARED / "models" / "aidreams260K" / "aidreams260K.gguf"
    if not path.exists():
        raise Skip(f"{path} is not there (AIRLOCK_SHARED)")
    return path


def fetched_model(file):
    cache = os.environ.get("AIRLOCK_MODELS") or os.environ.get("XDG_CACHE_HOME", str(pathlib.Path.home() / ".cache")) + "/airlock/models"
    path = pathlib.Path(cache) / file
    if not path.exists():
        raise Skip(f"the model is not there ({path})")
    return path


def demo_model():
    return fetched_model("SmolLM2-135M-Instruct.Q4_1.gguf")


def gemma_model():
    return fetched_model("gemma-3-270m-q4_k_m.gguf")


class Stack:
    """All daemons of the demo, in a state folder of their own, until close()."""

    def __init__(self, model, *options):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="airlock-e2e-"))
        os.environ["XDG_STATE_HOME"] = str(self.dir / "home")  # what clients remember
        self.output = open(self.dir / "demo.out", "w+b")
        command = [str(TOP / "airlock"), "demo", "-y", "--state", str(self.dir / "state"), "--model", str(model), *options]
        self.demo = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output,
                                     start_new_session=True)
        self.info = self._wait(120)

    def _wait(self, seconds):
        path = self.dir / "state" / "demo.json"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if path.exists():
                return json.loads(path.read_text())
            if self.demo.poll() is not None:
                break
            time.sleep(0.05)
        text = self.text()
        self.close()
        raise RuntimeError("the demo did not come up:\n" + text[-4000:])

    def text(self):
        self.output.flush()
        return (self.dir / "demo.out").read_text(errors="replace")

    def sealed_door(self):
        """`airlock connect --sealed` as a process that is the caller's to end, and its URL once it answers."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            url = "http://127.0.0.1:%d" % s.getsockname()[1]
        door = subprocess.Popen([str(BIN / "airlock"), "connect", "--sealed", "--listen", url.removeprefix("http://"), "--acceptance",
                                 self.info["acceptance"], *self.info["proxy_urls"]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: self.call("GET", "/v1/models", url=url)[0] == 200, 10, "the sealed endpoint answers")
        return door, url

    def logs(self):
        """All bytes that the processes wrote: demo output and every log file."""
        data = (self.dir / "demo.out").read_bytes()
        for path in (self.dir / "state").rglob("*.log"):
            data += path.read_bytes()
        return data

    def pids(self):
        """Program name -> process ids, children (attester, tunnel) included."""
        return {name: ([ids] if isinstance(ids, int) else list(ids)) for name, ids in self.info["pids"].items()}

    def close(self, keep=False):
        if self.demo.poll() is None:
            os.killpg(self.demo.pid, signal.SIGINT)
            try:
                self.demo.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.demo.pid, signal.SIGKILL)
                self.demo.wait()
        crashed = [line for line in self.text().splitlines() if "crashed while it was stopped" in line]
        self.output.close()
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        if crashed:
            raise AssertionError("\n".join(crashed))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close(keep=bool(os.environ.get("AIRLOCK_KEEP")))

    # --- talking to it ---------------------------------------------------------------------------

    def connection(self, url=None, timeout=60):
        """One HTTP connection: to `connect` by default, or to a proxy's HTTPS address."""
        parts = urllib.parse.urlsplit(url or self.info["connect_url"])
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.info["ca_file"])
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)

    def call(self, method, path, body=None, url=None, headers=None, key=None, connection=None):
        """(status, headers, bytes) of one request. `body`: bytes, or something to encode as JSON."""
        conn = connection or self.connection(url)
        sent = {"Authorization": "Bearer " + (key or self.info["api_key"])}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        conn.request(method, path, body, {k: v for k, v in sent.items() if v is not None})
        answer = conn.getresponse()
        data = answer.read()
        if connection is None:
            conn.close()
        return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), data

    def chat(self, text, **fields):
        """The parsed answer of one chat completion, which must be a 200."""
        status, _, data = self.call("POST", "/v1/chat/completions", self.chat_body(text, **fields))
        assert status == 200, (status, data[:500])
        return json.loads(data)

    def chat_body(self, text, **fields):
        return {"model": self.info["model"], "messages": [{"role": "user", "content": text}], **fields}

    def stream(self, path, body, url=None, timeout=60):
        """Yields the `data:` payloads of a streamed answer as they arrive; the last is "[DONE]" when all is well."""
        conn = self.connection(url, timeout)
        conn.request("POST", path, json.dumps({**body, "stream": True}).encode(),
                     {"Authorization": "Bearer " + self.info["api_key"], "Content-Type": "application/json"})
        answer = conn.getresponse()
        if answer.status != 200:
            raise AssertionError((answer.status, answer.read()[:500]))
        try:
            for line in answer:
                if line.startswith(b"data: "):
                    yield line[6:].strip().decode()
        finally:
            conn.close()


def wait_until(check, seconds, what):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if check():
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def error_of(data):
    """The error object of an answer in OpenAI's shape."""
    error = json.loads(data)["error"]
    assert set(error) >= {"message", "type", "param", "code"}, error
    return error


def run(tests, name=None):
    """Run test functions; exit 0, 1, or 77 when every one was skipped."""
    name = name or pathlib.Path(sys.argv[0]).stem.removeprefix("test_")
    passed = failed = skipped = 0
    for test in tests:
        started = time.monotonic()
        try:
            test()
            passed += 1
        except Skip as why:
            skipped += 1
            print(f"SKIP {test.__name__}: {why}")
        except Exception:  # a failing test must not hide the ones behind it
            failed += 1
            print(f"FAIL {test.__name__} after {time.monotonic() - started:.1f} s")
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 77 if skipped and not passed else 0)
