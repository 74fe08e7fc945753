#!/bin/bash
# run.sh - all tests: groups unit, threads, vectors, fuzz, e2e, lint. Ends with "N passed, N failed, N skipped".
set -uo pipefail

TOP=${TOP:-$(cd "$(dirname "$0")/.." && pwd)}
export TOP
source "$TOP/proxy/cli/setup.sh"
export AIRLOCK_SHARED=${AIRLOCK_SHARED:-$TOP/../shared}
export AIRLOCK_MODELS=$MODEL_DIR
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=suppressions=$TOP/tests/lsan.supp:print_suppressions=0

groups="" long=0
for word in "$@"; do
    case $word in
    --long) long=1 ;;
    unit | threads | vectors | fuzz | e2e | lint) groups="$groups $word" ;;
    -h | --help)
        echo "usage: ./airlock test [unit|threads|vectors|fuzz|e2e|lint ...] [--long]"
        exit 0
        ;;
    *) fail "no test group is called \"$word\"" "" "the groups are unit, threads, vectors, fuzz, e2e and lint" ;;
    esac
done
[ -n "$groups" ] || groups="lint unit threads vectors fuzz e2e"
export AIRLOCK_LONG=$long

passed=0 failed=0 skipped=0
count() { # PASSED FAILED SKIPPED
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
    group_counts=("$((group_counts[0] + $1))" "$((group_counts[1] + $2))" "$((group_counts[2] + $3))")
}

# Run one program; its own count comes from the lines it prints: check's summary, or "NAME: N passed, N failed, N skipped".
# A program that fails without counting a failure counts as one.
run_one() { # LABEL COMMAND...
    local label=$1 log=$TOP/build/test-logs/${1//[^A-Za-z0-9_.-]/_}.log code p=0 f=0 s=0 line
    shift
    mkdir -p "$TOP/build/test-logs"
    (cd "$TOP" && timeout --kill-after=10 "${TEST_TIMEOUT:-600}" "$@") </dev/null >"$log" 2>&1
    code=$?
    while read -r line; do
        if [[ $line =~ Checks:\ ([0-9]+),\ Failures:\ ([0-9]+),\ Errors:\ ([0-9]+) ]]; then
            f=$((f + BASH_REMATCH[2] + BASH_REMATCH[3]))
            p=$((p + BASH_REMATCH[1] - BASH_REMATCH[2] - BASH_REMATCH[3]))
        elif [[ $line =~ ^([A-Za-z0-9_./()\ -]+):\ ([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped ]]; then
            p=$((p + BASH_REMATCH[2])) f=$((f + BASH_REMATCH[3])) s=$((s + BASH_REMATCH[4]))
            printf '    %s\n' "$line"
        elif [[ $line == SKIP* ]]; then
            printf '    %s\n' "$line"
        fi
    done < <(tr -d '\000' <"$log")
    if [ $code = 77 ]; then
        [ $((p + f + s)) -gt 0 ] || s=1
    elif [ $code != 0 ]; then
        [ $f -gt 0 ] || f=1
    else
        [ $((p + f + s)) -gt 0 ] || p=1
    fi
    count $p $f $s
    if [ $f -gt 0 ]; then
        printf '  FAIL %s (exit %d, %s)\n' "$label" "$code" "${log#"$TOP"/}"
        grep -aE 'FAIL|:[EF]:|ERROR: |runtime error|refused|expected' "$log" | grep -av '^100%' | head -n 12 | cut -c1-300 | sed 's/^/    /'
        tail -n 8 "$log" | tr -d '\000' | cut -c1-300 | sed 's/^/    | /'
    fi
}

group_unit() {
    local t
    setup_build asan
    for t in "$TOP"/build/demo/tests/test_*; do run_one "unit $(basename "$t")" "$t"; done
    for t in "$TOP"/build/asan/tests/test_*; do CK_FORK=${AIRLOCK_ASAN_FORK:-yes} run_one "unit(asan) $(basename "$t")" "$t"; done
}

# Where threads meet: the loops, workers and the backend of the proxy, the engine's thread, the pool, connect.
group_threads() {
    local t names="test_proxy_backend test_proxy_connect test_proxy_front test_proxy_shim test_engine_engine test_kernels_products"
    setup_build tsan $names
    for t in $names; do
        CK_TIMEOUT_MULTIPLIER=5 TSAN_OPTIONS=exitcode=66 run_one "threads $t" "$TOP/build/tsan/tests/$t"
        run_one "threads $t: no race" sh -c "! grep -a -A12 'WARNING: ThreadSanitizer' '$TOP/build/test-logs/threads_$t.log'"
    done
}

group_vectors() {
    local t
    for t in "$TOP"/build/demo/tests/vectors_*; do run_one "vectors $(basename "$t")" "$t"; done
    # The families that nobody else's vectors cover: models made here, logits of another implementation.
    run_one "vectors families" sh -c 'python3 "$TOP/tests/vectors/families/make.py" "$TOP/build/families" &&
        AIRLOCK_SHARED="$TOP/build/families" "$TOP/build/demo/tests/vectors_logits" tiny'
}

group_fuzz() {
    local t name
    setup_build asan
    for t in "$TOP"/build/asan/tests/fuzz_*; do
        name=$(basename "$t")
        if [ -d "$TOP/tests/fuzz/corpus/${name#fuzz_}" ]; then
            run_one "fuzz $name" "$t" "$TOP/tests/fuzz/corpus/${name#fuzz_}"/*
        else
            run_one "fuzz $name" sh -c "echo 'FAIL: tests/fuzz/corpus/${name#fuzz_} is missing'; exit 1"
        fi
    done
    [ $long = 1 ] || return 0
    local seconds=${FUZZ_SECONDS:-600} # of each target
    setup_build fuzz
    for t in "$TOP"/build/fuzz/tests/fuzz_*; do
        name=$(basename "$t")
        mkdir -p "$TOP/build/fuzz-corpus/$name"
        TEST_TIMEOUT=$((seconds + 100)) run_one "fuzz($seconds s) $name" "$t" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
            "$TOP/build/fuzz-corpus/$name" "$TOP/tests/fuzz/corpus/${name#fuzz_}"
    done
}

group_e2e() {
    local t
    for t in "$TOP"/tests/e2e/test_*.py; do
        run_one "e2e $(basename "$t" .py)" python3 "$t"
    done
}

group_lint() {
    local t
    for t in "$TOP"/tests/lint/*.sh; do run_one "lint $(basename "$t" .sh)" bash "$t"; done
    run_one "lint layers" cmake -DTOP="$TOP" -P "$TOP/tests/layers.cmake"
}

setup_packages test
for model in smollm2 gemma; do
    setup_model $model >/dev/null || say "the model $model cannot be had: tests that need it are skipped"
done
AIRLOCK_WITH_TESTS=1 setup_build demo

for group in $groups; do
    group_counts=(0 0 0)
    started=$SECONDS
    printf '%s\n' "$group"
    "group_$group"
    printf '%s: %d passed, %d failed, %d skipped in %d s\n' "$group" "${group_counts[@]}" $((SECONDS - started))
done
printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ $failed = 0 ]
