#!/bin/bash
# codes.sh - has every reason to refuse a case that provokes it, among the committed ones? A case is an error in the
# evidence's expected.json or in the protocol's vectors, or a unit test that asks for the code by name.
TOP=${TOP:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$TOP" || exit 1
asked=$(mktemp)
trap 'rm -f "$asked"' EXIT
{
    # "error": [ "code" ], over several lines
    cat tests/vectors/evidence/*/*/expected.json | tr -d ' \n' | grep -o '"error":\["[a-z0-9_]*"\]' | cut -d'"' -f4
    cat tests/vectors/protocol/*.json | tr -d ' \n' | grep -o '"refusal":\["[a-z0-9_]*"\]' | cut -d'"' -f4
} >"$asked"
missing=0 count=0
while read -r name text; do
    count=$((count + 1))
    grep -qx "$text" "$asked" && continue
    grep -qw "VERIFIER_E_$name" tests/unit/*.c && continue
    grep -q "_str_eq(.*\"$text\")" tests/unit/*.c && continue # through the public library
    echo "FAIL: nothing provokes \"$text\" (VERIFIER_E_$name)"
    missing=$((missing + 1))
done < <(sed -n 's/^ *X(\([A-Z0-9_]*\), *"\([a-z0-9_]*\)".*/\1 \2/p' verifier/err.h)
[ "$count" -gt 100 ] || { echo "FAIL: only $count codes were found in verifier/err.h" && exit 1; }
echo "$count codes, $missing without a case"
[ "$missing" = 0 ]
