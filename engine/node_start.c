/* From configuration to a locked-in process: read, fork the attester, start the tunnel, enter the sandbox. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/defaults.h"
#include "engine/node_parts.h"
#include "kernels/kernels.h"
#include "policy/policy.h"

/* Demanded whatever the policy says. */
#define ALWAYS ((unsigned)(SANDBOX_SECCOMP | SANDBOX_NO_DUMPS | SANDBOX_NO_NEW_PRIVS))

enum { TUNNEL_LINK_AT = 3, TUNNEL_ATTESTER_AT = 4, DOCUMENTS_MAX = 4 << 20, TEMPLATE_MAX = 1 << 20 };

static bool fail(struct node *n, const char *what, const char *why)
{
    node_end(n, NODE_EXIT_START, "%s: %s", what, why);
    return false;
}

static bool read_file(struct node *n, const char *path, struct writer *w)
{
    uint8_t buf[8192];
    FILE *f = fopen(path, "re");
    if (!f)
        return fail(n, path, strerror(errno));
    for (size_t len; (len = fread(buf, 1, sizeof buf, f)) > 0;)
        writer_bytes(w, span_of(buf, len));
    bool ok = !ferror(f) && writer_ok(w);
    fclose(f);
    return ok || fail(n, path, "cannot be read, or is too long");
}

static bool fork_attester(struct node *n)
{
    const struct kern_ops *ops = kern_ops_find(NULL);
    struct writer text = writer_with_max(60 << 10);
    if (!ops)
        return fail(n, "AIRLOCK_CPU", "names kernels that this processor cannot run; unset it");
    struct attester_config c = {.role = VERIFIER_ENGINE,
                                .program = "airlock-engine",
                                .version = AIRLOCK_VERSION,
                                .kernels = strcmp(n->config->device, "cpu") == 0 ? ops->name : n->config->device,
                                .collateral = n->config->collateral,
                                .producer = attester_producer(),
                                .no_sandbox = !n->config->sandbox};
    char why[256];
    config_print(n->config, &text);
    c.config_text = writer_span(&text);
    bool ok = policy_hex_parse(span_str(n->config->owner), c.owner, sizeof c.owner) &&
              (attester_fork(&c, &n->attester, why) == 0 || fail(n, "the attester did not start", why));
    writer_release(&text);
    return ok;
}

/* --- airlock-tunnel -------------------------------------------------------------------------------------------- */

static bool tunnel_path(char *out, size_t cap)
{
    ssize_t len = readlink("/proc/self/exe", out, cap - 1);
    if (len <= 0)
        return false;
    out[len] = 0;
    char *slash = strrchr(out, '/');
    size_t room = cap - (size_t)(slash + 1 - out);
    return slash && snprintf(slash + 1, room, "airlock-tunnel") < (int)room;
}

/* In the child: exactly 0 to 4 stay open. */
static void exec_tunnel(const char *path, char **argv, int link_fd, int attester_fd, pid_t parent)
{
    int link_high = fcntl(link_fd, F_DUPFD, 16), attester_high = fcntl(attester_fd, F_DUPFD, 16);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || link_high < 0 || attester_high < 0 || dup2(link_high, TUNNEL_LINK_AT) < 0 ||
        dup2(attester_high, TUNNEL_ATTESTER_AT) < 0 || syscall(SYS_close_range, TUNNEL_ATTESTER_AT + 1, ~0u, 0) != 0)
        _exit(126);
    execv(path, argv);
    _exit(127);
}

static bool start_tunnel(struct node *n)
{
    const struct config *c = n->config;
    char path[1024], *argv[4 + 4 * CONFIG_LIST_MAX] = {"airlock-tunnel"};
    int fds[2], argc = 1;
    if (!tunnel_path(path, sizeof path) || access(path, X_OK) != 0)
        return fail(n, "airlock-tunnel", "is not in the folder of airlock-engine; install both together");
    for (size_t i = 0; i < c->proxies.count; i++) {
        argv[argc++] = "--proxy";
        argv[argc++] = (char *)c->proxies.item[i];
    }
    for (size_t i = 0; i < c->keyd.count; i++) {
        argv[argc++] = "--keyd";
        argv[argc++] = (char *)c->keyd.item[i];
    }
    if (tunnel_link_pair(fds) != 0)
        return fail(n, "socket pair", strerror(errno));
    pid_t parent = getpid();
    n->tunnel_pid = fork();
    if (n->tunnel_pid == 0)
        exec_tunnel(path, argv, fds[1], n->attester.peer_fd, parent);
    close(fds[1]);
    close(n->attester.peer_fd);
    n->attester.peer_fd = -1;
    if (n->tunnel_pid < 0)
        return fail(n, "fork", strerror(errno));
    n->link = tunnel_link_open(fds[0], true, node_now_ms());
    return n->link || fail(n, "link", "out of memory");
}

/* --- sandbox ------------------------------------------------------------------------------------------------------ */

static bool show_stage(struct node *n)
{
    enum attester_err err = attester_update_stage(n->attester.owner_fd, sandbox_stage(), &n->stage);
    return err == ATTESTER_OK || fail(n, "the attester does not confirm the sandbox", attester_err_name(err));
}

/* What CUDA's libraries open while the model is loaded; the nodes must exist already, since nothing can be started that
 * would make them. Nothing is written: the cache of compiled kernels is off, and all of ours are loaded at once, for
 * memory can be mapped executable only until the second stage. */
static size_t allow_device(struct node *n, size_t count)
{
    static const char *const nodes[] = {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools",
                                        "/dev/nvidia0",   "/dev/nvidia1",    "/dev/nvidia2",
                                        "/dev/nvidia3",   "/dev/nvidia4",    "/dev/nvidia5",
                                        "/dev/nvidia6",   "/dev/nvidia7",    "/dev/nvidia-caps"};
    static const char *const files[] = {"/proc/driver/nvidia", "/sys/bus/pci", "/sys/devices", "/sys/module",
                                        "/usr/local"};
    _Static_assert(sizeof nodes / sizeof *nodes + sizeof files / sizeof *files < NODE_LOAD_PATHS, "room for all");
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        n->load_path[count++] = (struct sandbox_path){nodes[i], SANDBOX_READ | SANDBOX_DEVICE};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        n->load_path[count++] = (struct sandbox_path){files[i], SANDBOX_READ};
    setenv("CUDA_CACHE_DISABLE", "1", 1);
    setenv("CUDA_MODULE_LOADING", "EAGER", 1);
    return count;
}

static bool enter_sandbox(struct node *n)
{
    struct sandbox_problem why;
    bool device = strcmp(n->config->device, "cpu") != 0;
    n->load_path[0] = (struct sandbox_path){n->config->model, SANDBOX_READ};
    size_t paths = device ? allow_device(n, 1) : 1;
    n->keep[0] = n->attester.owner_fd;
    n->keep[1] = tunnel_link_fd(n->link);
    n->keep[2] = n->wake_fd;
    n->keep[3] = n->log_fd;
    n->sandbox = (struct sandbox_config){.profile = SANDBOX_ENGINE,
                                         .required = ALWAYS | policy_node_policy(n->papers)->engine.sandbox_at_release,
                                         .keep = n->keep,
                                         .keep_count = n->log_fd < 0 ? 3 : 4,
                                         .load = n->load_path,
                                         .load_count = paths,
                                         .device = device};
    if (n->config->sandbox && sandbox_enter(&n->sandbox, &why) != 0)
        return fail(n, "sandbox", why.text);
    return show_stage(n);
}

bool node_seal(struct node *n)
{
    struct sandbox_problem why;
    n->sandbox.required = ALWAYS | policy_node_policy(n->papers)->engine.sandbox_at_serving;
    if (n->config->sandbox && sandbox_seal(&n->sandbox, &why) != 0)
        return fail(n, "sandbox", why.text);
    if (!show_stage(n))
        return false;
    char text[128];
    sandbox_stage_text(n->stage, text, sizeof text);
    node_say("locked in: %s", text);
    return true;
}

static bool read_generation(struct node *n)
{
    struct engine_options o;
    char path[CONFIG_PATH_MAX + 32];
    config_engine_options(n->config, &o);
    n->generation = writer_with_max(ENGINE_DEFAULTS_TEXT_MAX);
    snprintf(path, sizeof path, "%s/generation_config.json", n->config->generation);
    return o.generation != ENGINE_GENERATION_GIVEN || read_file(n, path, &n->generation);
}

bool node_start(struct node *n)
{
    signal(SIGPIPE, SIG_IGN);
    n->documents = writer_with_max(DOCUMENTS_MAX);
    n->template = writer_with_max(TEMPLATE_MAX);
    if (!read_file(n, n->config->policy, &n->documents))
        return false;
    if (!read_generation(n))
        return false;
    if (n->config->chat_template[0] && !read_file(n, n->config->chat_template, &n->template))
        return false;
    n->request = malloc(sizeof *n->request);
    if (!n->request)
        return fail(n, "start", "out of memory");
    if (!fork_attester(n) || !start_tunnel(n) || !node_log_open(n))
        return false;
    n->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (n->wake_fd < 0)
        return fail(n, "eventfd", strerror(errno));
    return node_keys_open(n) && enter_sandbox(n);
}
