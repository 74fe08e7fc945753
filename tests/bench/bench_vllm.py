#!/usr/bin/env python3
"""bench_vllm.py - rows of the vllm bench; bench_vllm.sh says what it needs in the environment. `--wanted VERSION` only
says (exit status) whether any row is asked for.

Both engines run in process, without HTTP, behind the same pipe (bench_streams.c, peer_vllm.py): a line of ids goes in,
a line of ids comes back, and this process's clock runs in between. Same directory, same ids, two threads each, greedy,
no end tokens. The engine that does not run is idle; a sample beside others does not count and is taken again."""
import glob
import os
import random
import re
import select
import signal
import statistics
import subprocess
import sys
import time

import watch

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QUICK = os.environ.get("BENCH_QUICK", "0") != "0"
ONLY = re.compile(os.environ.get("BENCH_ONLY", ""), re.IGNORECASE)
VERSION = sys.argv[-1]
STREAMS = (1, 8, 32)
PROMPT, TOKENS = 64, 96  # of one stream
SAMPLES = 2 if QUICK else 3
TRIES = 3  # for each sample
START_MAX, BATCH_MAX = 900, 180  # seconds; vLLM compiles the model when it first sees it
WINDOWS, WINDOW = 32, 24  # pieces of text, tokens of one
ALIKE_MIN = 29  # of the next tokens: BF16 sums in another order may change a close call
TEXT = """The harbour was quiet in the morning. Fishing boats came back one by one, and the people of the town walked
down to the water to see what they had caught. An old man sat on a wooden chest and told the children about the winter of
the great storm, when the sea took the lighthouse and every house beside it. He said that nobody was hurt, because a dog
had started to bark in the middle of the night. The children had heard the story many times, but they wanted to hear it
again. In the afternoon the market opened. There were apples, bread, cheese and warm soup, and a woman from the next
village played the violin. When the sun went down, the lamps were lit and everybody went home to have dinner."""

CASES = {"alike": "the next token of 32 texts"} | {
    n: f"{n} stream{'s' if n > 1 else ''}" for n in STREAMS} | {"start": "from nothing to the first answer"}


def title(case):
    return f"SmolLM2-135M BF16 directory, {CASES[case]}, beside vLLM {VERSION} (CPU)"


def row(case, ours="-", reference="-", ratio="-", goal="-", result="-"):
    if ONLY.search(title(case)):
        print("vllm", title(case), ours, reference, ratio, goal, result, sep="\t", flush=True)


def wanted():
    return [case for case in CASES if ONLY.search(title(case))]


# --- an engine behind a pipe ---------------------------------------------------------------------------------

class Engine:
    """One process in a session of its own, whose whole session is ended with it."""

    def __init__(self, command, log, extra=None):
        self.log = log
        self.before, self.begin = watch.busy_seconds(), time.monotonic()
        with open(log, "w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                            env={**os.environ, **(extra or {})}, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stdout.close()

    def line(self, seconds):
        end, text = time.monotonic() + seconds, b""
        while not text.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise RuntimeError(f"no answer within {seconds} s")
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                raise RuntimeError("it ended: " + self.last_words())
            text += piece
        return [int(x) for x in text.split()]

    def last_words(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            lines = [x.strip() for x in f if "Error" in x] or ["it left no error message"]
        return lines[-1].replace("\t", " ")[:160]

    def ask(self, prompts, tokens, seconds=BATCH_MAX):
        """All prompts at once; the answers, a list of ids each."""
        ids = [i for p in prompts for i in p]
        self.process.stdin.write((" ".join(map(str, (tokens, len(prompts), len(prompts[0]), *ids))) + "\n").encode())
        self.process.stdin.flush()
        new = self.line(seconds)
        if len(new) != tokens * len(prompts):
            raise RuntimeError(f"{len(new)} tokens came where {tokens * len(prompts)} were asked for")
        return [new[i:i + tokens] for i in range(0, len(new), tokens)]

    def timed(self, prompts, tokens):
        """Seconds of a batch; None when others used the processors meanwhile."""
        busy, own, begin = watch.busy_seconds(), watch.session_seconds(self.process.pid), time.monotonic()
        self.ask(prompts, tokens)
        seconds = time.monotonic() - begin
        own = watch.session_seconds(self.process.pid) - own
        return seconds if (watch.busy_seconds() - busy - own) / seconds < watch.FOREIGN_MAX else None

    def ready(self, prompt):
        """Seconds from nothing to one token of a first request; None when others used the processors meanwhile."""
        self.ask([prompt], 1, START_MAX)
        seconds = time.monotonic() - self.begin
        others = watch.busy_seconds() - self.before - watch.session_seconds(self.process.pid)
        return seconds if others / seconds < watch.FOREIGN_MAX else None


def ours(model):
    log = os.path.join(os.environ["BENCH_CACHE"], "streams.log")
    return Engine([os.path.join(TOP, "build/demo/tests/bench_streams"), "--model", model], log)


def theirs(model):
    """With the two libraries that vLLM asks to be loaded first, and what it compiles kept in the cache."""
    cache, venv = os.environ["BENCH_CACHE"], sys.prefix
    first = glob.glob(f"{venv}/allocator/usr/lib/*/libtcmalloc_minimal.so.4") + glob.glob(f"{venv}/lib/libiomp5.so")
    extra = {"LD_PRELOAD": ":".join(first), "VLLM_CACHE_ROOT": f"{cache}/vllm-cache",
             "TORCHINDUCTOR_CACHE_DIR": f"{cache}/vllm-cache/inductor"}
    return Engine([sys.executable, os.path.join(TOP, "tests/bench/peer_vllm.py"), model], f"{cache}/vllm.log", extra)


# --- rows ----------------------------------------------------------------------------------------------------

def alike(a, b):
    return sum(x == y for x, y in zip(a, b))


def compare(text, mine, vllm):
    """Do the three say the same? The GGUF file is read by other code, so an export gone wrong shows there."""
    windows = [text[i:i + WINDOW] for i in range(0, 4 * WINDOWS, 4)]
    found, peer = mine.ask(windows, 1), vllm.ask(windows, 1)
    with ours(os.environ["BENCH_GGUF"]) as original:
        source = original.ask(windows, 1)
    both, export = alike(found, peer), alike(found, source)
    met = min(both, export) >= ALIKE_MIN
    row("alike", f"{both} of {WINDOWS} as vLLM", f"{export} of {WINDOWS} as ours from the Q4_1 file", "-",
        f">= {ALIKE_MIN} of {WINDOWS}, both", "met" if met else "short")
    return met


def prompts(ids, rng, count):
    """Never one that was there before: both engines keep what they have seen."""
    return [[rng.choice(ids) for _ in range(PROMPT)] for _ in range(count)]


def streams(ids, rng, count, mine, vllm):
    pairs = []
    for _ in range(SAMPLES * TRIES):
        batch = prompts(ids, rng, count)
        pair = mine.timed(batch, TOKENS), vllm.timed(batch, TOKENS)
        if None not in pair:
            pairs.append(pair)
        if len(pairs) == SAMPLES:
            break
    if not pairs:
        return row(count, result="skipped: other processes used the processors in every sample")
    a, b = (count * TOKENS / statistics.median(v) for v in zip(*pairs))
    return row(count, f"{a:.1f} tok/s", f"{b:.1f} tok/s vLLM", f"{a / b:.2f}")


def start(model, prompt):
    figures = []
    for open_engine in ours, theirs:
        values = []
        for _ in range(SAMPLES * TRIES):
            with open_engine(model) as engine:
                values.append(engine.ready(prompt))
            if len(values) - values.count(None) == SAMPLES:
                break
        values = [v for v in values if v is not None]
        if not values:
            return row("start", result="skipped: other processes used the processors in every sample")
        figures.append(statistics.median(values))
    a, b = figures
    return row("start", f"{a:.2f} s", f"{b:.1f} s vLLM", f"{a / b:.3f}")


def main():
    model = os.environ["BENCH_MODEL"]
    from tokenizers import Tokenizer  # of the peer's environment
    text = Tokenizer.from_file(os.path.join(model, "tokenizer.json")).encode(TEXT).ids
    ids, rng = sorted(set(text)), random.Random(1)
    todo = wanted()
    try:
        with ours(model) as mine, theirs(model) as vllm:
            mine.ready(text[:WINDOW])
            vllm.ready(text[:WINDOW])
            same = compare(text, mine, vllm)
            for count in STREAMS:
                if not same:
                    row(count, result="skipped: the two do not say the same, see above")
                elif count in todo:
                    streams(ids, rng, count, mine, vllm)
                todo = [case for case in todo if case not in (count, "alike")]
        if todo:
            start(model, text[:WINDOW])
    except (RuntimeError, OSError) as why:
        for case in todo:
            row(case, result=f"skipped: an engine did not answer: {why}")


if sys.argv[1] == "--wanted":
    sys.exit(0 if wanted() else 1)
main()
