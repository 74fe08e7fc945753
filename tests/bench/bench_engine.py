#!/usr/bin/env python3
"""bench_engine.py - rows of the engine bench; bench_engine.sh says what it needs in the environment.

One sample is one process of ours, then one of llama.cpp, on the same file with two threads; a figure is the median of
several. A sample during which others used more than a tenth of a processor does not count and is taken again: a busy
machine makes llama.cpp's two threads collapse, which would flatter us."""
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

import watch

TOP = os.environ["TOP"]
CACHE = os.environ["BENCH_CACHE"]
PEER = os.environ.get("BENCH_PEER", "")
QUICK = os.environ.get("BENCH_QUICK", "0") != "0"
ONLY = re.compile(os.environ.get("BENCH_ONLY", ""), re.IGNORECASE)
TOOLS = os.path.join(TOP, "build/demo/tests")
SAMPLES = 3 if QUICK else 5
TRIES = 2 if QUICK else 3  # for each sample
AMX = "amx_int8" in open("/proc/cpuinfo", encoding="ascii").read()


def row(case, ours="-", reference="-", ratio="-", goal="-", result="-"):
    print("engine", case, ours, reference, ratio, goal, result, sep="\t", flush=True)


def note(text):
    print("#", text, flush=True)


# --- samples -------------------------------------------------------------------------------------------------

def run(command):
    """Output of a command, and the share of one processor that others used meanwhile."""
    busy, begin, own = watch.busy_seconds(), time.monotonic(), os.times()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    after, seconds = os.times(), time.monotonic() - begin
    mine = sum(after[:4]) - sum(own[:4])
    foreign = (watch.busy_seconds() - busy - mine) / seconds
    return (done.stdout if done.returncode == 0 else ""), foreign


def ours(model, cases):
    """{case: (tokens a second, share of its limit)}; it watches others itself, case by case."""
    command = [os.path.join(TOOLS, "bench_engine"), "--model", model, "--threads", "2"]
    for case in cases:
        command += ["--case", case]
    text, _ = run(command)
    found = re.findall(r"^(\w+\d+) ([\d.]+) ([\d.]+)$", text, re.MULTILINE)
    return {name: (float(rate), float(share)) for name, rate, share in found}, text


def peer_single(model):
    text, foreign = run([f"{PEER}/bin/llama-bench", "-m", model, "-t", "2", "-p", "512", "-n", "64", "-r", "2", "-o", "jsonl"])
    out = {}
    for line in text.splitlines() if foreign < watch.FOREIGN_MAX else []:
        test = json.loads(line)
        out["prefill512" if test["n_prompt"] else "decode1"] = statistics.median(test["samples_ts"])
    return out


def peer_batch(model):
    text, foreign = run([f"{PEER}/bin/llama-batched-bench", "-m", model, "-t", "2", "-npp", "16", "-ntg", "32", "-npl", "32",
                         "-c", "4096"])
    for line in text.splitlines() if foreign < watch.FOREIGN_MAX else []:
        cells = [c.strip() for c in line.split("|")]
        if len(cells) > 8 and cells[1] == "16" and cells[3] == "32":
            return {"decode32": float(cells[8])}
    return {}


def wanted_times(sample, wanted):
    """Call sample() until every wanted key has SAMPLES values or the tries are used up."""
    values = {key: [] for key in wanted}
    for _ in range(SAMPLES * TRIES):
        for key, value in sample().items():
            if key in values and len(values[key]) < SAMPLES:
                values[key].append(value)
        if all(len(v) >= SAMPLES for v in values.values()):
            break
    return values


# --- goals ---------------------------------------------------------------------------------------------------

def goal_decode(ratio, share, _bf16):
    met = share >= 0.9 or (ratio >= 1.15 and (share >= 0.8 or ratio >= 1.5))
    return ">= 90 % of the floor, or >= 1.15 x and (>= 80 % or >= 1.5 x)", met


def goal_prefill(ratio, share, bf16):
    if AMX:
        least = 4 if bf16 else 3
        return f">= {least} x", ratio >= least
    part = 0.55 if bf16 else 0.45
    return f">= 1.3 x and >= {100 * part:.0f} % of the peak", ratio >= 1.3 and share >= part


def goal_batch(ratio, _share, _bf16):
    least = 3 if AMX else 1.5
    return f">= {least} x", ratio >= least


CASES = {
    "decode1": ("decode, 1 sequence", "memory floor", goal_decode),
    "prefill512": ("prefill 512", None, goal_prefill),
    "decode32": ("decode, 32 sequences", "memory floor", goal_batch),
}


def compare(label, model, bf16):
    cases = [c for c in CASES if ONLY.search(f"{label}, {CASES[c][0]}")]
    if not cases:
        return
    if not model or not os.path.exists(model):
        for case in cases:
            row(f"{label}, {CASES[case][0]}", result="skipped: the file is not here")
        return

    def sample():
        mine, text = ours(model, cases)
        if not mine and "busy" not in text:
            raise RuntimeError("bench_engine failed on " + model)
        theirs = peer_single(model) if "decode1" in cases or "prefill512" in cases else {}
        theirs.update(peer_batch(model) if "decode32" in cases else {})
        return {c: (*mine[c], theirs[c]) for c in cases if c in mine and c in theirs}

    try:
        values = wanted_times(sample, cases)
    except RuntimeError as why:
        for case in cases:
            row(f"{label}, {CASES[case][0]}", result=f"short: {why}")
        return
    for case in cases:
        name, limit, goal = CASES[case]
        if not values[case]:
            row(f"{label}, {name}", result="skipped: other processes used the processors in every sample")
            continue
        mine, share, theirs = (statistics.median(v) for v in zip(*values[case]))
        text, met = goal(mine / theirs, share, bf16)
        limit = limit or ("bf16 peak" if bf16 else "int8 peak")
        row(f"{label}, {name}", f"{mine:.1f} tok/s, {100 * share:.0f} % of the {limit} {mine / share:.0f}",
            f"{theirs:.1f} tok/s llama.cpp", f"{mine / theirs:.2f}", text, "met" if met else "short")


# --- files ---------------------------------------------------------------------------------------------------

FORMATS = (("BF16", "bf16"), ("Q8_0", "q8_0"), ("Q4_0", "q4_0"), ("Q4_K_M", "q4_k_m"))
SHAPES = (("Gemma-3-270M shape", "gemma-3-270m"), ("Llama-3.2-1B shape", "llama-3.2-1b"))


def files():
    """(label, path, bf16): real models first, then random weights in real shapes."""
    gemma = os.path.join(os.environ.get("AIRLOCK_MODELS", ""), "gemma-3-270m-q4_k_m.gguf")
    yield "SmolLM2-135M Q4_1", os.environ.get("BENCH_SMOL", ""), False
    yield "Gemma 3 270M Q4_K_M", gemma, False
    for shape, name in SHAPES:
        for form, suffix in FORMATS:
            label, path = f"{shape} {form}", os.path.join(CACHE, f"{name}-{suffix}-shape.gguf")
            if any(ONLY.search(f"{label}, {case[0]}") for case in CASES.values()) and not os.path.exists(path):
                note(f"making {os.path.basename(path)}")
                subprocess.run([sys.executable, os.path.join(TOP, "tests/bench/make_model.py"), CACHE, f"{name}-{suffix}"],
                               stdout=subprocess.DEVNULL, check=True)
            yield label, path, suffix == "bf16"


# --- tokenizers ----------------------------------------------------------------------------------------------

def tokenizers(listed):
    """(label, path): the real models, then vocabularies that come with the peer's source."""
    yield from ((label.rsplit(" ", 1)[0], path) for label, path, _ in listed[:2])
    vocabularies = os.path.join(CACHE, "llama_cpp_python-0.3.36/vendor/llama.cpp/models")
    for label, name in (("Llama 3", "llama-bpe"), ("Qwen 2", "qwen2")):
        yield label, os.path.join(vocabularies, f"ggml-vocab-{name}.gguf")


def tokenizer(label, path, texts):
    case = f"tokenizer, prose, {label}"
    if not ONLY.search(case):
        return
    if not path or not os.path.exists(path):
        row(case, result="skipped: the file is not here")
        return
    text, _ = run([os.path.join(TOOLS, "bench_tokenizer"), "--model", path, *texts])
    found = re.search(r"^tokenizer ([\d.]+) ([\d.]+)$", text, re.MULTILINE)
    if found:
        rate = float(found[1])
        row(case, f"{rate:.1f} MB/s on one thread, {found[2]} bytes a token", goal=">= 5 MB/s", result="met" if rate >= 5 else "short")
    else:
        row(case, goal=">= 5 MB/s", result="short: bench_tokenizer failed")


# --- the running engine --------------------------------------------------------------------------------------

LONG = os.environ.get("BENCH_LONG", "0") != "0"
SERVING = {  # of bench_serving, each in a process of its own: what its rows' labels say
    "arrivals": "512-token prompts arrive",
    "prefix": "75 % of the prompt shared",
    "overload": "twice as much as it can serve",
    "start": "ready, memory",
    "sampling": "choosing from the vocabulary",
    "admission": "requests of 32 K tokens",
}


def serving(label, model, cases):
    for case in cases:
        if not ONLY.search(f"{label}, {case}, {SERVING[case]}"):
            continue
        if not model or not os.path.exists(model):
            row(f"{label}, {SERVING[case]}", result="skipped: the file is not here")
            continue
        command = [os.path.join(TOOLS, "bench_serving"), "--model", model, "--label", label]
        for _ in range(3):
            text, _ = run(command + (["--long"] if LONG else []) + [case])
            if case != "start" or "skipped" not in text:
                break
        print(text or f"engine\t{label}, {SERVING[case]}\t-\t-\t-\t-\tshort: bench_serving failed\n", end="", flush=True)


def main():
    text, _ = run([os.path.join(TOOLS, "bench_engine"), "--threads", "2", "--case", "machine"])
    for line in text.splitlines():
        note(line)
    listed = list(files())
    smol, gemma = listed[0], listed[1]
    if ONLY.search("scheduling, KV cache"):
        print(run([os.path.join(TOOLS, "bench_sched")])[0], end="", flush=True)
    texts = sorted(str(f) for folder in (".", "*", "*/*") for f in pathlib.Path(TOP).glob(folder + "/*.md")
                   if "build" not in f.relative_to(TOP).parts and "results" not in f.parts)
    for label, path in tokenizers(listed):
        tokenizer(label, path, texts)
    for label, path, _ in (smol, gemma):
        serving(label, path, ["arrivals", "prefix", "overload"])
    serving(gemma[0], gemma[1], ["sampling", "admission"])
    for label, path, _ in (smol, gemma, *listed[-4:]):
        serving(label, path, ["start"])
    for label, path, bf16 in listed:
        if PEER:
            compare(label, path, bf16)
        elif ONLY.search(label):
            row(label, result="skipped: llama.cpp cannot be built, see above")


main()
