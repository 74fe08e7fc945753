#!/bin/bash
# coverage.sh - are at least 95 of 100 lines of verifier/ run by the tests that are committed here? Builds with
# --coverage into build/coverage, runs the verifier's and the protocol's unit tests, walkers and fuzz corpora, and
# prints each file's share as gcov counts it. By hand: tests/lint/coverage.sh; as a test: only with --long.
TOP=${TOP:-$(cd "$(dirname "$0")/../.." && pwd)}
LEAST=95
if [ -n "${AIRLOCK_LONG:-}" ] && [ "$AIRLOCK_LONG" != 1 ]; then
    echo "SKIP: coverage is measured with --long, or by running tests/lint/coverage.sh"
    exit 77
fi
dir=$TOP/build/coverage
export AIRLOCK_LONG=0 CK_FORK=yes
# What others made is not counted: the share must hold in a clone.
export AIRLOCK_SHARED=${COVERAGE_SHARED:-/nonexistent}

cmake -G Ninja -S "$TOP" -B "$dir" -DAIRLOCK_TESTS=ON -DAIRLOCK_SIMULATED=ON -DCMAKE_BUILD_TYPE=Debug \
    -DCMAKE_C_FLAGS=--coverage -DCMAKE_C_FLAGS_DEBUG=-O0 >"$dir.log" 2>&1 || { tail -n 20 "$dir.log" && exit 1; }
programs=$(ninja -C "$dir" -t targets all | sed -n -E \
    's#^tests/((test_(verifier|protocol)|vectors_(snp|tdx|nvgpu|tpm|vtpm|nitro|hw|protocol|envelopes)|fuzz_(verifier|protocol))[a-z0-9_]*):.*#\1#p')
# shellcheck disable=SC2086
ninja -C "$dir" $programs >"$dir.log" 2>&1 || { tail -n 20 "$dir.log" && exit 1; }
find "$dir" -name '*.gcda' -delete

failed=0
for program in $programs; do
    inputs=()
    [[ $program != fuzz_* ]] || inputs=("$TOP/tests/fuzz/corpus/${program#fuzz_}"/*)
    timeout 300 "$dir/tests/$program" "${inputs[@]}" >"$dir.run.log" 2>&1
    code=$?
    if [ $code != 0 ] && [ $code != 77 ]; then
        echo "FAIL: $program (exit $code)"
        grep -aE ':[EF]:|FAILED' "$dir.run.log" | head -n 5
        failed=1
    fi
done

# gcov writes "File 'x'" and "Lines executed:P% of N" for each; a file that several programs build has the best of them.
cd "$dir" || exit 1
find . -name '*.gcda' -print0 | xargs -0 gcov -n 2>/dev/null | awk -v least=$LEAST '
    /^File / { file = $2; gsub("\047", "", file); sub(/^.*\/verifier\//, "verifier/", file) }
    /^Lines executed:/ && file ~ /^verifier\// && file !~ /^verifier\/anchors\// {
        split($0, part, /[:% ]+/)
        lines = part[5]; run = part[3] / 100 * lines
        if (run > best[file]) best[file] = run
        count[file] = lines
        file = ""
    }
    END {
        for (f in count) {
            printf "%-28s %5.1f %% of %4d\n", f, 100 * best[f] / count[f], count[f] | "sort"
            all += count[f]; done += best[f]
        }
        close("sort")
        if (all < 1000) { print "FAIL: gcov found no lines of verifier/"; exit 1 }
        printf "verifier/ %.1f %% of %d lines; at least %d %%\n", 100 * done / all, all, least
        exit 100 * done / all < least
    }' || { echo "FAIL: too few lines of verifier/ are run" && failed=1; }
exit $failed
