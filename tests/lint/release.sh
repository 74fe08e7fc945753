#!/bin/bash
# Does a release contain the simulated producer or this machine's demo root? By symbol, by source name and by bytes.
source "$TOP/proxy/cli/setup.sh"
setup_build release
bad=0
roots=$(find "$TOP/build/demo/generated" -name 'simulated_*.h' -size +0)
[ -n "$roots" ] || { echo "FAIL the demo build has no demo root: nothing to compare with"; exit 1; }
shopt -s nullglob

# Symbols and source names of the simulation in one file.
names() { nm -a "$1" 2>/dev/null | awk '{print $NF}' | grep -iE 'simulated.*(producer|quote|anchor|root|key)|(producer|anchors?)_simulated|simulated\.c$'; }

# Does FILE hold a run of bytes of the root or its keys? 10 yes, 11 no; anything else: could not be found out.
holds_root() {
    python3 - "$1" $roots <<'EOF'
import re, sys
data = open(sys.argv[1], "rb").read()
pieces = 0
for header in sys.argv[2:]:
    for body in re.findall(r"\{([^{}]*)\}", open(header).read()):
        array = bytes(int(x, 0) for x in re.findall(r"0x[0-9a-fA-F]+|\d+", body))
        for piece in (array[len(array) // 2:len(array) // 2 + 32], array[-32:]):
            if len(piece) == 32:
                pieces += 1
                if piece in data:
                    sys.exit(10)
sys.exit(11 if pieces else 12)
EOF
}
for file in "$TOP"/build/release/bin/* "$TOP"/build/release/*/*.so* "$TOP"/build/release/*/*.a; do
    [ -f "$file" ] || continue
    found=$(names "$file")
    [ -z "$found" ] || { echo "FAIL $file has symbols of the simulation: $found"; bad=1; }
    holds_root "$file"
    [ $? = 11 ] || { echo "FAIL $file holds bytes of the demo root, or the root could not be read"; bad=1; }
done
# The twin: the demo build does contain both, so this search can find something.
engine=$TOP/build/demo/bin/airlock-engine
[ -n "$(names "$engine")" ] || { echo "FAIL no symbol of the simulation in the demo build either: the search is wrong"; bad=1; }
holds_root "$engine"
[ $? = 10 ] || { echo "FAIL no bytes of the demo root in the demo build either: the search is wrong"; bad=1; }
exit $bad
