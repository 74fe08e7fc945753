#!/bin/bash
# run.sh - benchmarks: each prints rows of bench, case, ours, reference, ratio, goal, met|short|skipped: why (tab-separated).
# A reference is a peer or a physical limit measured in the same run. Raw output is kept under tests/bench/results.
set -uo pipefail

TOP=${TOP:-$(cd "$(dirname "$0")/../.." && pwd)}
export TOP
source "$TOP/proxy/cli/setup.sh"
export AIRLOCK_SHARED=${AIRLOCK_SHARED:-$TOP/../shared} AIRLOCK_MODELS=$MODEL_DIR

names="" quick=0 long=0 only=""
while [ $# -gt 0 ]; do
    word=$1
    shift
    case $word in
    --quick) quick=1 ;;
    --long) long=1 ;;
    --only)
        [ $# -gt 0 ] || fail "--only needs a pattern" "" "for example: ./airlock bench engine --only 'Llama.*decode'"
        only=$1
        shift
        ;;
    -h | --help)
        echo "usage: ./airlock bench [NAME...] [--quick | --long] [--only PATTERN]; the benches are: $(cd "$TOP/tests/bench" && ls bench_*.sh | sed 's/bench_\(.*\)\.sh/\1/' | xargs)"
        exit 0
        ;;
    *)
        [ -f "$TOP/tests/bench/bench_$word.sh" ] || fail "no bench is called \"$word\"" "" "./airlock bench --help lists them"
        names="$names $word"
        ;;
    esac
done
# vLLM takes gigabytes and minutes: it stands beside the engine with --long, and runs alone when it is named.
[ -n "$names" ] || names=$(cd "$TOP/tests/bench" && ls bench_*.sh | sed 's/bench_\(.*\)\.sh/\1/' | grep -vx vllm)
case "$long $names " in
1*' vllm '*) ;;
1*engine*) names="$names vllm" ;;
esac
export BENCH_QUICK=$quick BENCH_LONG=$long BENCH_ONLY=$only

setup_packages test
AIRLOCK_WITH_TESTS=1 setup_build demo $(cd "$TOP/tests/bench" && ls bench_*.c | sed 's/\.c$//')
mkdir -p "$TOP/tests/bench/results"

machine() {
    printf '# machine\t%s, %s cpus, %s\n' "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs)" "$(nproc)" "$(uname -sr)"
    printf '# flags\t%s\n' "$(grep -m1 '^flags' /proc/cpuinfo | tr ' ' '\n' | grep -E '^(avx2|fma|f16c|avx512.*|amx.*|avx_vnni|vaes)$' | xargs)"
    printf '# commit\t%s\n' "$(git -C "$TOP" rev-parse --short HEAD 2>/dev/null || echo none)"
    printf '# bench\tcase\tours\treference\tratio\tgoal\tresult\n'
}

machine
for name in $names; do
    if [ -n "$only" ]; then # some rows alone are no result to keep
        bash "$TOP/tests/bench/bench_$name.sh"
        continue
    fi
    result=$TOP/tests/bench/results/$name.tsv
    machine >"$result"
    bash "$TOP/tests/bench/bench_$name.sh" | tee -a "$result"
done
[ -n "$only" ] || python3 "$TOP/tests/bench/page.py"
