/* pace.h - how many prompt tokens a step may compute, from how long steps took.
 *
 * Prompts beside decoding lengthen everybody's time between two tokens; prompts that get little keep newcomers waiting.
 * A step with both may take twice what steps usually take, so the 99th percentile of the time between two tokens stays
 * within twice its median; and never so many times a step without prompts that decoding nearly stops. What is usual
 * follows the load: where prompts never cease, most steps carry some, so chunks grow and all steps with them.
 * Pure: no clock; one thread. */
#ifndef ENGINE_PACE_H
#define ENGINE_PACE_H

#include <stddef.h>
#include <stdint.h>

#define PACE_CLASSES 13 /* 4096 sequences */

/* Smoothed times; 0: not seen yet. */
struct pace {
    uint64_t decode_ns[PACE_CLASSES]; /* of a step of 2^i to 2^(i+1)-1 rows that only decode */
    uint64_t usual_ns;                /* of a step in which somebody decodes */
    uint64_t beside_ns, alone_ns;     /* of one prompt token beside decoding rows, and without them */
};

/* A step took `ns`: `decoding` of its rows decoded, `prompt` of its tokens were of prompts. */
void pace_note(struct pace *p, uint64_t ns, size_t decoding, uint32_t prompt);
/* Most prompt tokens for a step beside `decoding` rows that decode; 0: no limit known. */
uint32_t pace_beside(const struct pace *p, size_t decoding);
/* The same where nobody decodes: no newcomer waits long. */
uint32_t pace_alone(const struct pace *p);

#endif
