#!/bin/bash
# Is libairlock small? All of our own code in it - every kind of evidence, the judge, the facade, the anchors - stripped, in
# bytes: less than 400 KB. Libraries that it needs are not counted.
source "$TOP/proxy/cli/setup.sh"
setup_build release
most=400000
lib=$TOP/build/release/verifier/libairlock.so
stripped=$(mktemp) || exit 1
trap 'rm -f "$stripped"' EXIT
strip -o "$stripped" "$lib" || exit 1
file=$(stat -c %s "$stripped")
parts=$(size -A "$stripped" | awk '$1 ~ /^\.(text|rodata|data|data\.rel\.ro|eh_frame|bss)$/ {n += $2} END {print n + 0}')
echo "libairlock.so: $file bytes stripped, $parts of them code and data (at most $most)"
[ "$parts" -gt 50000 ] || { echo "FAIL that is too little: this looks at the wrong place"; exit 1; }
[ "$file" -le $most ] || { echo "FAIL libairlock.so is larger"; exit 1; }
