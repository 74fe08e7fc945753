"""test_embeddings.py - an engine that serves vectors, from `airlock connect` to the model and back."""

import base64
import json
import math
import os
import pathlib
import struct
import subprocess
import tempfile

from stack import BIN, Stack, error_of, run, tiny_model

stack = None


def embed(body, want=200, url=None):
    status, _, data = stack.call("POST", "/v1/embeddings", {"model": stack.info["model"], **body}, url=url)
    assert status == want, (body, status, data)
    return json.loads(data)


def vectors_have_length_one_and_tell_texts_apart():
    for url in [None, stack.info["proxy_urls"][0]]:
        answer = embed({"input": ["The nodes hum softly", "The nodes hum gently", "As I listen"]}, url=url)
        assert answer["object"] == "list" and [d["index"] for d in answer["data"]] == [0, 1, 2], answer
        assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0, answer
        vectors = [d["embedding"] for d in answer["data"]]
        for v in vectors:
            assert abs(math.sqrt(sum(x * x for x in v)) - 1) < 1e-5 and len(v) == len(vectors[0])
        assert vectors[0] != vectors[2]
        assert embed({"input": "The nodes hum softly"}, url=url)["data"][0]["embedding"] == vectors[0]


def numbers_base64_and_ids_say_the_same():
    numbers = embed({"input": "The nodes hum"})["data"][0]["embedding"]
    packed = base64.b64decode(embed({"input": "The nodes hum", "encoding_format": "base64"})["data"][0]["embedding"])
    assert list(struct.unpack(f"<{len(packed) // 4}f", packed)) == numbers
    tokens = json.loads(stack.call("POST", "/tokenize", {"model": stack.info["model"], "prompt": "The nodes hum"})[2])["tokens"]
    assert embed({"input": tokens})["data"][0]["embedding"] == numbers
    cut = embed({"input": [tokens], "truncate_prompt_tokens": 2})
    assert cut["usage"]["prompt_tokens"] == 2 and cut["data"][0]["embedding"] == embed({"input": tokens[-2:]})["data"][0]["embedding"]


def as_many_inputs_as_at_openai():
    words = ["The nodes hum", "As I listen"]
    want = [d["embedding"] for d in embed({"input": words})["data"]]
    answer = embed({"input": words * 1024})
    assert [d["index"] for d in answer["data"]] == list(range(2048)) and answer["usage"]["prompt_tokens"] > 2048, answer["usage"]
    assert all(d["embedding"] == want[d["index"] % 2] for d in answer["data"])
    error = embed({"input": ["x"] * 2049}, want=400)["error"]
    assert error["param"] == "input" and "2049" in error["message"] and "2048" in error["message"], error


def what_cannot_be_served_is_refused_by_name():
    for body, param in [({}, "input"), ({"input": ""}, "input"), ({"input": [1, 99999]}, "input"),
                        ({"input": "x", "dimensions": 8}, "dimensions"), ({"input": "x", "encoding_format": "hex"}, "encoding_format"),
                        ({"input": "x " * 100000}, "input")]:
        error = embed(body, want=400)["error"]
        assert error["param"] == param, (body, error)
    status, _, data = stack.call("POST", "/v1/completions", {"model": stack.info["model"], "prompt": "x"})
    assert status == 400 and error_of(data)["param"] == "model", (status, data)


def the_engines_log_is_a_chain_without_content():
    path = pathlib.Path(os.environ["AIRLOCK_ENGINE_LOG"])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines][:3] == ["start", "lease", "serving"], lines
    assert [line["i"] for line in lines] == list(range(1, len(lines) + 1)), lines
    assert "nodes hum" not in path.read_text()
    checked = subprocess.run([BIN / "airlock", "log", path], capture_output=True, text=True)
    assert checked.returncode == 0 and f"lines = {len(lines)}" in checked.stdout, checked
    broken = pathlib.Path(str(path) + ".broken")
    broken.write_text(path.read_text().replace('"start"', '"stare"'))
    assert subprocess.run([BIN / "airlock", "log", broken], capture_output=True).returncode != 0


def main():
    os.environ["AIRLOCK_ENGINE_RUNNER"] = "pooling"
    os.environ["AIRLOCK_ENGINE_POOLER_CONFIG"] = '{"pooling_type": "MEAN"}'
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIRLOCK_ENGINE_LOG"] = folder + "/engine.log"
        serve()


def serve():
    global stack
    with Stack(tiny_model()) as stack:
        run([vectors_have_length_one_and_tell_texts_apart, numbers_base64_and_ids_say_the_same, as_many_inputs_as_at_openai,
             what_cannot_be_served_is_refused_by_name, the_engines_log_is_a_chain_without_content])


main()
