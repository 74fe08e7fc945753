#!/bin/bash
# bench_verify.sh - verification of real SNP, TDX and GPU evidence beside the cost of its signatures alone, same run; then
# other verifiers of the same evidence, where they install from PyPI.
set -uo pipefail

shared=${AIRLOCK_SHARED:-$TOP/../shared}
venv=${XDG_CACHE_HOME:-$HOME/.cache}/airlock/bench/verify

# Versions are fixed: a row compares with something that can be named.
peers() {
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || return 1
    for package in dcap-qvl==0.7.0 sev-attest-tool==0.2.4; do
        "$venv/bin/pip" --quiet --disable-pip-version-check install --only-binary :all: "$package" || true
    done
} >/dev/null 2>&1

rows=$("$TOP/build/demo/tests/bench_verify")
case $? in
0) printf '%s\n' "$rows" ;;
77) printf 'verify\tall\t-\t-\t-\t-\tskipped: the vectors are not there (AIRLOCK_SHARED)\n'; exit 0 ;;
*) printf 'verify\tall\t-\t-\t-\t-\tskipped: it failed, see above\n'; exit 0 ;;
esac
if peers; then
    printf '%s\n' "$rows" | "$venv/bin/python" "$TOP/tests/bench/peers_verify.py" "$shared/vectors"
else
    printf 'verify\tother verifiers\t-\t-\t-\t-\tskipped: python3 -m venv does not work here\n'
fi
