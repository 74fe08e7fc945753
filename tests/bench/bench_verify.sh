#!/bin/bash
# bench_verify.sh - verification of real SNP, TDX and GPU evidence beside the cost of its signatures alone, same run.
set -uo pipefail

"$TOP/build/demo/tests/bench_verify"
case $? in
0) ;;
77) printf 'verify\tall\t-\t-\t-\t-\tskipped: the vectors are not there (AIRLOCK_SHARED)\n' ;;
*) printf 'verify\tall\t-\t-\t-\t-\tskipped: it failed, see above\n' ;;
esac
