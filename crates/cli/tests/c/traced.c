// SPDX-License-Identifier: MIT OR Apache-2.0
// A program to look at from outside: functions with known arguments, and a static probe, some times over.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../../ringfence/tests/c/note.h"

__attribute__((noinline)) int greet(const char *name, int times)
{
	asm volatile("" : "+r"(times));
	return name[0] ? times * 2 : -1;
}

__attribute__((noinline)) int factorial(int n)
{
	asm volatile("" : "+r"(n));
	usleep(1000);
	if (n <= 1)
		return 1;
	int below = factorial(n - 1);

	asm volatile("" : "+r"(below));
	return n * below;
}

__attribute__((noinline)) static void probe(const char *text, int number, unsigned char small)
{
	NOTE("ringfence", "traced", "0", "8@%0 -4@%1 1@%2", "r"(text), "r"(number), "r"(small));
}

int main(int count, char **arguments)
{
	int times = count > 1 ? atoi(arguments[1]) : 1;

	for (int n = 0; n < times; n++) {
		greet(n % 2 ? "odd" : "even", n);
		probe("static", -n, n + 200);
	}
	printf("%d\n", factorial(3));
	/* Stacks get their names while it is there. */
	usleep(200000);
	return 0;
}
