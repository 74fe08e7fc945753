"""test_gemma.py - the second real model, a base model without a chat template, through every process: its greedy text is
the reference's (vectors/logits/real) for as long as the reference's choice is clear."""

import json
import sys

from stack import SHARED, Skip, Stack, gemma_model, run

CLEAR = 1.0  # margin of the best logit over the second below which arithmetic on int8 activations may choose otherwise

stack = None


def reference():
    path = SHARED / "vectors" / "logits" / "real" / "gemma3-270m-q4_k_m.json"
    if not path.exists():
        raise Skip(f"{path} is not there (AIRLOCK_SHARED)")
    return json.loads(path.read_text())["prompts"]


def complete(prompt, tokens):
    status, _, data = stack.call("POST", "/v1/completions", {"model": stack.info["model"], "prompt": prompt, "temperature": 0,
                                                             "max_tokens": tokens, "ignore_eos": True})
    assert status == 200, (status, data[:500])
    return json.loads(data)


def greedy_text_is_the_reference():
    compared = 0
    for prompt in reference():
        margins = prompt["greedy"]["margin"]
        clear = next((i for i, margin in enumerate(margins) if margin < CLEAR), len(margins))
        if clear == 0:
            continue
        answer = complete(prompt["text"], clear)
        text = answer["choices"][0]["text"]
        assert answer["usage"]["prompt_tokens"] == len(prompt["ids"]), (prompt["name"], answer["usage"])
        assert text and prompt["greedy"]["text"].startswith(text), (prompt["name"], text, prompt["greedy"]["text"])
        compared += clear
    assert compared >= 14, compared


def a_chat_is_refused_with_the_reason():
    status, _, data = stack.call("POST", "/v1/chat/completions", stack.chat_body("Hello"))
    assert status == 400 and json.loads(data)["error"]["param"] == "messages", (status, data[:500])


def the_terms_are_shown():
    assert "Gemma Terms of Use" in stack.text()


def main():
    global stack
    try:
        gemma_model()
    except Skip as why:
        print(f"SKIP gemma: {why}\ngemma: 0 passed, 0 failed, 1 skipped")
        sys.exit(77)
    with Stack("gemma") as stack:
        run([greedy_text_is_the_reference, a_chat_is_refused_with_the_reason, the_terms_are_shown])


main()
