#!/bin/bash
# bench_engine.sh - SmolLM2-135M (Q4_1) on this machine: ours beside llama.cpp, same file, same threads, same run.
# llama.cpp is built once, from the source inside the Python package llama-cpp-python 0.3.36, into the user's cache.
set -uo pipefail
source "$TOP/proxy/cli/setup.sh"

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/airlock/bench
PEER=$CACHE/llama
RUNS=5
[ "$BENCH_QUICK" = 0 ] || RUNS=3

row() { printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$@"; }

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

# Share of the processors that others use while a command runs is watched by the caller: a busy machine makes the
# peer's two threads collapse, which would flatter us. One sample: busy ticks of /proc/stat.
busy_ticks() { awk '/^cpu /{print $2+$3+$4+$7+$8}' /proc/stat; }
own_ticks() { awk '{print $14+$15+$16+$17}' "/proc/$1/stat"; } # of a process and its ended children

# sample COMMAND...: run it; prints its figure, or nothing when others used over 10 % of one processor meanwhile.
sample() {
    local b0 o0 t0 b1 o1 t1 figure me=$BASHPID
    b0=$(busy_ticks) o0=$(own_ticks $me) t0=$(date +%s%N)
    figure=$("$@") || return 1
    b1=$(busy_ticks) o1=$(own_ticks $me) t1=$(date +%s%N)
    awk -v foreign=$(((b1 - b0) - (o1 - o0))) -v ns=$((t1 - t0)) -v f="$figure" 'BEGIN { if (foreign / 100 < 0.1 * ns / 1e9) print f }'
}

median() { sort -n | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'; }

peer_prompt() { "$PEER/bin/llama-bench" -m "$MODEL" -t 2 -p 512 -n 0 -r 1 -o csv 2>/dev/null | tail -1 | awk -F'","' '{print $(NF-1)}'; }
peer_decode() { "$PEER/bin/llama-bench" -m "$MODEL" -t 2 -p 0 -n 64 -r 1 -o csv 2>/dev/null | tail -1 | awk -F'","' '{print $(NF-1)}'; }
peer_batch() { "$PEER/bin/llama-batched-bench" -m "$MODEL" -t 2 -npp 16 -ntg 32 -npl 32 -c 4096 2>/dev/null | awk -F'|' '$4 ~ /32/ && $2 ~ /16/ {gsub(/ /,"",$9); print $9}'; }
ours() { "$TOP/build/demo/tests/bench_engine" --model "$MODEL" --threads 2 --case "$1"; }

compare() { # CASE GOAL OURS-CASE PEER-FUNCTION
    local i mine="" theirs="" a b tries=0
    for ((i = 0; i < RUNS; i++)); do
        a=$(sample ours "$3") b=$(sample "$4")
        [ -n "$a" ] && [ -n "$b" ] && mine="$mine$a"$'\n' theirs="$theirs$b"$'\n'
        if [ -z "$a" ] || [ -z "$b" ]; then
            ((++tries > 3 * RUNS)) && break
            ((i--))
        fi
    done
    a=$(printf '%s' "$mine" | median) b=$(printf '%s' "$theirs" | median)
    if [ -z "$a" ] || [ -z "$b" ]; then
        row engine "$1" - - - "$2" "skipped: other processes used the processors in every sample"
        return
    fi
    row engine "$1" "$a tok/s" "$b tok/s llama.cpp" "$(awk -v a="$a" -v b="$b" 'BEGIN{printf "%.2f", a/b}')" ">= $2" \
        "$(awk -v a="$a" -v b="$b" -v g="$2" 'BEGIN{print (a/b >= g ? "met" : "short")}')"
}

if ! MODEL=$(setup_model); then
    row engine all - - - - "skipped: the demo model cannot be had"
    exit 0
fi
"$TOP/build/demo/tests/bench_engine" --model "$MODEL" --threads 2 --case machine | sed 's/^/# /'
if ! build_peer; then
    row engine all - - - - "skipped: llama.cpp cannot be built, see above"
    exit 0
fi
compare "SmolLM2-135M Q4_1, decode, 1 sequence" 0.5 decode1 peer_decode
compare "SmolLM2-135M Q4_1, decode, 32 sequences" 1.5 decode32 peer_batch
compare "SmolLM2-135M Q4_1, prefill 512" 1.3 prefill512 peer_prompt
