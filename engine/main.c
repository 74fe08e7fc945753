/* main.c - airlock-engine: the word plan, or options and then engine/node.c. */
#include <argp.h>
#include <stdio.h>
#include <string.h>

#include "engine/node.h"
#include "engine/plan.h"
#include "tunnel/json.h"

const char *argp_program_version = "airlock-engine " AIRLOCK_VERSION;

int main(int argc, char **argv)
{
    static struct config config;
    char why[512];
    static char plan_name[] = "airlock-engine plan"; /* what its usage line says */
    tunnel_json_wipe_memory();
    if (argc > 1 && strcmp(argv[1], "plan") == 0) {
        argv[1] = plan_name;
        return plan_main(argc - 1, argv + 1);
    }
    if (!config_load(&config, argc, argv, why)) {
        fprintf(stderr, "airlock-engine: %s\n", why);
        return NODE_EXIT_START;
    }
    if (config.check) {
        struct writer text = writer_with_max(64 << 10);
        config_print(&config, &text);
        fwrite(text.data, 1, text.len, stdout);
        writer_release(&text);
        return 0;
    }
    return (int)node_run(&config);
}
