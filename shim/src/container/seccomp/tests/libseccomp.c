/* Compiles seccomp rules with libseccomp, as runc drives it, for the tests beside this file.
 *
 * Commands are lines on the standard input; each answer is one line on the standard output.
 *
 *   resolve ARCH NAME            the number, or -1 where libseccomp knows no such name; below -1 pseudo numbers
 *   name ARCH NUMBER             the name, or -
 *   begin DEFAULT ARCH           a new filter for that architecture alone
 *   arch ARCH                    one more architecture
 *   rule ACTION NAME COUNT [INDEX OP A B]...
 *   export                       CODE JT JF K for each instruction; or: refused ERROR
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static scmp_filter_ctx filter;
static int refused;

static void note(int result)
{
	if (result < 0 && refused == 0)
		refused = result;
}

static uint64_t number(void)
{
	char *word = strtok(NULL, " ");
	return word ? strtoull(word, NULL, 10) : 0;
}

static void begin(void)
{
	uint32_t action = number(), native = number();
	if (filter)
		seccomp_release(filter);
	refused = 0;
	filter = seccomp_init(action);
	if (!filter)
		exit(2);
	/* As runc does it; the descriptor of a listener is not at stake here. */
	note(seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0));
	if (native == seccomp_arch_native())
		return;
	note(seccomp_arch_add(filter, native));
	note(seccomp_arch_remove(filter, SCMP_ARCH_NATIVE));
}

static void rule(void)
{
	uint32_t action = number();
	char *name = strtok(NULL, " ");
	unsigned int count = number(), at;
	struct scmp_arg_cmp args[6];
	for (at = 0; at < count && at < 6; at++) {
		args[at].arg = number();
		args[at].op = number();
		args[at].datum_a = number();
		args[at].datum_b = number();
	}
	int call = seccomp_syscall_resolve_name(name);
	if (call != __NR_SCMP_ERROR)
		note(seccomp_rule_add_array(filter, action, call, at, args));
}

static void export(void)
{
	struct { uint16_t code; uint8_t jt, jf; uint32_t k; } one;
	if (refused) {
		printf("refused %d\n", refused);
		return;
	}
	int file = memfd_create("filter", 0);
	if (file < 0 || seccomp_export_bpf(filter, file) < 0 || lseek(file, 0, SEEK_SET) < 0)
		exit(3);
	while (read(file, &one, sizeof(one)) == sizeof(one))
		printf("%u %u %u %u ", one.code, one.jt, one.jf, one.k);
	putchar('\n');
	close(file);
}

int main(void)
{
	char *line = NULL;
	size_t size = 0;
	while (getline(&line, &size, stdin) > 0) {
		line[strcspn(line, "\n")] = 0;
		char *command = strtok(line, " ");
		if (!command)
			continue;
		if (!strcmp(command, "resolve")) {
			uint32_t arch = number();
			printf("%d\n", seccomp_syscall_resolve_name_arch(arch, strtok(NULL, " ")));
		} else if (!strcmp(command, "name")) {
			uint32_t arch = number();
			char *name = seccomp_syscall_resolve_num_arch(arch, (int)number());
			printf("%s\n", name ? name : "-");
			free(name);
		} else if (!strcmp(command, "begin")) {
			begin();
		} else if (!strcmp(command, "arch")) {
			int result = seccomp_arch_add(filter, number());
			if (result != -17)
				note(result);
		} else if (!strcmp(command, "rule")) {
			rule();
		} else if (!strcmp(command, "export")) {
			export();
		}
		fflush(stdout);
	}
	return 0;
}
