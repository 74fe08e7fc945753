#!/bin/bash
# Does anything but kernels/bridge.c cross between host and device, or allocate there? (The emulated device of the tests
# is the other end of the bridge.)
cd "$TOP" || exit 1
calls='cuda(Memcpy|Memset|Malloc|Free|HostAlloc|HostRegister|MemPrefetch)|cuMem(cpy|Alloc|Host)|__managed__'
bad=0
while read -r file; do
    found=$(grep -nE "$calls" "$file") || continue
    case $file in
    kernels/bridge.c) seen=1 ;;
    *) echo "FAIL $file crosses the bridge by itself: $found"; bad=1 ;;
    esac
done < <(git ls-files '*.c' '*.h' '*.cu' '*.cc' ':!tests/cuda_host')
[ -n "${seen:-}" ] || { echo "FAIL kernels/bridge.c has no such call either: this looks for the wrong words"; bad=1; }
exit $bad
