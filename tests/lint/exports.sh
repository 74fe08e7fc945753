#!/bin/bash
# Do both forms of libairlock give out airlock_* alone, and does a C++ compiler take the header?
source "$TOP/proxy/cli/setup.sh"
setup_build release
bad=0
count=0
for lib in "$TOP"/build/release/verifier/libairlock.{so,a}; do
    dynamic=
    [ "${lib##*.}" = so ] && dynamic=-D
    while read -r symbol; do
        case $symbol in
        airlock_*) count=$((count + 1)) ;;
        __bss_start | _edata | _end | _init | _fini | "") ;;
        *) echo "FAIL $lib gives out $symbol"; bad=1 ;;
        esac
    done < <(nm $dynamic -g --defined-only "$lib" | awk 'NF >= 3 {print $3}')
done
[ $count -gt 20 ] || { echo "FAIL only $count symbols were found: this looks at the wrong place"; bad=1; }
echo '#include "verifier/airlock.h"' | c++ -I"$TOP" -Wall -Wextra -Werror -fsyntax-only -x c++ - || bad=1
exit $bad
