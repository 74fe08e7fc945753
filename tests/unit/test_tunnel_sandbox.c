/* From inside each profile: what must be refused is refused, what must work works. Every case runs in a child, because
 * a sandbox is for ever. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"
#include "tunnel/sandbox.h"

#define SOFT (SANDBOX_SECCOMP | SANDBOX_NO_DUMPS | SANDBOX_NO_NEW_PRIVS)

static char work[] = "/tmp/sandbox-test-XXXXXX"; /* world-readable folder with one file */
static char inside[64];
static int pair[2]; /* pair[1] is what the engine inherits */

static void prepare(void)
{
    ck_assert(mkdtemp(work) != NULL);
    ck_assert_int_eq(chmod(work, 0755), 0);
    snprintf(inside, sizeof inside, "%s/model", work);
    int fd = open(inside, O_CREAT | O_WRONLY, 0644);
    ck_assert(fd >= 0 && write(fd, "weights", 7) == 7);
    close(fd);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void clean(void)
{
    unlink(inside);
    rmdir(work);
}

/* Run `body` in a child, as root or as an ordinary user. Its result: 0, or the number of the line that failed. */
static int in_child(int (*body)(void), bool ordinary)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (ordinary && geteuid() == 0 && (setgid(12345) != 0 || setuid(12345) != 0 || prctl(PR_SET_DUMPABLE, 1) != 0))
            _exit(255);
        int line = body();
        if (line)
            fprintf(stderr, "%s:%d failed, errno %d\n", __FILE__, line, errno);
        _exit(line ? 1 : 0);
    }
    ck_assert(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

#define NEED(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            return __LINE__;                                                                                           \
    } while (0)
#define REFUSED(call) ((errno = 0), (call) == -1 && (errno == EPERM || errno == EACCES))

static bool with_device;

static int lock_in(enum sandbox_profile profile, bool seal)
{
    static struct sandbox_path load[1];
    load[0] = (struct sandbox_path){work, SANDBOX_READ};
    struct sandbox_config c = {
        .profile = profile, .required = SOFT, .keep = &pair[1], .keep_count = 1, .device = with_device};
    struct sandbox_problem why;
    c.load = load;
    c.load_count = 1;
    if (sandbox_enter(&c, &why) != 0 || (seal && sandbox_seal(&c, &why) != 0)) {
        fprintf(stderr, "%s\n", why.text);
        return -1;
    }
    return 0;
}

static int no_new_processes(void)
{
    char *argv[] = {"/bin/true", NULL};
    NEED(REFUSED(execve("/bin/true", argv, argv + 1)));
    NEED(REFUSED(syscall(SYS_execveat, AT_FDCWD, "/bin/true", argv, argv + 1, 0)));
    NEED(REFUSED(fork()));
    NEED(REFUSED(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)));
    NEED(REFUSED(syscall(SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_FILES | CLONE_NEWNET, 0, 0, 0, 0)));
    struct clone_args args = {.exit_signal = SIGCHLD};
    NEED(syscall(SYS_clone3, &args, sizeof args) == -1 && errno == ENOSYS);
#ifdef SYS_vfork
    NEED(REFUSED(syscall(SYS_vfork)));
#endif
    NEED(REFUSED(kill(getppid(), 0)));
    NEED(REFUSED(syscall(SYS_tgkill, getppid(), getppid(), 0)));
    return 0;
}

static int no_kernel_tricks(void)
{
    char params[256] = {0};
    NEED(REFUSED(syscall(SYS_io_uring_setup, 4, params)));
    NEED(REFUSED(ptrace(PTRACE_TRACEME, 0, 0, 0)));
    NEED(REFUSED(syscall(SYS_bpf, 0, params, sizeof params)));
    NEED(REFUSED(syscall(SYS_userfaultfd, 0)));
    NEED(REFUSED(syscall(SYS_perf_event_open, params, 0, -1, -1, 0)));
    NEED(REFUSED(syscall(SYS_memfd_create, "x", 0)));
    NEED(REFUSED(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0)));
    NEED(REFUSED(syscall(SYS_pidfd_getfd, 0, 0, 0)));
    NEED(REFUSED(syscall(SYS_pidfd_open, getppid(), 0)));
    NEED(REFUSED(unshare(CLONE_NEWUSER)));
    NEED(REFUSED(setns(0, 0)));
    NEED(REFUSED(syscall(SYS_keyctl, 0, 0, 0, 0, 0)));
    return 0;
}

static int no_executable_memory(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(page != MAP_FAILED);
    NEED(REFUSED(mprotect(page, 4096, PROT_READ | PROT_EXEC)));
    NEED(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EPERM);
    return 0;
}

static int no_sockets_at_all(void)
{
    int two[2];
    char byte = 0;
    struct msghdr message = {0};
    struct sockaddr address = {.sa_family = AF_UNIX};
    for (int family = 0; family < 46; family++)
        for (int kind = SOCK_STREAM; kind <= SOCK_SEQPACKET; kind++)
            NEED(REFUSED(socket(family, kind, 0)));
    NEED(REFUSED(socketpair(AF_UNIX, SOCK_STREAM, 0, two)));
    NEED(REFUSED(connect(pair[1], &address, sizeof address)));
    NEED(REFUSED(bind(pair[1], &address, sizeof address)));
    NEED(REFUSED(listen(pair[1], 1)));
    NEED(REFUSED(accept(pair[1], NULL, NULL)));
    NEED(REFUSED(sendmsg(pair[1], &message, 0)));
    NEED(REFUSED(recvmsg(pair[1], &message, 0)));
    NEED(REFUSED(send(pair[1], &byte, 1, 0)));
    NEED(REFUSED(recv(pair[1], &byte, 1, MSG_DONTWAIT)));
    return 0;
}

static int no_files(void)
{
    struct stat st;
    NEED(REFUSED(open("/etc/passwd", O_RDONLY)));
    NEED(REFUSED(open(inside, O_RDONLY)));
    NEED(REFUSED(open("/tmp/sandbox-made", O_CREAT | O_WRONLY, 0600)));
    NEED(REFUSED(stat("/etc/passwd", &st)));
    NEED(REFUSED(unlink(inside)));
    NEED(REFUSED(mkdir("/tmp/sandbox-made", 0700)));
    return 0;
}

static void *set_true(void *flag)
{
    *(bool *)flag = true;
    return NULL;
}

static int threads_and_link_work(void)
{
    pthread_t thread;
    bool ran = false;
    char got[8] = {0};
    NEED(pthread_create(&thread, NULL, set_true, &ran) == 0);
    NEED(pthread_join(thread, NULL) == 0 && ran);
    NEED(write(pair[1], "ping", 4) == 4);
    NEED(read(pair[1], got, sizeof got) == 4 && memcmp(got, "pong", 4) == 0);
    return 0;
}

static int engine_body(void)
{
    if (write(pair[0], "pong", 4) != 4 || lock_in(SANDBOX_ENGINE, true) != 0)
        return __LINE__;
    int line = threads_and_link_work();
    if (!line)
        line = no_sockets_at_all();
    if (!line)
        line = no_files();
    if (!line)
        line = no_new_processes();
    if (!line)
        line = no_kernel_tricks();
    if (!line)
        line = no_executable_memory();
    unsigned on = sandbox_stage(), want = SOFT | SANDBOX_UNPRIVILEGED;
    NEED((on & want) == want);
    return line;
}

START_TEST(engine_is_locked_in)
{
    ck_assert_int_eq(in_child(engine_body, _i == 1), 0);
}
END_TEST

static int loading_body(void)
{
    char got[8] = {0};
    if (lock_in(SANDBOX_ENGINE, false) != 0)
        return __LINE__;
    int fd = open(inside, O_RDONLY);
    NEED(fd >= 0 && read(fd, got, 7) == 7 && memcmp(got, "weights", 7) == 0);
    if (sandbox_stage() & SANDBOX_LANDLOCK) {
        NEED(REFUSED(open(inside, O_RDWR)));
        NEED(REFUSED(open("/etc/passwd", O_RDONLY)));
        NEED(REFUSED(open("/tmp/sandbox-made", O_CREAT | O_WRONLY, 0600)));
    }
    NEED(fcntl(pair[0], F_GETFD) == -1 && errno == EBADF); /* not kept: closed */
    NEED(REFUSED(socket(AF_INET, SOCK_STREAM, 0)));
    int line = no_new_processes();
    return line;
}

/* With a GPU the driver's ioctls reach the kernel (which knows none of them for this pair), no other does. */
static int device_child(void)
{
    with_device = true;
    NEED(lock_in(SANDBOX_ENGINE, true) == 0);
    NEED(!REFUSED(ioctl(pair[1], 'F' << 8 | 0x2a)));
    NEED(!REFUSED(ioctl(pair[1], 0xc020462bu)));
    NEED(!REFUSED(ioctl(pair[1], 25)));
    NEED(!REFUSED(ioctl(pair[1], 0x30000001)));
    NEED(REFUSED(ioctl(2, TIOCSTI, "x")));
    NEED(REFUSED(ioctl(pair[1], FIONBIO, &(int){1})));
    NEED(REFUSED(ioctl(pair[1], SIOCATMARK, &(int){1})));
    NEED(REFUSED(socket(AF_INET, SOCK_STREAM, 0)));
    NEED(REFUSED(open("/dev/null", O_RDONLY)));
    return 0;
}

static int no_device_child(void)
{
    NEED(lock_in(SANDBOX_ENGINE, true) == 0);
    NEED(REFUSED(ioctl(pair[1], 'F' << 8 | 0x2a)));
    NEED(REFUSED(ioctl(pair[1], 25)));
    return 0;
}

START_TEST(a_gpu_adds_its_ioctls_alone)
{
    ck_assert_int_eq(in_child(device_child, _i), 0);
    ck_assert_int_eq(in_child(no_device_child, _i), 0);
}
END_TEST

START_TEST(loading_reaches_the_model_only)
{
    ck_assert_int_eq(in_child(loading_body, _i == 1), 0);
}
END_TEST

static int tunnel_body(void)
{
    if (lock_in(SANDBOX_TUNNEL, true) != 0)
        return __LINE__;
    NEED(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) >= 0);
    int udp = socket(AF_INET6, SOCK_DGRAM, 0);
    NEED(udp >= 0 || errno == EAFNOSUPPORT);
    NEED(REFUSED(socket(AF_INET, SOCK_RAW, 1)));
    NEED(REFUSED(socket(AF_NETLINK, SOCK_RAW, 0)));
    NEED(REFUSED(socket(AF_UNIX, SOCK_STREAM, 0)));
    NEED(REFUSED(socket(AF_PACKET, SOCK_RAW, 0)));
    NEED(REFUSED(listen(pair[1], 1)));
    NEED(REFUSED(recvmsg(pair[1], NULL, 0)));
    int line = no_new_processes();
    if (!line)
        line = no_kernel_tricks();
    return line ? line : no_executable_memory();
}

START_TEST(tunnel_dials_inet_only)
{
    ck_assert_int_eq(in_child(tunnel_body, _i == 1), 0);
}
END_TEST

static int proxy_body(void)
{
    if (lock_in(SANDBOX_PROXY, true) != 0)
        return __LINE__;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    NEED(fd >= 0 && listen(fd, 1) == 0);
    NEED(REFUSED(socket(AF_NETLINK, SOCK_RAW, 0)));
    NEED(REFUSED(open(inside, O_RDONLY)) || !(sandbox_stage() & SANDBOX_LANDLOCK));
    int line = no_new_processes();
    return line ? line : no_kernel_tricks();
}

START_TEST(proxy_listens_but_opens_nothing)
{
    ck_assert_int_eq(in_child(proxy_body, _i == 1), 0);
}
END_TEST

static int to_thread[2], from_thread[2];

static void *open_a_socket(void *unused)
{
    char go;
    (void)unused;
    if (read(to_thread[0], &go, 1) != 1)
        return NULL;
    char verdict = REFUSED(socket(AF_INET, SOCK_STREAM, 0)) && REFUSED(open(inside, O_RDONLY)) && geteuid() != 0;
    ssize_t sent = write(from_thread[1], &verdict, 1);
    return sent == 1 ? NULL : unused;
}

/* A thread that started before the second stage is under its filter and uid too. */
static int early_thread_body(void)
{
    struct sandbox_config c = {.profile = SANDBOX_ENGINE, .required = SOFT};
    struct sandbox_problem why;
    pthread_t thread;
    char verdict = 0;
    NEED(sandbox_enter(&c, &why) == 0);
    NEED(pipe2(to_thread, O_CLOEXEC) == 0 && pipe2(from_thread, O_CLOEXEC) == 0);
    NEED(pthread_create(&thread, NULL, open_a_socket, NULL) == 0);
    NEED(sandbox_seal(&c, &why) == 0);
    NEED(write(to_thread[1], "g", 1) == 1);
    NEED(read(from_thread[0], &verdict, 1) == 1 && verdict == 1);
    return 0;
}

START_TEST(early_threads_are_sealed)
{
    ck_assert_int_eq(in_child(early_thread_body, _i == 1), 0);
}
END_TEST

static int everything_body(void)
{
    struct sandbox_config c = {.profile = SANDBOX_ENGINE, .required = SANDBOX_ALL};
    struct sandbox_problem why;
    if (sandbox_enter(&c, &why) == 0 && sandbox_seal(&c, &why) == 0)
        return sandbox_stage() == SANDBOX_ALL ? 0 : __LINE__;
    /* A machine that lacks something (a chroot: user namespaces) must say which and what to do. */
    fprintf(stderr, "this machine: %s\n", why.text);
    NEED(why.missing != 0 && why.text[0] != 0);
    NEED(strstr(why.text, ". ") != NULL);
    return 0;
}

START_TEST(all_parts_or_a_named_one)
{
    ck_assert_int_eq(in_child(everything_body, _i == 1), 0);
}
END_TEST

/* From here on the kernel knows no system call `nr`. */
static bool forbid(uint32_t nr)
{
    struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                                 BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
                                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

/* The wide wall of loading is up, the strict one fails: that is no stage to go on with, required or not. */
static int half_a_wall(uint32_t nr, unsigned part)
{
    struct sandbox_config c = {.profile = SANDBOX_ENGINE};
    struct sandbox_problem why;
    NEED(sandbox_enter(&c, &why) == 0);
    if (!(sandbox_stage() & part)) {
        printf("SKIP: this machine lacks %s\n", part == SANDBOX_SECCOMP ? "seccomp" : "Landlock");
        fflush(stdout);
        return 0;
    }
    NEED(forbid(nr));
    NEED(sandbox_seal(&c, &why) == -1);
    NEED(why.missing == part && strstr(why.text, ". ") != NULL);
    return 0;
}

static int half_a_filter(void)
{
    return half_a_wall(SYS_seccomp, SANDBOX_SECCOMP);
}

static int half_a_landlock(void)
{
    return half_a_wall(SYS_landlock_create_ruleset, SANDBOX_LANDLOCK);
}

START_TEST(a_wall_for_loading_is_not_the_strict_one)
{
    ck_assert_int_eq(in_child(half_a_filter, _i == 1), 0);
    ck_assert_int_eq(in_child(half_a_landlock, _i == 1), 0);
}
END_TEST

START_TEST(stage_has_words)
{
    char text[128], small[8];
    sandbox_stage_text(SANDBOX_NAMESPACES | SANDBOX_NO_SWAP, text, sizeof text);
    ck_assert_str_eq(text, "namespaces, no swap");
    sandbox_stage_text(SANDBOX_ALL, small, sizeof small);
    ck_assert_str_eq(small, "namespa");
    sandbox_stage_text(0, text, sizeof text);
    ck_assert_str_eq(text, "");
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_unchecked_fixture(t, prepare, clean);
    tcase_add_loop_test(t, engine_is_locked_in, 0, 2);
    tcase_add_loop_test(t, a_gpu_adds_its_ioctls_alone, 0, 2);
    tcase_add_loop_test(t, loading_reaches_the_model_only, 0, 2);
    tcase_add_loop_test(t, tunnel_dials_inet_only, 0, 2);
    tcase_add_loop_test(t, proxy_listens_but_opens_nothing, 0, 2);
    tcase_add_loop_test(t, early_threads_are_sealed, 0, 2);
    tcase_add_loop_test(t, all_parts_or_a_named_one, 0, 2);
    tcase_add_loop_test(t, a_wall_for_loading_is_not_the_strict_one, 0, 2);
    tcase_add_test(t, stage_has_words);
}

RUN("tunnel_sandbox", add_tests)
