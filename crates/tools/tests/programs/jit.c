// Machine code without a file, and its name in /tmp/perf-PID.map, as a JIT compiler does it.
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
#ifdef __x86_64__
	// push rbp; mov rbp, rsp; mov ecx, 1000000; dec ecx; jnz -4; pop rbp; ret
	static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0xb9, 0x40, 0x42, 0x0f, 0x00,
					      0xff, 0xc9, 0x75, 0xfc, 0x5d, 0xc3 };
	void *place = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char path[64];
	FILE *map;

	memcpy(place, code, sizeof(code));
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
	map = fopen(path, "w");
	fprintf(map, "%lx %zx made::at_run_time\n", (unsigned long)place, sizeof(code));
	fclose(map);
	for (;;)
		((void (*)(void))place)();
#endif
}
