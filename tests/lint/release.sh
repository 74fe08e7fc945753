#!/bin/bash
# Does a release contain the simulated producer or this machine's demo root? By symbol, by source name and by bytes.
source "$TOP/proxy/cli/setup.sh"
setup_build release
bad=0
roots=$(find "$TOP/build/demo" -name '*.der' -size +0 | head -n 20)
[ -n "$roots" ] || { echo "FAIL the demo build has no demo root: nothing to compare with"; exit 1; }
shopt -s nullglob
for file in "$TOP"/build/release/bin/* "$TOP"/build/release/*/*.so* "$TOP"/build/release/*/*.a; do
    [ -f "$file" ] || continue
    names=$(nm -a "$file" 2>/dev/null | awk '{print $NF}' | grep -iE '(simulated_(producer|quote|anchor)|producer_simulated|anchors?_simulated|demo_(root|key)|simulated\.c$)')
    [ -z "$names" ] || { echo "FAIL $file has symbols of the simulation: $names"; bad=1; }
    python3 - "$file" $roots <<'EOF' || bad=1
import sys
data = open(sys.argv[1], "rb").read()
for root in sys.argv[2:]:
    der = open(root, "rb").read()
    # The signature alone would do: 64 bytes from the middle and the end of each certificate or key.
    for piece in (der[len(der) // 2:len(der) // 2 + 64], der[-64:]):
        if len(piece) == 64 and piece in data:
            sys.exit(f"FAIL {sys.argv[1]} holds bytes of {root}")
EOF
done
# The twin: the demo build does contain them, so this search can find something.
if ! nm -a "$TOP"/build/demo/bin/airlock-engine | grep -qi simulated; then
    echo "FAIL the search finds nothing in the demo build either: it looks for the wrong names"
    bad=1
fi
exit $bad
