"""test_sealed.py - sealed mode from end to end: `airlock connect --sealed` encrypts to an engine that proved its own key."""

import json
import os
import signal

from stack import Stack, error_of, run, tiny_model, wait_until

stack = None
url = None


def completion(**fields):
    return {"model": stack.info["model"], "prompt": "Once upon a time", "temperature": 0, **fields}


def versions_are_remembered_unasked():
    seen = list((stack.dir / "home" / "airlock").glob("connect-*/seen"))
    assert len(seen) == 1 and seen[0].read_text().startswith("airlock-seen 1 policy "), seen


def sealed_and_plain_say_the_same():
    body = completion(max_tokens=16)
    plain = json.loads(stack.call("POST", "/v1/completions", body)[2])
    status, headers, data = stack.call("POST", "/v1/completions", body, url=url)
    assert status == 200 and headers["content-type"] == "application/json", (status, headers)
    sealed = json.loads(data)
    assert sealed["choices"] == plain["choices"] and sealed["usage"] == plain["usage"], (sealed, plain)
    assert sealed["id"] != plain["id"]


def a_sealed_stream_is_whole():
    body = completion(max_tokens=16)
    whole = json.loads(stack.call("POST", "/v1/completions", body, url=url)[2])
    parts = list(stack.stream("/v1/completions", body, url=url))
    assert parts[-1] == "[DONE]", parts
    chunks = [json.loads(p) for p in parts[:-1]]
    text = "".join(c["choices"][0]["text"] for c in chunks)
    assert text == whole["choices"][0]["text"], (text, whole)


def refusals_come_from_inside():
    for body, status, param in [(completion(temperature=9), 400, "temperature"),
                                ({"model": stack.info["model"]}, 400, "prompt")]:
        got, _, data = stack.call("POST", "/v1/completions", body, url=url)
        assert got == status and error_of(data)["param"] == param, (got, data)
    got, _, data = stack.call("POST", "/v1/completions", completion(model="other"), url=url)
    assert got == 404 and error_of(data)["code"] == "model_not_found", (got, data)
    assert stack.call("POST", "/v1/completions", completion(), url=url, key="sk-wrong")[0] == 401


def a_new_engine_is_challenged_anew():
    os.kill(stack.pids()["airlock-engine"][0], signal.SIGKILL)
    body = completion(max_tokens=4)
    wait_until(lambda: stack.call("POST", "/v1/completions", body, url=url)[0] == 200, 60, "a sealed answer again")


def the_verdict_is_the_engines():
    report = json.loads(stack.call("GET", "/.well-known/airlock/verdict", url=url)[2])
    assert report["verdict"]["ok"] and report["node"]["statement"]["role"] == "engine", report


if __name__ == "__main__":
    with Stack(tiny_model()) as stack:
        door, url = stack.sealed_door()
        try:
            run([versions_are_remembered_unasked, sealed_and_plain_say_the_same, a_sealed_stream_is_whole, refusals_come_from_inside,
                 the_verdict_is_the_engines, a_new_engine_is_challenged_anew])
        finally:
            door.terminate()
            door.wait(10)
