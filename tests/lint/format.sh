#!/bin/bash
# Is every C, header and CUDA file formatted as .clang-format says?
cd "$TOP" || exit 1
git ls-files -z '*.c' '*.h' '*.cu' '*.cc' | xargs -0 clang-format-14 --dry-run -Werror
