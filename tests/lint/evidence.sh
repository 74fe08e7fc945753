#!/bin/bash
# evidence.sh - is the committed synthetic evidence what its generators make?
TOP=${TOP:-$(cd "$(dirname "$0")/../.." && pwd)}
case $(openssl version) in
"OpenSSL 3.0."*) ;;
*)
    echo "SKIP: another OpenSSL draws other bytes for keys and nonces than 3.0, with which the evidence was made"
    exit 77
    ;;
esac
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
for kind in snp intel nvidia vtpm nitro; do
    "$TOP/build/demo/tests/gen_$kind" "$made" || exit 1
done
diff -r "$made" "$TOP/tests/vectors/evidence" && exit 0
echo "FAIL: run build/demo/tests/gen_{snp,intel,nvidia,vtpm,nitro} tests/vectors/evidence, and look at what changes"
exit 1
