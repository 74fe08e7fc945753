#!/bin/bash
# Do files stay under 900 lines and main.c files, which are wiring, under 200?
cd "$TOP" || exit 1
bad=0
while read -r file; do
    lines=$(wc -l <"$file")
    limit=900
    [ "$(basename "$file")" != main.c ] || limit=200
    [ "$lines" -le $limit ] || { echo "FAIL $file has $lines lines, limit $limit"; bad=1; }
done < <(git ls-files '*.c' '*.h' '*.cu' '*.cc' '*.sh')
exit $bad
