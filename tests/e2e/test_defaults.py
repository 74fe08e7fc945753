"""test_defaults.py - a model's own sampling: what a request leaves out comes from --generation-config and its override,
what it gives is its own, through plain and sealed doors."""

import json
import os
import pathlib
import tempfile

from stack import Stack, error_of, run, tiny_model

stack = None
sealed = None


def complete(want=200, url=None, **fields):
    body = {"model": stack.info["model"], "prompt": "Once upon a time", **fields}
    status, _, data = stack.call("POST", "/v1/completions", body, url=url)
    assert status == want, (fields, status, data)
    return json.loads(data)["choices"][0]["text"] if want == 200 else error_of(data)


def what_is_left_out_is_the_models():
    greedy = complete(temperature=0, max_tokens=16)
    for url in [None, stack.info["proxy_urls"][0], sealed]:
        for seed in [1, 2]:  # top_k 1: nothing is left to chance
            assert complete(url=url, max_tokens=16, seed=seed) == greedy, url
            assert complete(url=url, max_tokens=16, seed=seed, top_k=None, temperature=2) == greedy, url


def what_is_given_is_the_requests():
    greedy = complete(temperature=0, max_tokens=16)
    for url in [None, sealed]:
        texts = {complete(url=url, max_tokens=16, seed=seed, temperature=2, top_k=0) for seed in [1, 2, 3]}
        assert len(texts) > 1 and texts != {greedy}, texts
        assert complete(url=url, max_tokens=16, seed=1, temperature=0, top_k=0) == greedy  # greedy stays greedy


def a_longer_answer_than_the_model_allows_is_refused_by_name():
    for url in [None, sealed]:
        complete(url=url, max_tokens=64, ignore_eos=True)
        error = complete(want=400, url=url, max_tokens=65)
        assert error["param"] == "max_tokens" and "64" in error["message"], error


def the_engine_says_what_is_in_force():
    assert b" sampling=top_k:1,max_new_tokens:64 " in stack.logs()


def main():
    global stack, sealed
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "generation_config.json").write_text('{"do_sample": true, "top_k": 40, "max_new_tokens": 64}')
        os.environ["AIRLOCK_ENGINE_GENERATION_CONFIG"] = folder
        os.environ["AIRLOCK_ENGINE_OVERRIDE_GENERATION_CONFIG"] = '{"top_k": 1}'
        with Stack(tiny_model()) as stack:
            door, sealed = stack.sealed_door()
            try:
                run([what_is_left_out_is_the_models, what_is_given_is_the_requests,
                     a_longer_answer_than_the_model_allows_is_refused_by_name, the_engine_says_what_is_in_force])
            finally:
                door.terminate()
                door.wait(10)


main()
