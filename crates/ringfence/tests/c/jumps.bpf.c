// SPDX-License-Identifier: MIT OR Apache-2.0
// A jump table. clang 19 has no indirect jump: what newer ones emit is written by hand.
#include "bpf.h"

SEC("tc")
__attribute__((naked)) int jump(void *ctx)
{
	asm volatile("r0 = *(u32 *)(r1 + 0)\n" /* the packet's length */
		     "r0 &= 3\n"
		     "r0 <<= 3\n"
		     "r2 = BPF.JT.0.0 ll\n"
		     "r2 += r0\n"
		     "r2 = *(u64 *)(r2 + 0)\n"
		     ".byte 0x0d, 0x02, 0, 0, 0, 0, 0, 0\n" /* gotox r2 */
		     ".Lzero: r0 = 10\n"
		     "exit\n"
		     ".Lone: r0 = 11\n"
		     "exit\n"
		     ".Ltwo: r0 = 12\n"
		     "exit\n");
}

asm(".pushsection .jumptables,\"\",@progbits\n"
    ".type BPF.JT.0.0,@object\n"
    "BPF.JT.0.0:\n"
    ".quad .Lzero - jump\n"
    ".quad .Lone - jump\n"
    ".quad .Ltwo - jump\n"
    ".quad .Lzero - jump\n"
    ".size BPF.JT.0.0, 32\n"
    ".popsection\n");
