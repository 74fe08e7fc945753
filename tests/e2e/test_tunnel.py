"""test_tunnel.py - the way between proxy and engine, from outside: nobody's SIGTERM cuts a stream, a large prompt passes,
names are looked up behind the sandbox, and a sealed answer is the plain one that the proxy could not read."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

from stack import BIN, Skip, Stack, demo_model, error_of, run, wait_until

stack = None


def whole():
    """Both proxies are up and have an engine."""
    stack.info = json.loads((stack.dir / "state" / "demo.json").read_text())
    return all(stack.call("GET", "/health", url=u)[0] == 200 for u in stack.info["proxy_urls"])


def sigterm(program):
    """A stream that runs when `program` is told to end reaches its own end; the unit comes back."""
    wait_until(whole, 60, "the whole to be up")
    parts, begun = [], threading.Event()

    def read():
        for part in stack.stream("/v1/completions", {"model": stack.info["model"], "prompt": "Once", "max_tokens": 300,
                                                     "ignore_eos": True, "temperature": 1}):
            parts.append(part)
            if len(parts) == 3:
                begun.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert begun.wait(30), "the stream did not start"
    for pid in stack.pids()[program]:
        os.kill(pid, signal.SIGTERM)
    reader.join(60)
    assert parts and parts[-1] == "[DONE]", parts[-1:]
    assert not any('"error"' in p for p in parts), parts[-2:]
    time.sleep(1)  # let it go before asking whether it is back
    wait_until(whole, 60, f"service after {program} got SIGTERM")


def sigterm_to_the_engine_cuts_no_stream():
    sigterm("airlock-engine")


def sigterm_to_the_tunnel_cuts_no_stream():
    sigterm("airlock-tunnel")


def sigterm_to_the_proxies_cuts_no_stream():
    sigterm("airlock-proxy")


def a_body_of_many_windows_passes():
    """3 MB go to the engine, which alone can count tokens and says that they are too many."""
    wait_until(whole, 60, "the whole to be up")
    status, _, data = stack.call("POST", "/v1/completions", {"model": stack.info["model"], "prompt": "word " * 600000})
    assert status == 400 and error_of(data)["code"] == "context_length_exceeded", (status, data[:300])


def names_are_looked_up():
    """Engine and proxies are started again with names instead of addresses."""
    wait_until(whole, 60, "the whole to be up")
    for conf in (stack.dir / "state" / "run").glob("*.conf"):
        if conf.stem == "keyd":
            continue
        text = conf.read_text()
        named = re.sub(r"(?m)^((?:proxies|keyd) = .*)$", lambda m: m[1].replace("127.0.0.1", "localhost"), text)
        assert named != text, conf
        conf.write_text(named)
    for program in ["airlock-proxy", "airlock-engine"]:
        os.kill(stack.pids()[program][0], signal.SIGKILL)
    time.sleep(1)
    wait_until(whole, 60, "the service with names")
    assert stack.chat("Hi", max_tokens=1)["choices"]


def a_sealed_answer_is_the_plain_one():
    wait_until(whole, 60, "the whole to be up")
    state = stack.dir / "state"
    log = open(stack.dir / "sealed.log", "w+b")
    sealed = subprocess.Popen([str(BIN / "airlock"), "connect", "--sealed", "--listen", "127.0.0.1:0", "--acceptance",
                               str(state / "texts" / "acceptance.conf"), "--state", str(state / "sealed-connect"),
                               *stack.info["proxy_urls"]], stdout=log, stderr=log)
    try:
        found = []

        def listens():
            found[:] = re.findall(r"http://127\.0\.0\.1:\d+", (stack.dir / "sealed.log").read_text())
            return bool(found)

        wait_until(listens, 20, "the sealed connect")
        body = stack.chat_body("What is 2+2?", max_tokens=20, temperature=0)
        answers = []
        for url in [found[0], stack.info["connect_url"]]:
            status, _, data = stack.call("POST", "/v1/chat/completions", body, url=url)
            assert status == 200, (url, status, data[:300])
            answers.append(json.loads(data)["choices"][0]["message"]["content"])
        assert answers[0] == answers[1], answers
    finally:
        sealed.terminate()
        sealed.wait(10)
        log.close()


def main():
    global stack
    try:
        model = demo_model()  # the tiny one ends a stream before a signal can come
    except Skip as why:
        print(f"SKIP tunnel: {why}\ntunnel: 0 passed, 0 failed, 1 skipped")
        sys.exit(77)
    with Stack(model) as stack:
        run([a_body_of_many_windows_passes, a_sealed_answer_is_the_plain_one, sigterm_to_the_engine_cuts_no_stream,
             sigterm_to_the_tunnel_cuts_no_stream, sigterm_to_the_proxies_cuts_no_stream, names_are_looked_up])


main()
