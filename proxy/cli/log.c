/* log.c - `airlock log FILE`: follow the chain of a content-free log (policy/log.h). */
#include <stdio.h>

#include "policy/log.h"
#include "proxy/cli/files.h"

#define LOG_MAX (256 << 20)

int cli_log(int argc, char **argv)
{
    struct cli_option o[] = {{.name = "head"}};
    const char *path;
    size_t rest;
    struct policy_log log;
    uint8_t want[64];
    char head[129];
    bool whole;
    if (!cli_options(argc, argv, o, 1, &path, 1, &rest))
        return CLI_USAGE;
    if (rest != 1)
        return cli_usage("log FILE [--head HEX]      (--head: the head that it must end at)");
    if (o[0].count && !cli_hex(o[0].value[0], want, sizeof want))
        return CLI_USAGE;
    struct writer text = writer_with_max(LOG_MAX);
    bool good = cli_read(path, &text);
    if (good) {
        policy_log_check(writer_span(&text), &log, &whole);
        policy_hex_print(span_of(log.head, sizeof log.head), head);
        printf("lines = %llu\nhead = %s\n", (unsigned long long)log.count, head);
        if (!whole)
            cli_fail("%s: line %llu does not follow the one before it: something was taken out, put in or changed",
                     path, (unsigned long long)log.count + 1);
        good = whole && (!o[0].count || memcmp(want, log.head, sizeof want) == 0);
        if (whole && !good)
            cli_fail("%s ends at another head: the last line was changed, or lines are missing at its end", path);
    }
    writer_release(&text);
    return good ? CLI_OK : CLI_FAILED;
}
