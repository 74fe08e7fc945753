"""test_faults.py - kill or freeze each process during a stream. The client gets an error within 5 s and never a cut
answer that looks whole; the rest keeps serving; the unit comes back by itself."""

import http.client
import json
import os
import signal
import sys
import threading
import time

from stack import Skip, Stack, demo_model, run, wait_until

stack = None
LONG = {"max_tokens": 100000, "ignore_eos": True, "temperature": 1}
ERROR_WITHIN = 5.0


class Reader(threading.Thread):
    """Reads one long stream; afterwards: how it ended and when."""

    def __init__(self, url=None):
        super().__init__(daemon=True)
        self.url, self.first = url, threading.Event()
        self.error = self.done = self.broke = False
        self.tokens, self.ended = 0, None

    def run(self):
        try:
            for part in stack.stream("/v1/completions", {"model": stack.info["model"], "prompt": "Once", **limits()}, url=self.url):
                if part == "[DONE]":
                    self.done = True
                    continue
                event = json.loads(part)
                if "error" in event:
                    self.error = True
                else:
                    self.tokens += 1
                    if self.tokens > 3:
                        self.first.set()
        except (OSError, http.client.HTTPException, ValueError, AssertionError):
            self.broke = True
        self.ended = time.monotonic()
        self.first.set()


def limits():
    """As many tokens as the context has room for, so that the stream is still running when the fault comes."""
    return {**LONG, "max_tokens": 8000}


def one_pid(name):
    ids = stack.pids()[name]
    assert ids, (name, stack.info)
    return ids[0]


def healthy():
    return stack.call("POST", "/v1/completions", {"model": stack.info["model"], "prompt": "Hi", "max_tokens": 1})[0] == 200


def refresh():
    """demo.json is written anew when a unit was restarted."""
    stack.info = json.loads((stack.dir / "state" / "demo.json").read_text())


def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])


PROCESSES = {"airlock-keyd": 1, "airlock-proxy": 2, "airlock-engine": 1, "airlock-tunnel": 1, "airlock-attester": 3, "airlock connect": 1}


def whole():
    """Every unit is up: both proxies would serve and demo.json names living processes, all of them."""
    refresh()
    return ({name: len(ids) for name, ids in stack.pids().items()} == PROCESSES and all(stack.call("GET", "/health", url=u)[0] == 200 for u in stack.info["proxy_urls"]) and healthy()
            and all(os.path.exists(f"/proc/{pid}") for ids in stack.pids().values() for pid in ids))


def fault(name, sig, url=None, ends=True, below=None):
    wait_until(whole, 60, "the whole to be up")
    reader = Reader(url)
    reader.start()
    assert reader.first.wait(30) and reader.ended is None, f"the stream did not start: {vars(reader)}"
    pid = next(p for p in stack.pids()[name] if below is None or parent(p) == one_pid(below))
    at = time.monotonic()
    os.kill(pid, sig)
    try:
        if ends:
            reader.join(ERROR_WITHIN + 1)
            assert reader.ended is not None, "the client still waits"
            assert reader.error or not reader.done, f"a cut answer looked whole: {reader.tokens} tokens and [DONE]"
            assert reader.ended - at <= ERROR_WITHIN, f"the error came after {reader.ended - at:.1f} s"
            assert url or reader.error, "the connection broke without an error event"
        else:
            time.sleep(2)
            assert reader.ended is None, f"a stream ended that does not need {name}"
    finally:
        if sig == signal.SIGSTOP:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
    wait_until(lambda: (refresh(), healthy())[1], 60, f"service after {name} got {sig.name}")


def kill_engine():
    fault("airlock-engine", signal.SIGKILL)


def freeze_engine():
    fault("airlock-engine", signal.SIGSTOP)


def kill_tunnel():
    fault("airlock-tunnel", signal.SIGKILL)


def freeze_tunnel():
    fault("airlock-tunnel", signal.SIGSTOP)


def kill_the_attester_of_the_engine():
    fault("airlock-attester", signal.SIGKILL, below="airlock-engine")


def freeze_the_attester_stops_no_stream():
    fault("airlock-attester", signal.SIGSTOP, below="airlock-engine", ends=False)


def kill_the_proxy_in_use():
    url = stack.info["proxy_urls"][0]
    fault("airlock-proxy", signal.SIGKILL, url=url)


def freeze_the_proxy_in_use():
    """connect must notice by itself: no end of the connection tells it."""
    reader = Reader()
    wait_until(whole, 60, "the whole to be up")
    reader.start()
    assert reader.first.wait(30) and reader.ended is None
    at = time.monotonic()
    pids = stack.pids()["airlock-proxy"]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        reader.join(ERROR_WITHIN + 1)
        assert reader.ended is not None and reader.error and reader.ended - at <= ERROR_WITHIN, vars(reader)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def the_other_proxy_keeps_serving():
    wait_until(whole, 60, "the whole to be up")
    pid = one_pid("airlock-proxy")
    os.kill(pid, signal.SIGKILL)
    status, _, data = stack.call("POST", "/v1/completions", {"model": stack.info["model"], "prompt": "Hi", "max_tokens": 1},
                                 url=stack.info["proxy_urls"][1])
    assert status == 200, (status, data)
    wait_until(lambda: (refresh(), stack.call("GET", "/health", url=stack.info["proxy_urls"][0])[0] == 200)[1], 60,
               "the first proxy to come back")


def keyd_away_stops_no_stream():
    fault("airlock-keyd", signal.SIGSTOP, ends=False)
    fault("airlock-keyd", signal.SIGKILL, ends=False)


def a_client_that_leaves_frees_the_engine():
    refresh()
    for chunk in stack.stream("/v1/completions", {"model": stack.info["model"], "prompt": "Once", **limits()}):
        break  # the connection is closed after the first event
    url = stack.info["proxy_urls"]

    def idle():
        total = 0
        for u in url:
            for line in stack.call("GET", "/metrics", url=u)[2].decode().splitlines():
                if line.startswith("vllm:num_requests_running"):
                    total += float(line.rsplit(" ", 1)[1])
        return total == 0

    wait_until(idle, 5, "the engine to stop the abandoned request")


def main():
    global stack
    try:
        model = demo_model()  # the tiny one's context is full before a fault can come
    except Skip as why:
        print(f"SKIP faults: {why}\nfaults: 0 passed, 0 failed, 1 skipped")
        sys.exit(77)
    with Stack(model) as stack:
        run([a_client_that_leaves_frees_the_engine, kill_engine, freeze_engine, kill_tunnel, freeze_tunnel, kill_the_attester_of_the_engine,
             freeze_the_attester_stops_no_stream, kill_the_proxy_in_use, freeze_the_proxy_in_use,
             the_other_proxy_keeps_serving, keyd_away_stops_no_stream])


main()
