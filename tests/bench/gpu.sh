#!/bin/bash
# gpu.sh [--build]: on a bare GPU machine (nvcc, gcc, cmake; no network), in at most 10 minutes: build the CUDA device, hold
# every op against its reference and small models against the processor, then time ops, decode and prefill. Raw output
# with the machine's name goes to $OUT, or to tests/bench/results. --build stops after building, for a machine without
# a GPU. Exit: 0, 1 a check failed, 3 no GPU, 4 cannot be built.
set -uo pipefail

TOP=${TOP:-$(cd "$(dirname "$0")/../.." && pwd)}
DIR=${GPU_BUILD:-$TOP/build/gpu}
OUT=${OUT:-$TOP/tests/bench/results}
started=$SECONDS

give_up() { # CODE WHAT
    printf 'gpu: %s\n' "$2"
    exit "$1"
}

# What the GPU of this machine is, else what most are: machine code for one architecture compiles fastest.
architecture() {
    local cap
    cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
    case $cap in
    "" | 90) echo 90a-real ;;
    *) echo "$cap-real" ;;
    esac
}

build() {
    local nvcc generator=() log=$DIR.log
    nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null) || give_up 4 "no nvcc in PATH or /usr/local/cuda/bin"
    command -v cmake >/dev/null || give_up 4 "no cmake in PATH"
    ! command -v ninja >/dev/null || generator=(-G Ninja)
    mkdir -p "$DIR"
    if ! cmake "${generator[@]}" -S "$TOP/tests/bench/gpu" -B "$DIR" \
        "-DAIRLOCK_CUDA_ARCHITECTURES=${GPU_ARCHITECTURES:-$(architecture)}" >"$log" 2>&1 ||
        ! cmake --build "$DIR" --parallel "$(nproc)" >>"$log" 2>&1; then
        grep -E 'error|Error|undefined' -A3 "$log" | head -n 30
        give_up 4 "the build failed, see $log"
    fi
    printf 'gpu: built with %s for %s in %d s\n' "$("$nvcc" --version | sed -n 's/.*release //p')" \
        "${GPU_ARCHITECTURES:-$(architecture)}" $((SECONDS - started))
}

machine() {
    printf '# machine\t%s, driver %s, %s\n' "$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)" \
        "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)" "$(uname -sr)"
    printf '# host\t%s, %s cpus\n' "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs)" "$(nproc)"
    printf '# clocks\t%s\n' "$(nvidia-smi --query-gpu=clocks.sm,clocks.mem,power.limit --format=csv,noheader | head -n 1)"
    printf '# commit\t%s\n' "$(git -C "$TOP" rev-parse --short HEAD 2>/dev/null || echo none)"
    printf '# bench\tcase\tours\treference\tratio\tgoal\tresult\n'
}

# Run PROGRAM within what is left of ten minutes; its output to the screen and to the result.
run_program() { # RESULT PROGRAM [ARGUMENT]
    local result=$1 left=$((570 - SECONDS + started))
    shift
    timeout --kill-after=5 "$left" "$@" 2>&1 | tee -a "$result"
    return "${PIPESTATUS[0]}"
}

build
[ "${1:-}" != --build ] || exit 0
nvidia-smi -L 2>/dev/null | grep -q . ||
    give_up 3 "no GPU here (nvidia-smi shows none): the programs are built in $DIR; run this on a GPU machine"
mkdir -p "$OUT"
name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1 | tr -c 'A-Za-z0-9\n' - | tr A-Z a-z | tr -s -)
result=$OUT/gpu-$name.tsv
machine | tee "$result"
bad=0
run_program "$result" "$DIR/gpu_ops" || bad=1
run_program "$result" "$DIR/gpu" check
case $? in
0) ;;
3) give_up 3 "the driver lists a GPU, but CUDA cannot open it (see above)" ;;
*) bad=1 ;;
esac
run_program "$result" "$DIR/gpu" time || bad=1
printf 'gpu: %s after %d s, rows in %s\n' "$([ $bad = 0 ] && echo 'all checks passed' || echo 'FAIL')" $((SECONDS - started)) \
    "$result" | tee -a "$result"
exit $bad
