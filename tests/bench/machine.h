/* machine.h - what this machine can do at most, measured: the limits that benchmarks are held against.
 * Rates are of all threads of a pool together, from the same run as the figure they are compared with. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include "kernels/pool.h"

#include <stddef.h>

struct machine {
    double read;          /* bytes a second from memory, the best way found */
    int streams, ahead;   /* that way: streams a thread, bytes of software prefetch (0: none) */
    double int8, bf16;    /* operations a second from registers, multiply and add are two; 0: cannot be measured here */
    const char *int8_how; /* the instruction: "amx", "avx512 vnni", ... */
    const char *bf16_how;
};

double machine_now(void); /* monotonic seconds */
/* Everything, the best of several runs of a few milliseconds each. False when memory is short. */
bool machine_measure(struct machine *m, struct kern_pool *pool);
/* The read bandwidth once more, the way that was best: beside a figure that is held against it. */
double machine_read(const struct machine *m, struct kern_pool *pool);
void machine_release(void); /* the memory that was read */
void machine_print_flags(void);
/* Read `path` into the page cache, then have `bytes` of memory touched and freed by processes of their own. Returns the
 * seconds that the second took. A virtual machine's host may back memory only when it is touched, at less than 1 GB/s:
 * whoever times what a program does with new memory calls this right before. */
double machine_warm(const char *path, size_t bytes);

double machine_median(double *v, int n); /* sorts `v` */

/* How much of one processor others used (steal included) since machine_watch(), as a share of the time. */
struct machine_watch {
    double at, others;
};
void machine_watch(struct machine_watch *w);
double machine_foreign(const struct machine_watch *w);
#define MACHINE_FOREIGN_MAX 0.1 /* beyond it a sample does not count */

#endif
