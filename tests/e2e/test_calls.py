"""test_calls.py - forced tool calls in a model's own form (Qwen3-Coder's): whole, streamed, as Responses; refused where a
strict tool's schema cannot be kept; earlier calls go back into the prompt."""

import json
import os
import pathlib
import tempfile

from stack import Stack, error_of, run, tiny_model

# The small model has no template of its own; this one shows the markers of the form.
TEMPLATE = """{%- for m in messages %}{{ m.content or '' }}{% for call in m.tool_calls or [] %}<tool_call>
<function={{ call.function.name }}>
{% for key, value in call.function.arguments|items %}<parameter={{ key }}>
{{ value }}
</parameter>
{% endfor %}</function>
</tool_call>{% endfor %}{% endfor %}"""

PARAMETERS = {"type": "object", "properties": {"c": {"enum": ["é\"", "x"]}, "n": {"type": "integer", "minimum": 10, "maximum": 42}},
              "required": ["c", "n"]}
BODY = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 115, "seed": 7, "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": {"name": "w", "strict": True, "parameters": PARAMETERS}}],
        "tool_choice": {"type": "function", "function": {"name": "w"}}}

stack = None


def ask(want=200, path="/v1/chat/completions", **fields):
    status, _, data = stack.call("POST", path, {"model": stack.info["model"], **BODY, **fields})
    assert status == want, (fields, status, data)
    return data


def fits(arguments):
    got = json.loads(arguments)
    assert set(got) == {"c", "n"} and got["c"] in PARAMETERS["properties"]["c"]["enum"] and 10 <= got["n"] <= 42, arguments
    return arguments


def whole_call(**fields):
    choice = json.loads(ask(**fields))["choices"][0]
    call, = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None, choice
    assert call["type"] == "function" and call["id"] and call["function"]["name"] == "w", call
    return fits(call["function"]["arguments"])


def a_call_is_told_whole():
    whole_call()
    whole_call(tool_choice="required", seed=8)


def a_streamed_call_is_the_same():
    events = [line[6:] for line in ask(stream=True).decode().split("\n\n") if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    choices = [json.loads(e)["choices"][0] for e in events]
    calls = [call for c in choices for call in c["delta"].get("tool_calls", [])]
    assert choices[-1]["finish_reason"] == "tool_calls" and not any(c["delta"].get("content") for c in choices), choices
    assert all(c["index"] == 0 and "function" in c for c in calls), calls
    assert calls[0]["id"] and calls[0]["function"]["name"] == "w" and not any("id" in c for c in calls[1:]), calls
    assert "".join(c["function"].get("arguments", "") for c in calls) == whole_call(), calls


def a_call_is_an_item_of_a_response():
    tool = {"type": "function", "name": "w", "strict": True, "parameters": PARAMETERS}
    data = json.loads(ask(path="/v1/responses", input="a", max_output_tokens=115, tools=[tool], tool_choice={"type": "function", "name": "w"},
                          messages=None, max_tokens=None, seed=None))
    item, = data["output"]
    assert item["type"] == "function_call" and item["name"] == "w" and item["call_id"], item
    fits(item["arguments"])


def what_cannot_be_kept_is_refused():
    schema = {"type": "object", "properties": {"s": {"type": "string", "pattern": "[a-z]"}}}
    tool = {"type": "function", "function": {"name": "w", "strict": True, "parameters": schema}}
    error = error_of(ask(want=400, tools=[tool]))
    assert error["param"] == "tools" and "not supported" in error["message"], error


def earlier_calls_go_back_into_the_prompt():
    call = {"id": "call_1", "type": "function", "function": {"name": "w", "arguments": '{"n": 12}'}}
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "b"}]
    asked = {"model": stack.info["model"], "messages": messages, "add_special_tokens": False}
    status, _, data = stack.call("POST", "/tokenize", asked)
    assert status == 200, data
    status, _, data = stack.call("POST", "/detokenize", {"model": stack.info["model"], "tokens": json.loads(data)["tokens"]})
    want = "a<tool_call>\n<function=w>\n<parameter=n>\n12\n</parameter>\n</function>\n</tool_call>b"
    assert status == 200 and json.loads(data)["prompt"].strip() == want, data


def main():
    global stack
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "template.jinja")
        path.write_text(TEMPLATE)
        os.environ["AIRLOCK_ENGINE_CHAT_TEMPLATE"] = str(path)
        with Stack(tiny_model()) as stack:
            run([a_call_is_told_whole, a_streamed_call_is_the_same, a_call_is_an_item_of_a_response, what_cannot_be_kept_is_refused,
                 earlier_calls_go_back_into_the_prompt])


main()
