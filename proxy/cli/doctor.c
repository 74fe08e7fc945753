/* doctor.c - `airlock doctor`: what of this machine the programs can use, and what to do about the rest.
 * The sandbox's walls are found by building them in a child, not by guessing. `--walls` prints their names alone. */
#include "proxy/cli/files.h"

#include "policy/policy.h"
#include "tunnel/sandbox.h"

#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const wall_names[POLICY_STAGE_COUNT] = {POLICY_STAGE_NAMES};

/* --- walls ------------------------------------------------------------------------------------------- */

static unsigned build_walls(enum sandbox_profile profile)
{
    struct sandbox_config config = {.profile = profile};
    struct sandbox_problem why;

    if (sandbox_enter(&config, &why) != 0 || sandbox_seal(&config, &why) != 0)
        return 0;
    return sandbox_stage();
}

/* In a child of its own: walls never come down. */
static unsigned try_walls(enum sandbox_profile profile)
{
    unsigned bits = 0;
    pid_t pid = fork();
    int status;

    if (pid == 0)
        _exit((int)build_walls(profile));
    if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status))
        bits = (unsigned)WEXITSTATUS(status);
    return bits & SANDBOX_ALL;
}

static unsigned common_walls(void)
{
    return try_walls(SANDBOX_PROXY) & try_walls(SANDBOX_ENGINE);
}

static int print_walls(unsigned bits)
{
    const char *comma = "";

    for (size_t i = 0; i < POLICY_STAGE_COUNT; i++) {
        if (!(bits & 1u << i))
            continue;
        printf("%s%s", comma, wall_names[i]);
        comma = ",";
    }
    putchar('\n');
    return bits ? CLI_OK : CLI_FAILED;
}

/* --- the rest ----------------------------------------------------------------------------------------- */

static void line(const char *what, bool good, const char *found, const char *advice)
{
    printf("%-4s %-24s %s%s%s\n", good ? "ok" : "no", what, found, !good && advice ? "\n     -> " : "",
           !good && advice ? advice : "");
}

static bool read_line(const char *path, char *out, size_t cap)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(out, (int)cap, f);

    if (f)
        fclose(f);
    if (ok)
        out[strcspn(out, "\n")] = 0;
    return ok;
}

static void check_landlock(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    char found[32];

    snprintf(found, sizeof found, abi > 0 ? "ABI %ld" : "absent", abi);
    line("Landlock", abi > 0, found, "use Linux 5.13 or later with landlock in the lsm= list");
}

static void check_limit(const char *what, int resource, bool want_zero, const char *advice)
{
    struct rlimit limit = {0};
    char found[64];
    bool good;

    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0)
        return;
    if (limit.rlim_max == RLIM_INFINITY)
        snprintf(found, sizeof found, "unlimited");
    else
        snprintf(found, sizeof found, "%llu KiB at most", (unsigned long long)limit.rlim_max / 1024);
    good = want_zero || limit.rlim_max == RLIM_INFINITY || limit.rlim_max >= ((rlim_t)64 << 20) || geteuid() == 0;
    line(what, good, found, advice);
}

static void check_swap(void)
{
    char header[256], first[256] = "";
    FILE *f = fopen("/proc/swaps", "re");
    bool none = f && fgets(header, sizeof header, f) && !fgets(first, sizeof first, f);

    if (f)
        fclose(f);
    line("no swap", none, none ? "none is in use" : "swap is in use", "swapoff -a: prompts could reach the disk");
}

static void check_processor(void)
{
    static const char *const flags[] = {"avx2", "avx512f", "avx512_vnni", "amx_int8", "aes", "sev_snp", "tdx_guest"};
    char *text = NULL, found[160] = "";
    size_t cap = 0;
    FILE *f = fopen("/proc/cpuinfo", "re");

    while (f && getline(&text, &cap, f) > 0) {
        if (strncmp(text, "flags", 5) != 0)
            continue;
        for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
            char word[32];
            snprintf(word, sizeof word, " %s ", flags[i]);
            text[strcspn(text, "\n")] = ' ';
            if (strstr(text, word))
                snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", found[0] ? " " : "", flags[i]);
        }
        break;
    }
    if (f)
        fclose(f);
    free(text);
    line("processor", strstr(found, "avx2") != NULL, found[0] ? found : "none of the flags that kernels use",
         "kernels fall back to portable code: slow");
}

static void check_evidence(void)
{
    bool there = cli_exists("/sys/kernel/config/tsm/report");

    line("hardware evidence", there, there ? "configfs-tsm" : "no /sys/kernel/config/tsm/report",
         "run in an SEV-SNP or TDX guest with Linux 6.7 or later; without one only simulated evidence can be made");
}

static void check_kernel(void)
{
    char found[128] = "?";

    (void)read_line("/proc/sys/kernel/osrelease", found, sizeof found);
    line("kernel", true, found, NULL);
    if (read_line("/proc/sys/kernel/core_pattern", found, sizeof found))
        line("core dumps go to", true, found[0] ? found : "nowhere", NULL);
    if (read_line("/proc/sys/user/max_user_namespaces", found, sizeof found))
        line("user namespaces", strcmp(found, "0") != 0, found, "sysctl user.max_user_namespaces=10000");
}

int cli_doctor(int argc, char **argv)
{
    static const char usage[] = "doctor [--walls]\n  what this machine can and cannot do; --walls: the sandbox's walls "
                                "alone, as airlock policy init takes them";
    struct cli_option o[] = {{.name = "walls", .is_flag = true}};
    const char *rest[1];
    size_t count;
    unsigned walls;

    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return cli_help(usage);
    if (!cli_options(argc, argv, o, 1, rest, 0, &count))
        return cli_usage(usage);
    walls = common_walls();
    if (o[0].count)
        return print_walls(walls);
    check_kernel();
    check_landlock();
    for (size_t i = 0; i < POLICY_STAGE_COUNT; i++)
        line(wall_names[i], walls & 1u << i,
             walls & 1u << i ? "this wall can be built" : "this wall cannot be built here",
             "leave it out of the policy's walls, or run where it can be built");
    check_limit("locked memory", RLIMIT_MEMLOCK, false, "LimitMEMLOCK=infinity: keys and weights could be swapped");
    check_limit("core size", RLIMIT_CORE, true, NULL);
    check_swap();
    check_processor();
    check_evidence();
    return CLI_OK;
}
