/* options.h - airlock-tunnel's command line and file: which proxies and keyds to dial. airlock-engine starts the
 * program and passes them on; nothing here decides whom it trusts. */
#ifndef TUNNEL_DIAL_OPTIONS_H
#define TUNNEL_DIAL_OPTIONS_H

#include "tunnel/dial/dial.h"

/* Fill proxies and keyds from flags and, with --config, a file; on a fault, print it and exit(2). */
void dial_options(int argc, char **argv, struct dial_config *out);

#endif
