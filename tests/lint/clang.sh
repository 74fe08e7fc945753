#!/bin/bash
# Does everything compile without a warning under clang as well? (gcc: see gcc.sh)
source "$TOP/proxy/cli/setup.sh"
setup_build clang
