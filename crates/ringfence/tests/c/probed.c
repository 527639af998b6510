// SPDX-License-Identifier: MIT OR Apache-2.0
// A program to look at from outside. For each line on its standard input it calls everything once and answers with a
// line: whether somebody looks at the guarded probe, and in which part of a sum it is.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "note.h"

unsigned long from_library(unsigned long value);
unsigned long versioned_old(unsigned long value);
unsigned long versioned_new(unsigned long value);

struct pair {
	int first;
	long second;
};

unsigned short ringfence_guarded_semaphore __attribute__((section(".probes"))) = 0;

__attribute__((noinline)) unsigned long work_one(unsigned long value)
{
	asm volatile("" : "+r"(value));
	return value + 1;
}

__attribute__((noinline)) unsigned long work_two(unsigned long value)
{
	asm volatile("" : "+r"(value));
	return value + 2;
}

__attribute__((noinline)) unsigned long work_three(unsigned long value)
{
	asm volatile("" : "+r"(value));
	return value + 3;
}

__attribute__((noinline)) static void probes(unsigned long count, volatile struct pair *pair)
{
	int negative = -7;
	short small = -2;
	unsigned char byte = 250;
	asm volatile("" : "+r"(negative), "+r"(small), "+r"(byte));

	NOTE0("ringfence", "nothing");
	// Constants, registers and memory of every size.
	NOTE("ringfence", "twelve", "0",
	     "8@%[count] -4@%[negative] -2@%w[small] 1@%b[byte] 4@%[first] -8@%[second] "
	     "-4@$-9 8@$123456789012 8@%[count] 4@$7 2@$65535 -1@$-1",
	     [count] "r"(count), [negative] "r"(negative), [small] "r"(small), [byte] "q"(byte),
	     [first] "m"(pair->first), [second] "m"(pair->second));
	// Two places of one probe.
	NOTE("ringfence", "twice", "0", "4@$1", "i"(0));
	NOTE("ringfence", "twice", "0", "4@$2", "i"(0));
	NOTE("ringfence", "twice", "0", "4@$2", "i"(0));
	if (ringfence_guarded_semaphore)
		NOTE("ringfence", "guarded", "ringfence_guarded_semaphore", "8@%[count]", [count] "r"(count));
}

// Code that lies in an archive, without a loader.
static void call_mapped(const char *path, long start, long place, unsigned long value)
{
	int fd = open(path, O_RDONLY);
	char *code = mmap(NULL, place + 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, start);
	if (code == MAP_FAILED)
		exit(2);
	((unsigned long (*)(unsigned long))(code + place))(value);
	munmap(code, place + 4096);
}

int main(int argc, char **argv)
{
	char line[64];
	volatile struct pair pair = { 11, -12 };
	unsigned long count = 0;

	while (fgets(line, sizeof(line), stdin)) {
		count++;
		unsigned long sum = work_one(count) + work_two(count) + work_three(count);
		sum += from_library(count) + versioned_old(count) + versioned_new(count);
		probes(count, &pair);
		if (argc > 3)
			call_mapped(argv[1], atol(argv[2]), atol(argv[3]), count);
		printf("%s %lu\n", ringfence_guarded_semaphore ? "looked-at" : "alone", sum);
		fflush(stdout);
	}
	return 0;
}
