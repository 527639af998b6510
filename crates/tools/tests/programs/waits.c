// Waits in two functions: of three equal waits two are in `sleeps_twice`. The system call is made here: libc's functions have
// no frame pointers and would hide their callers.
static void nap(void);

__attribute__((noinline)) void sleeps_twice(void)
{
	nap();
	nap();
}

__attribute__((noinline)) void sleeps_once(void)
{
	nap();
}

static inline __attribute__((always_inline)) void nap(void)
{
	const long time[2] = { 0, 10000000 };
#ifdef __x86_64__
	long number = 35; // nanosleep

	__asm__ volatile("syscall" : "+a"(number) : "D"(time), "S"(0) : "rcx", "r11", "memory");
#else
	register long number __asm__("x8") = 101;
	register const long *first __asm__("x0") = time;
	register long second __asm__("x1") = 0;

	__asm__ volatile("svc 0" : "+r"(first) : "r"(number), "r"(second) : "memory");
#endif
}

int main(void)
{
	for (;;) {
		sleeps_twice();
		sleeps_once();
	}
}
