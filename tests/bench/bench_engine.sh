#!/bin/bash
# bench_engine.sh - the engine against llama.cpp and against the machine's limits, on the same files in the same run.
# llama.cpp is built once, from the source inside the Python package llama-cpp-python 0.3.36, into the user's cache.
set -uo pipefail
source "$TOP/proxy/cli/setup.sh"

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/airlock/bench
PEER=$CACHE/llama

build_peer() {
    [ ! -x "$PEER/bin/llama-bench" ] || return 0
    mkdir -p "$CACHE"
    (cd "$CACHE" && python3 -m pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 -d . && tar xzf llama_cpp_python-0.3.36.tar.gz) >&2 || return 1
    local src=$CACHE/llama_cpp_python-0.3.36/vendor/llama.cpp
    # With gcc 12 the intrinsic drops the stores of the tile configuration and the first tile load faults.
    sed -i 's|_tile_loadconfig(&tc);|asm volatile("ldtilecfg %0" :: "m"(tc) : "memory");|' "$src/ggml/src/ggml-cpu/amx/mmq.cpp"
    cmake -G Ninja -S "$src" -B "$PEER" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF \
        -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF >&2 &&
        ninja -C "$PEER" llama-bench llama-batched-bench >&2
}

BENCH_SMOL=$(setup_model) || BENCH_SMOL=
build_peer || PEER=
export BENCH_SMOL BENCH_CACHE=$CACHE BENCH_PEER=$PEER
exec python3 "$TOP/tests/bench/bench_engine.py"
