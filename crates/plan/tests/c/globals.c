/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#include "bpf.h"

enum mode { OFF, ON = 5, FAR = -1 };
struct inner { u16 a; char name[8]; };
struct cfg {
	int level;
	struct inner in[2];
	u32 low : 3;
	int high : 29;
	union { u64 whole; u32 half; };
};

const volatile u32 target_pid = 0;
const volatile int level = -1;
const volatile bool verbose = 0;
const volatile char comm[16] = "init";
volatile struct cfg cfg;
volatile u64 numbers[4];
volatile enum mode mode;
volatile u8 small;
volatile char letter;
void *volatile pointer;
static volatile int inside = 7;
u32 in_bss_custom SEC(".bss.custom");

SEC("socket")
int prog(void *ctx)
{
	return target_pid + level + verbose + comm[0] + cfg.level + numbers[1] + mode + small + letter + !pointer + inside;
}

char LICENSE[] SEC("license") = "GPL";
