/* sandbox_parts.h - the two kernel interfaces behind sandbox.c; nobody else includes this. */
#ifndef TUNNEL_SANDBOX_PARTS_H
#define TUNNEL_SANDBOX_PARTS_H

#include "tunnel/sandbox.h"

/* Restrict this thread, and those it starts, to the paths of `c`: what serving needs, and while `loading` also what
 * loading needs and what libc and OpenSSL read. 0 or an errno. */
MUST_CHECK int sandbox_landlock(const struct sandbox_config *c, bool loading);

/* Load the allow-list of `profile` into all threads, with a GPU's ioctls if `device`. 0 or an errno. */
MUST_CHECK int sandbox_filter(enum sandbox_profile profile, bool loading, bool device);

#endif
