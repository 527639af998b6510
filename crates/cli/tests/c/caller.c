// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Calls getpriority(2) from functions of its own, with frame pointers all the way. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The C library's functions have no frame pointers, and would hide their caller. */
static inline long ask(void)
{
#ifdef __x86_64__
	long done;

	__asm__ volatile("syscall" : "=a"(done) : "a"(SYS_getpriority), "D"(0), "S"(0) : "rcx", "r11", "memory");
	return done;
#else
	return syscall(SYS_getpriority, 0, 0);
#endif
}

static __attribute__((noinline)) long asks(void)
{
	return ask() + 1;
}

static __attribute__((noinline)) long wants_to_know(void)
{
	return asks() + 1;
}

int main(void)
{
	static volatile long sum;
	struct timespec time = { 0, 20000000 };

	for (;;) {
		sum += wants_to_know();
		nanosleep(&time, 0);
	}
}
