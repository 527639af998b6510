// SPDX-License-Identifier: MIT OR Apache-2.0
// A library to look at from outside: a probe with a counter of its own, and a function of two versions.
#include "note.h"

unsigned short library_semaphore __attribute__((section(".probes"), visibility("hidden"))) = 0;

__attribute__((noinline)) unsigned long from_library(unsigned long value)
{
	NOTE("ringfence_lib", "called", "library_semaphore", "8@%[value]", [value] "r"(value));
	return value + 1;
}

__attribute__((noinline)) unsigned long versioned_1(unsigned long value)
{
	asm volatile("" : "+r"(value));
	return value + 10;
}

__attribute__((noinline)) unsigned long versioned_2(unsigned long value)
{
	asm volatile("" : "+r"(value));
	return value + 20;
}

__asm__(".symver versioned_1, versioned@OLD_1.0");
__asm__(".symver versioned_2, versioned@@NEW_2.0");

unsigned long versioned_old(unsigned long value)
{
	return versioned_1(value);
}

unsigned long versioned_new(unsigned long value)
{
	return versioned_2(value);
}
