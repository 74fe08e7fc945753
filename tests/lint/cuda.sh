#!/bin/bash
# Where nvcc is: do the CUDA sources compile and link, without a warning, and does a machine without a GPU get its own
# answer? sm_90a only; with --long every architecture that a release has, and airlock-engine itself.
source "$TOP/proxy/cli/setup.sh"
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null) || {
    echo "SKIP CUDA: no nvcc on this machine, so kernels/cuda was compiled for the emulated device only"
    exit 77
}
export GPU_BUILD=$TOP/build/gpu OUT=$TOP/build/gpu-out
if [ "${AIRLOCK_LONG:-0}" = 1 ]; then
    export GPU_ARCHITECTURES="80;90a-real;100-real;120-real"
    setup_build cuda airlock-engine
else
    export GPU_ARCHITECTURES=90a-real
fi
bash "$TOP/tests/bench/gpu.sh" --build || exit 1
! grep -aE 'warning' "$TOP/build/gpu.log" || exit 1
if ! nvidia-smi -L 2>/dev/null | grep -q .; then
    bash "$TOP/tests/bench/gpu.sh" >"$TOP/build/gpu.out"
    [ $? = 3 ] && grep -q 'no GPU here' "$TOP/build/gpu.out" || { echo "FAIL gpu.sh without a GPU: $(cat "$TOP/build/gpu.out")"; exit 1; }
    "$TOP/build/gpu/gpu" check >"$TOP/build/gpu.out"
    [ $? = 3 ] && grep -q 'no device: ' "$TOP/build/gpu.out" || { echo "FAIL gpu check without a GPU: $(cat "$TOP/build/gpu.out")"; exit 1; }
fi
echo "CUDA compiled and linked (nvcc $("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p') for ${GPU_ARCHITECTURES//;/ }): 1 passed, 0 failed, 0 skipped"
