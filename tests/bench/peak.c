/* Runs a command and appends to a file how much memory its largest process had at most, in kB:
 *   peak FILE COMMAND [ARGUMENT...]
 * It is small itself, since the peak of a process is at least that of the one which started it; getrusage(2), ru_maxrss.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words)
{
	if (count < 3)
		return 125;
	pid_t pid = vfork();
	if (pid == 0) {
		execvp(words[2], words + 2);
		_exit(127);
	}
	int status;
	struct rusage usage;
	if (pid < 0 || wait4(pid, &status, 0, &usage) < 0)
		return 125;
	FILE *file = fopen(words[1], "a");
	if (!file || fprintf(file, "%ld\n", usage.ru_maxrss) < 0 || fclose(file) != 0)
		return 125;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
