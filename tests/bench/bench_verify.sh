#!/bin/bash
# bench_verify.sh - verification of real SNP, TDX and GPU evidence beside the cost of its signatures alone, same run; then
# other verifiers of the same evidence, where they install from PyPI.
set -uo pipefail
source "$TOP/tests/bench/pip.sh"

shared=${AIRLOCK_SHARED:-$TOP/../shared}
venv=${XDG_CACHE_HOME:-$HOME/.cache}/airlock/bench/verify

rows=$("$TOP/build/demo/tests/bench_verify")
case $? in
0) printf '%s\n' "$rows" ;;
77) printf 'verify\tall\t-\t-\t-\t-\tskipped: the vectors are not there (AIRLOCK_SHARED)\n'; exit 0 ;;
*) printf 'verify\tall\t-\t-\t-\t-\tskipped: it failed, see above\n'; exit 0 ;;
esac
# Versions are fixed: a row compares with something that can be named. A package that does not install leaves its reason.
declare -A why
for package in dcap-qvl==0.7.0 sev-attest-tool==0.2.4; do
    name=${package%%==*}
    pip_install "$venv" --only-binary :all: "$package" || why[${name//-/_}]=$PIP_WHY
done
python=$venv/bin/python
[ -x "$python" ] || python=python3 # it has none of the packages, but says why
for module in "${!why[@]}"; do
    set -- "$@" "$module=${why[$module]}"
done
printf '%s\n' "$rows" | "$python" "$TOP/tests/bench/peers_verify.py" "$shared/vectors" "$@"
