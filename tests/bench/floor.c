/* The floor of `run`: the system calls that a container with the default specification cannot do without, and nothing
 * else. No configuration is read, nothing is checked, nothing is undone on failure.
 *
 * usage: floor ROOTFS GROUP PROGRAM [FILTER]
 *   GROUP    below every cgroup hierarchy that is mounted in /sys/fs/cgroup, made and removed
 *   FILTER   a file with a compiled seccomp program, installed last
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void need(long result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
		_exit(125);
	}
}

static int is_v2(void)
{
	return access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
}

/* Every hierarchy's directory for the group. */
static glob_t groups(const char *name, int make)
{
	glob_t found;
	glob(is_v2() ? "/sys/fs/cgroup/cgroup.procs" : "/sys/fs/cgroup/*/cgroup.procs", 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char *path;
		size_t root = strlen(found.gl_pathv[i]) - strlen("/cgroup.procs");
		need(asprintf(&path, "%.*s/%s", (int)root, found.gl_pathv[i], name), "memory");
		if (make)
			need(mkdir(path, 0755) < 0 && errno != EEXIST ? -1 : 0, path);
		free(found.gl_pathv[i]);
		found.gl_pathv[i] = path;
	}
	return found;
}

static void copy(const char *group, const char *file)
{
	char from[512], to[512], value[256];
	snprintf(from, sizeof from, "%.*s/%s", (int)(strrchr(group, '/') - group), group, file);
	snprintf(to, sizeof to, "%s/%s", group, file);
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY);
	ssize_t length = in < 0 ? -1 : read(in, value, sizeof value);
	if (out >= 0 && length > 0)
		need(write(out, value, length), to);
	close(in);
	close(out);
}

/* The default specification denies every device, and the runtime-spec wants some allowed (config-linux.md, Default
 * Devices); nodes may be made of all. */
static const char *const rules[] = {
	"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm",
	"c 136:* rwm",
};

static void restrict_v1(const char *group)
{
	char path[512];
	snprintf(path, sizeof path, "%s/devices.deny", group);
	int deny = open(path, O_WRONLY | O_CLOEXEC);
	if (deny < 0)
		return;
	need(write(deny, "a", 1), path);
	close(deny);
	snprintf(path, sizeof path, "%s/devices.allow", group);
	int allow = open(path, O_WRONLY | O_CLOEXEC);
	need(allow, path);
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		need(write(allow, rules[i], strlen(rules[i])), rules[i]);
	close(allow);
}

/* The same rules as a program. */
static void restrict_v2(int group)
{
#define INSN(c, d, s, o, i) {.code = c, .dst_reg = d, .src_reg = s, .off = o, .imm = i}
#define LOAD(d, field) INSN(BPF_LDX | BPF_MEM | BPF_W, d, 1, offsetof(struct bpf_cgroup_dev_ctx, field), 0)
#define SET(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define JUMP(how, d, i, o) INSN(BPF_JMP | how | BPF_K, d, 0, o, i)
#define EXIT INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
	const struct bpf_insn program[] = {
		LOAD(2, access_type), LOAD(3, major), LOAD(4, minor),
		SET(0, 1),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 5, 2, 0, 0),
		INSN(BPF_ALU64 | BPF_RSH | BPF_K, 5, 0, 0, 16),
		JUMP(BPF_JEQ, 5, BPF_DEVCG_ACC_MKNOD, 12),
		INSN(BPF_ALU64 | BPF_AND | BPF_K, 2, 0, 0, 0xffff),
		JUMP(BPF_JNE, 2, BPF_DEVCG_DEV_CHAR, 9),
		JUMP(BPF_JEQ, 3, 136, 9),
		JUMP(BPF_JNE, 3, 5, 2),
		JUMP(BPF_JEQ, 4, 0, 7),
		JUMP(BPF_JEQ, 4, 2, 6),
		JUMP(BPF_JNE, 3, 1, 4),
		JUMP(BPF_JGT, 4, 9, 3),
		SET(0, 1 << 3 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9),
		INSN(BPF_ALU64 | BPF_RSH | BPF_X, 0, 4, 0, 0),
		JUMP(BPF_JA, 0, 0, 1),
		SET(0, 0),
		INSN(BPF_ALU64 | BPF_AND | BPF_K, 0, 0, 0, 1),
		EXIT,
	};
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (unsigned long)program,
		.insn_cnt = sizeof program / sizeof *program, .license = (unsigned long)"",
	};
	int loaded = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
	need(loaded, "load the device program");
	union bpf_attr attach = {
		.target_fd = group, .attach_bpf_fd = loaded, .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI,
	};
	need(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach), "attach the device program");
	close(loaded);
}

/* On v1 only: a child of v2 is born in its group. */
static void enter(const char *group)
{
	char path[512];
	restrict_v1(group);
	/* A v1 cpuset takes nobody before it has processors and memory. */
	copy(group, "cpuset.cpus");
	copy(group, "cpuset.mems");
	/* A process of one thread that moves itself through tasks is spared the wait for an RCU grace period. */
	snprintf(path, sizeof path, "%s/tasks", group);
	int members = open(path, O_WRONLY | O_CLOEXEC);
	need(members, path);
	need(write(members, "0", 1), path);
	close(members);
}

static const struct device { const char *path; int mode, major, minor; } devices[] = {
	{"dev/null", 0666, 1, 3}, {"dev/zero", 0666, 1, 5}, {"dev/full", 0666, 1, 7},
	{"dev/random", 0666, 1, 8}, {"dev/urandom", 0666, 1, 9}, {"dev/tty", 0666, 5, 0},
};
static const char *const masked[] = {
	"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
	"/proc/sched_debug", "/proc/scsi", "/proc/asound", "/sys/firmware",
};
static const char *const readonly[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

/* The container's groups where it looks for them. */
static void show_groups(const glob_t *all)
{
	const unsigned long safe = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	if (is_v2()) {
		need(unshare(CLONE_NEWCGROUP), "cgroup namespace");
		need(mount("cgroup", "sys/fs/cgroup", "cgroup2", safe | MS_RDONLY, NULL), "cgroup2");
		return;
	}
	need(mount("cgroup", "sys/fs/cgroup", "tmpfs", safe, "mode=755,size=64k"), "cgroup");
	for (size_t i = 0; i < all->gl_pathc; i++) {
		const char *name = all->gl_pathv[i] + strlen("/sys/fs/cgroup/");
		char path[256];
		snprintf(path, sizeof path, "sys/fs/cgroup/%.*s", (int)strcspn(name, "/"), name);
		need(mkdir(path, 0755), path);
		need(mount(all->gl_pathv[i], path, NULL, MS_BIND, NULL), path);
		need(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | safe, NULL), path);
	}
}

static void mounts(const char *rootfs, const glob_t *all)
{
	const unsigned long safe = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	need(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
	need(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL), rootfs);
	need(chdir(rootfs), rootfs);
	need(mount("proc", "proc", "proc", safe, NULL), "proc");
	need(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "dev");
	need(mkdir("dev/pts", 0755), "dev/pts");
	need(mkdir("dev/shm", 0755), "dev/shm");
	need(mkdir("dev/mqueue", 0755), "dev/mqueue");
	need(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"), "pts");
	need(mount("shm", "dev/shm", "tmpfs", safe, "mode=1777,size=65536k"), "shm");
	need(mount("mqueue", "dev/mqueue", "mqueue", safe, NULL), "mqueue");
	need(mount("sysfs", "sys", "sysfs", safe | MS_RDONLY, NULL), "sysfs");
	show_groups(all);
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
		const struct device *one = &devices[i];
		need(mknod(one->path, S_IFCHR | one->mode, makedev(one->major, one->minor)), one->path);
	}
	need(symlink("pts/ptmx", "dev/ptmx"), "ptmx");
	need(symlink("/proc/self/fd", "dev/fd"), "fd");
	need(symlink("/proc/self/fd/0", "dev/stdin"), "stdin");
	need(symlink("/proc/self/fd/1", "dev/stdout"), "stdout");
	need(symlink("/proc/self/fd/2", "dev/stderr"), "stderr");
	need(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	need(umount2(".", MNT_DETACH), "umount");
	need(chdir("/"), "/");
	for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
		struct stat found;
		if (stat(masked[i], &found) < 0)
			continue;
		if (S_ISDIR(found.st_mode))
			need(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "size=0k"), masked[i]);
		else
			need(mount("/dev/null", masked[i], NULL, MS_BIND, NULL), masked[i]);
	}
	for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++) {
		if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) < 0)
			continue;
		need(mount(NULL, readonly[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | safe, NULL), readonly[i]);
	}
	need(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), "read-only root");
}

/* Nothing in a new network namespace reaches even itself before that. */
static void loopback(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	need(any, "socket");
	need(ioctl(any, SIOCSIFFLAGS, &lo), "lo");
	close(any);
}

static void privileges(void)
{
	const unsigned keep = 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
	for (int number = 0; number <= CAP_LAST_CAP; number++)
		if (number > 31 || !(keep >> number & 1))
			prctl(PR_CAPBSET_DROP, number, 0, 0, 0);
	need(syscall(SYS_setgroups, 0, NULL), "setgroups");
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{keep, keep, 0}, {0, 0, 0}};
	need(syscall(SYS_capset, &head, data), "capset");
}

static struct sock_filter program[4096];
static struct sock_fprog filter = {0, program};

static void load(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	need(file, path);
	ssize_t length = read(file, program, sizeof program);
	need(length, path);
	close(file);
	filter.len = length / sizeof *program;
}

int main(int count, char **words)
{
	if (count < 4) {
		fprintf(stderr, "usage: floor ROOTFS GROUP PROGRAM [FILTER]\n");
		return 125;
	}
	if (count > 4)
		load(words[4]);
	glob_t all = groups(words[2], 1);
	struct clone_args args = {0};
	args.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
	args.exit_signal = SIGCHLD;
	int v2 = is_v2();
	if (v2) {
		int group = open(all.gl_pathv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		need(group, all.gl_pathv[0]);
		restrict_v2(group);
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = group;
	}
	long pid = syscall(SYS_clone3, &args, sizeof args);
	need(pid, "clone3");
	if (pid == 0) {
		for (size_t i = 0; !v2 && i < all.gl_pathc; i++)
			enter(all.gl_pathv[i]);
		loopback();
		mounts(words[1], &all);
		need(sethostname("floor", 5), "sethostname");
		const struct rlimit files = {1024, 1024};
		need(setrlimit(RLIMIT_NOFILE, &files), "RLIMIT_NOFILE");
		need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
		privileges();
		if (filter.len > 0)
			need(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter), "seccomp");
		char *const arguments[] = {words[3], NULL}, *const environment[] = {"PATH=/bin", NULL};
		execve(words[3], arguments, environment);
		need(-1, words[3]);
	}
	int status = 0;
	need(waitpid(pid, &status, 0), "waitpid");
	for (size_t i = 0; i < all.gl_pathc; i++)
		rmdir(all.gl_pathv[i]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
