/* Landlock, by its own numbers: Debian 12's header stops at ABI 2, the kernel is asked at run time (landlock(7)). */
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tunnel/sandbox_parts.h"

enum {
    FS_EXECUTE = 1 << 0,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4,
    FS_REMOVE_FILE = 1 << 5,
    FS_MAKE_DIR = 1 << 7,
    FS_MAKE_REG = 1 << 8,
    FS_MAKE_SOCK = 1 << 9,
    FS_ABI1 = (1 << 13) - 1, /* everything of ABI 1 */
    FS_REFER = 1 << 13,      /* ABI 2 */
    FS_TRUNCATE = 1 << 14,   /* ABI 3 */
    FS_IOCTL_DEV = 1 << 15,  /* ABI 5 */
    FS_OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
    NET_BIND_TCP = 1 << 0, /* ABI 4 */
    NET_CONNECT_TCP = 1 << 1,
    SCOPE_ABSTRACT_UNIX = 1 << 0, /* ABI 6; its signal scope would also stop SIGKILL at a parent's death */
    CREATE_VERSION = 1 << 0,
    RULE_PATH_BENEATH = 1,
};

struct ruleset {
    uint64_t fs, net, scope;
};
struct path_rule {
    uint64_t access;
    int32_t fd;
} __attribute__((packed));

static long create_ruleset(const struct ruleset *r, size_t size, uint32_t flags)
{
    return syscall(SYS_landlock_create_ruleset, r, size, flags);
}

static uint64_t fs_handled(long abi)
{
    uint64_t fs = FS_ABI1;
    if (abi >= 2)
        fs |= FS_REFER;
    if (abi >= 3)
        fs |= FS_TRUNCATE;
    if (abi >= 5)
        fs |= FS_IOCTL_DEV;
    return fs;
}

static uint64_t net_handled(enum sandbox_profile profile)
{
    if (profile == SANDBOX_ENGINE || profile == SANDBOX_ATTESTER)
        return NET_BIND_TCP | NET_CONNECT_TCP;
    return profile == SANDBOX_TUNNEL ? NET_BIND_TCP : 0;
}

static uint64_t fs_granted(unsigned access)
{
    uint64_t fs = 0;
    if (access & (SANDBOX_READ | SANDBOX_DEVICE))
        fs |= FS_READ_FILE | FS_READ_DIR;
    if (access & SANDBOX_WRITE)
        fs |= FS_WRITE_FILE | FS_TRUNCATE | FS_MAKE_REG | FS_MAKE_DIR | FS_MAKE_SOCK | FS_REMOVE_FILE | FS_REMOVE_DIR |
              FS_REFER;
    if (access & SANDBOX_DEVICE)
        fs |= FS_WRITE_FILE | FS_IOCTL_DEV;
    return fs;
}

/* 0 or an errno; a path that does not exist grants nothing. */
static int grant(int ruleset, uint64_t handled, const struct sandbox_path *path)
{
    struct stat st;
    struct path_rule rule = {.access = fs_granted(path->access) & handled};
    rule.fd = open(path->path, O_PATH | O_CLOEXEC);
    if (rule.fd < 0)
        return errno == ENOENT || errno == EACCES ? 0 : errno;
    int err = 0;
    if (fstat(rule.fd, &st) != 0)
        err = errno;
    else if (!S_ISDIR(st.st_mode))
        rule.access &= FS_OF_FILES;
    if (!err && syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) != 0)
        err = errno;
    close(rule.fd);
    return err;
}

static int grant_all(int ruleset, uint64_t handled, const struct sandbox_path *paths, size_t count)
{
    int err = 0;
    for (size_t i = 0; i < count && !err; i++)
        err = grant(ruleset, handled, &paths[i]);
    return err;
}

/* What libc, OpenSSL and the kernels' choice of code read while a program starts. */
static const struct sandbox_path start_paths[] = {
    {"/usr/lib", SANDBOX_READ},
    {"/lib", SANDBOX_READ},
    {"/lib64", SANDBOX_READ},
    {"/usr/share/zoneinfo", SANDBOX_READ},
    {"/etc/ld.so.cache", SANDBOX_READ},
    {"/etc/localtime", SANDBOX_READ},
    {"/etc/ssl/openssl.cnf", SANDBOX_READ},
    {"/etc/resolv.conf", SANDBOX_READ},
    {"/etc/hosts", SANDBOX_READ},
    {"/etc/nsswitch.conf", SANDBOX_READ},
    {"/proc/self", SANDBOX_READ},
    {"/proc/cpuinfo", SANDBOX_READ},
    {"/proc/meminfo", SANDBOX_READ},
    {"/sys/devices/system", SANDBOX_READ},
    {"/dev/null", SANDBOX_READ | SANDBOX_WRITE},
    {"/dev/urandom", SANDBOX_READ},
};

int sandbox_landlock(const struct sandbox_config *c, bool loading)
{
    long abi = create_ruleset(NULL, 0, CREATE_VERSION);
    if (abi < 1)
        return abi < 0 ? errno : ENOSYS;
    struct ruleset r = {.fs = fs_handled(abi), .net = net_handled(c->profile), .scope = SCOPE_ABSTRACT_UNIX};
    size_t size = abi >= 6 ? sizeof r : abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
    int fd = (int)create_ruleset(&r, size, 0);
    if (fd < 0)
        return errno;
    int err = grant_all(fd, r.fs, c->serve, c->serve_count);
    if (!err && loading)
        err = grant_all(fd, r.fs, c->load, c->load_count);
    if (!err && loading)
        err = grant_all(fd, r.fs, start_paths, sizeof start_paths / sizeof *start_paths);
    if (!err && syscall(SYS_landlock_restrict_self, fd, 0) != 0)
        err = errno;
    close(fd);
    return err;
}
