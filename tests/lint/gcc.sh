#!/bin/bash
# Did the gcc build of this run print no warning? An incremental build shows only what it compiled; CI compiles all.
! grep -aE 'warning:' "$TOP"/build/demo.log
