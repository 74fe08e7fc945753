#include "kernels/device.h"

#include <string.h>

const struct kern_device_ops *kern_device_find(const char *name, const char **why)
{
    if (strcmp(name, "cuda") != 0) {
        *why = "no such kind of device: cpu or cuda";
        return NULL;
    }
#ifdef AIRLOCK_CUDA
    *why = "";
    return &kern_device_cuda;
#else
    *why = "this program was built without CUDA: configure with -DWITH_CUDA=ON where nvcc is";
    return NULL;
#endif
}
