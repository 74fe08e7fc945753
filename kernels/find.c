/* find.c - which table of ops this machine gets. */
#include "kernels/cpu/cpu.h"
#include "kernels/kernels.h"

#include <stdlib.h>
#include <string.h>

const struct kern_ops *kern_ops_find(const char *name)
{
    static const struct {
        const struct kern_ops *ops;
        bool (*runs)(void);
    } fast[] = {
#if defined(__x86_64__)
        {&kern_ops_amx, kern_cpu_amx},
        {&kern_ops_avx512bf16, kern_cpu_avx512bf16},
        {&kern_ops_avx512, kern_cpu_avx512},
        {&kern_ops_avx2, kern_cpu_avx2},
#endif
        {NULL, NULL}
    };

    if (!name)
        name = getenv("AIRLOCK_CPU");
    if (name && strcmp(name, kern_ops_ref.name) == 0)
        return &kern_ops_ref;
    for (size_t i = 0; fast[i].ops; i++)
        if (fast[i].runs() && (!name || strcmp(name, fast[i].ops->name) == 0))
            return fast[i].ops;
    return name ? NULL : &kern_ops_ref;
}
