"""test_api.py - the OpenAI API as clients use it: through `airlock connect` (verified) and at the proxy itself."""

import json
import os
import pathlib
import signal
import subprocess
import sys

from stack import BIN, SHARED, Skip, Stack, demo_model, error_of, run, tiny_model, wait_until

stack = None


def smol_answers_in_english():
    answer = stack.chat("What is the capital of France? Answer in one sentence.", temperature=0, max_tokens=24)
    assert "Paris" in answer["choices"][0]["message"]["content"], answer
    assert answer["usage"]["completion_tokens"] <= 24
    assert answer["usage"]["prompt_tokens"] > 5


def a_stream_and_a_body_say_the_same():
    body = stack.chat_body("Count from one to five.", temperature=0, max_tokens=32)
    whole = json.loads(stack.call("POST", "/v1/chat/completions", body)[2])
    parts = list(stack.stream("/v1/chat/completions", {**body, "stream_options": {"include_usage": True}}))
    assert parts[-1] == "[DONE]", parts[-1]
    chunks = [json.loads(p) for p in parts[:-1]]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == whole["choices"][0]["message"]["content"], (text, whole)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == whole["usage"], chunks[-1]
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


def models_health_and_version():
    for url in [None, *stack.info["proxy_urls"]]:
        status, _, data = stack.call("GET", "/v1/models", url=url)
        assert status == 200, (url, status, data)
        models = json.loads(data)["data"]
        assert [m["id"] for m in models] == [stack.info["model"]] and models[0]["max_model_len"] > 0, models
    url = stack.info["proxy_urls"][0]
    assert stack.call("GET", "/v1/models/" + stack.info["model"], url=url)[0] == 200
    assert stack.call("GET", "/health", url=url, headers={"Authorization": None})[0] == 200
    assert json.loads(stack.call("GET", "/version", url=url)[2])["version"]
    metrics = stack.call("GET", "/metrics", url=url)[2].decode()
    for name in ["vllm:num_requests_running", "vllm:generation_tokens_total", "vllm:spec_decode_num_accepted_tokens_total", "vllm:time_to_first_token_seconds_bucket",
                 "vllm:request_max_num_generation_tokens_sum", "airlock:engine_info{"]:
        assert name in metrics, name


BAD = [
    ({"messages": []}, "messages", 400),
    ({"temperature": 3}, "temperature", 400),
    ({"max_tokens": 0}, "max_tokens", 400),
    ({"top_p": "x"}, "top_p", 400),
    ({"n": 1000}, "n", 400),
    ({"logit_bias": {"x": 1}}, "logit_bias", 400),
    ({"logit_bias": {"99999999": 1}}, "logit_bias", 400),
    ({"suffix": "x"}, "suffix", 400),
    ({"bad_words": [""]}, "bad_words", 400),
    ({"allowed_token_ids": []}, "allowed_token_ids", 400),
    ({"allowed_token_ids": [99999999]}, "allowed_token_ids", 400),
    ({"truncate_prompt_tokens": 99999999}, "truncate_prompt_tokens", 400),
    ({"stop_token_ids": [99999999]}, "stop_token_ids", 400),
    ({"min_tokens": 9, "max_tokens": 8}, "min_tokens", 400),
    ({"logit_bias": {"1": 101}}, "logit_bias", 400),
    ({"structured_outputs": {"structural_tag": "x"}}, "structural_tag", 400),
    ({"guided_regex": "(a"}, "guided_regex", 400),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "tools", 400),
    ({"metadata": "x"}, "metadata", 400),
    ({"max_tokens": 1000000}, None, 400),
    ({"model": "gpt-9"}, None, 404),
]


def bad_input_is_a_4xx_that_names_the_field():
    for url in [None, stack.info["proxy_urls"][0]]:
        for change, param, want in BAD:
            for stream in [False, True]:
                body = {**stack.chat_body("hi"), **change, "stream": stream}
                status, headers, data = stack.call("POST", "/v1/chat/completions", body, url=url)
                assert status == want, (change, status, data)
                assert headers["content-type"].startswith("application/json"), headers
                error = error_of(data)
                assert param is None or error["param"] == param, (change, error)
                assert error["message"], error
        status, _, data = stack.call("POST", "/v1/chat/completions", b"{", url=url)
        assert status == 400 and error_of(data)["code"] == "invalid_json", (status, data)
        assert stack.call("GET", "/v1/nothing", url=url)[0] == 404
        assert stack.call("GET", "/v1/chat/completions", url=url)[0] == 405


def a_wrong_or_missing_key_is_a_401():
    for url in [None, stack.info["proxy_urls"][0]]:
        for authorization in [None, "Bearer wrong", "Basic x", "Bearer "]:
            status, headers, data = stack.call("POST", "/v1/chat/completions", stack.chat_body("hi"), url=url,
                                               headers={"Authorization": authorization})
            assert status == 401 and error_of(data)["code"] == "invalid_api_key", (authorization, status, data)
            assert "www-authenticate" in headers


def completions_take_text_and_ids():
    body = {"model": stack.info["model"], "prompt": ["Once upon a time", "The sky is"], "max_tokens": 8, "temperature": 0}
    status, _, data = stack.call("POST", "/v1/completions", body)
    assert status == 200, data
    answer = json.loads(data)
    assert answer["object"] == "text_completion" and [c["index"] for c in answer["choices"]] == [0, 1], answer
    again = json.loads(stack.call("POST", "/v1/completions", body)[2])
    assert [c["text"] for c in again["choices"]] == [c["text"] for c in answer["choices"]]
    parts = list(stack.stream("/v1/completions", {**body, "prompt": "Once upon a time"}))
    text = "".join(json.loads(p)["choices"][0]["text"] for p in parts[:-1])
    assert parts[-1] == "[DONE]" and text == answer["choices"][0]["text"], (parts, answer)


def seeds_stops_and_logprobs():
    one = stack.chat("Tell me a story.", seed=7, temperature=1.5, max_tokens=24)
    two = stack.chat("Tell me a story.", seed=7, temperature=1.5, max_tokens=24)
    assert one["choices"][0]["message"] == two["choices"][0]["message"]
    answer = stack.chat("Count: one two three four five", temperature=0, max_tokens=20, logprobs=True, top_logprobs=3)
    entries = answer["choices"][0]["logprobs"]["content"]
    assert len(entries) == answer["usage"]["completion_tokens"] or len(entries) + 1 == answer["usage"]["completion_tokens"]
    for e in entries:
        tops = [t["logprob"] for t in e["top_logprobs"]]
        assert len(tops) == 3 and tops == sorted(tops, reverse=True) and e["logprob"] <= tops[0] + 1e-6, e
    text = answer["choices"][0]["message"]["content"]
    stop = text[3:6]
    cut = stack.chat("Count: one two three four five", temperature=0, max_tokens=20, stop=stop)["choices"][0]
    assert stop not in cut["message"]["content"] and cut["finish_reason"] == "stop" and text.startswith(cut["message"]["content"]), cut


def vllm_names_are_served():
    ask = dict(temperature=0, max_tokens=12)
    plain = stack.chat("Say hello.", **ask, return_token_ids=True)
    ids, text = plain["choices"][0]["token_ids"], plain["choices"][0]["message"]["content"]
    assert len(plain["prompt_token_ids"]) == plain["usage"]["prompt_tokens"], plain
    assert len(ids) == plain["usage"]["completion_tokens"], plain
    status, _, data = stack.call("POST", "/tokenize", {"messages": [{"role": "user", "content": "Say hello."}],
                                                       "return_token_strs": True})
    tokens = json.loads(data)
    assert status == 200 and tokens["tokens"] == plain["prompt_token_ids"], (tokens, plain)
    assert tokens["max_model_len"] > 0 and len(tokens["token_strs"]) == tokens["count"], tokens
    allowed = stack.chat("Say hello.", **ask, allowed_token_ids=ids[:2], return_token_ids=True, ignore_eos=True)
    assert set(allowed["choices"][0]["token_ids"]) <= set(ids[:2]), allowed
    word = next(w for w in text.split() if w.isalpha())
    assert word not in stack.chat("Say hello.", **ask, bad_words=[word])["choices"][0]["message"]["content"].split()
    cut = stack.chat("Say hello.", **ask, truncate_prompt_tokens=4)
    assert cut["usage"]["prompt_tokens"] == 4, cut
    stopped = stack.chat("Say hello.", **ask, stop_token_ids=[ids[2]], return_token_ids=True)["choices"][0]
    assert stopped["token_ids"] == ids[:ids.index(ids[2]) + 1] and stopped["finish_reason"] == "stop", stopped
    long = stack.chat("Say hello.", **ask, stop_token_ids=[ids[2]], min_tokens=6)
    assert long["usage"]["completion_tokens"] >= 6, long
    stop = text[3:6]
    kept = stack.chat("Say hello.", **ask, stop=stop, include_stop_str_in_output=True)["choices"][0]["message"]["content"]
    assert kept.endswith(stop) and text.startswith(kept), (kept, text)
    told = stack.chat("Say hello.", **ask, prompt_logprobs=1, request_id="mine-1", logprobs=True,
                      return_tokens_as_token_ids=True)
    assert told["id"] == "chatcmpl-mine-1" and told["prompt_logprobs"][0] is None, told
    assert len(told["prompt_logprobs"]) == told["usage"]["prompt_tokens"], told
    assert told["choices"][0]["logprobs"]["content"][0]["token"] == f"token_id:{ids[0]}", told
    body = {"model": stack.info["model"], "temperature": 0, "max_tokens": 8, "continue_final_message": True, "echo": True,
            "add_generation_prompt": False, "cache_salt": "x", "priority": 1, "chat_template_kwargs": {"a": 1},
            "messages": [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One, two,"}]}
    status, _, data = stack.call("POST", "/v1/chat/completions", body)
    assert status == 200 and json.loads(data)["choices"][0]["message"]["content"].startswith("One, two,"), data
    for form, check in [({"regex": "[0-9]{3}"}, lambda t: t.isdigit() and len(t) == 3),
                        ({"choice": ["yes", "no"]}, lambda t: t in ("yes", "no")),
                        ({"grammar": 'root ::= "a" "b"'}, lambda t: t == "ab"),
                        ({"json": {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}},
                         lambda t: isinstance(json.loads(t)["n"], bool))]:
        got = stack.chat("Go.", temperature=0, max_tokens=60, structured_outputs=form)["choices"][0]
        assert check(got["message"]["content"]), (form, got)
    status, _, data = stack.call("POST", "/v1/completions", {"model": stack.info["model"], "prompt": "The sky is", "echo": True,
                                                             "max_tokens": 4, "logprobs": 1, "temperature": 0})
    choice = json.loads(data)["choices"][0]
    assert choice["text"].startswith("The sky is") and choice["logprobs"]["token_logprobs"][0] is None, choice


def connect_guards_its_local_port():
    assert stack.call("GET", "/v1/models", headers={"Host": "evil.example"})[0] == 403
    status, headers, _ = stack.call("GET", "/v1/models", headers={"Origin": "https://evil.example"})
    assert status == 403 and "access-control-allow-origin" not in headers, (status, headers)


def the_openai_package_works():
    venv = pathlib.Path(stack.dir).parent / "airlock-openai-venv"
    python = venv / "bin" / "python"
    if not python.exists() or subprocess.run([python, "-c", "import openai"], capture_output=True).returncode != 0:
        made = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True)
        made = made.returncode == 0 and subprocess.run([python, "-m", "pip", "install", "-q", "openai"], capture_output=True).returncode == 0
        if not made:
            raise Skip("the openai package cannot be installed here")
    script = """
import json, sys, openai
info = json.load(open(sys.argv[1]))
c = openai.OpenAI(base_url=info["connect_url"] + "/v1", api_key=info["api_key"])
assert [m.id for m in c.models.list()] == [info["model"]]
q = dict(model=info["model"], messages=[{"role": "user", "content": "Say hello."}], temperature=0, max_tokens=16)
whole = c.chat.completions.create(**q)
text = "".join(x.choices[0].delta.content or "" for x in c.chat.completions.create(**q, stream=True) if x.choices)
assert text == whole.choices[0].message.content, (text, whole)
try:
    c.chat.completions.create(**{**q, "temperature": 9})
    raise SystemExit("temperature 9 was accepted")
except openai.BadRequestError as e:
    assert e.param == "temperature", e
try:
    openai.OpenAI(base_url=info["connect_url"] + "/v1", api_key="wrong", max_retries=0).models.list()
    raise SystemExit("a wrong key was accepted")
except openai.AuthenticationError:
    pass
"""
    done = subprocess.run([python, "-c", script, str(stack.dir / "state" / "demo.json")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout


def proxies_now():
    stack.info = json.loads((stack.dir / "state" / "demo.json").read_text())
    return stack.pids().get("airlock-proxy", [])  # none for a moment where all start anew


def healthy():
    return all(stack.call("GET", "/health", url=u)[0] == 200 for u in stack.info["proxy_urls"])


def signal_proxies(number):
    for pid in proxies_now():
        os.kill(pid, number)


def a_tenant_added_while_it_serves_gets_in():
    texts, desk = stack.dir / "state" / "texts", [BIN / "airlock", "policy"]
    for folder in (stack.dir, texts.parent, texts):  # a proxy that root started is nobody when it reads them again
        folder.chmod(0o755)
    before = stack.pids()["airlock-proxy"]
    signal_proxies(signal.SIGTERM)
    back = lambda now: len(now) == len(before) and not set(before) & set(now)
    wait_until(lambda: back(proxies_now()) and healthy(), 30, "the proxies to be back")
    done = subprocess.run([*desk, "tenant", "add", texts / "tenants.conf", "--name", "late"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = lambda: {stack.call("GET", "/v1/models", url=u, key=done.stdout.strip())[0] for u in stack.info["proxy_urls"]}
    assert answers() == {401}
    signed = subprocess.run([*desk, "sign", texts / "tenants.conf", "--type", "tenants", "--key", texts.parent / "keys" / "operator.key"],
                            capture_output=True, text=True)
    assert signed.returncode == 0, signed.stderr
    signal_proxies(signal.SIGHUP)
    wait_until(lambda: answers() == {200}, 10, "the new tenant to be let in: " + stack.text()[-500:])


def main():
    global stack
    tests = [smol_answers_in_english, a_stream_and_a_body_say_the_same, models_health_and_version,
             bad_input_is_a_4xx_that_names_the_field, a_wrong_or_missing_key_is_a_401, completions_take_text_and_ids,
             seeds_stops_and_logprobs, vllm_names_are_served, a_tenant_added_while_it_serves_gets_in, connect_guards_its_local_port, the_openai_package_works]
    try:
        model = demo_model()
    except Skip as why:
        print(f"SKIP smol_answers_in_english: {why}")
        model = tiny_model()
        tests = tests[1:]
    with Stack(model) as stack:
        run(tests)


main()
