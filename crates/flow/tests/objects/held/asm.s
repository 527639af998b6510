# Written by hand: halves of words swapped around, a store before the reserve succeeds, no types and no source.
	.section raw_tp/x,"ax",@progbits
	.globl	hand
hand:
	r6 = *(u64 *)(r1 + 0)
	r1 = ring ll
	r2 = 40
	r3 = 0
	call 131
	if r0 == 0 goto out
	r7 = r0
	call 14
	*(u32 *)(r7 + 4) = r0
	r0 >>= 32
	*(u32 *)(r7 + 0) = r0
	call 5
	*(u64 *)(r7 + 8) = r0
	call 15
	*(u32 *)(r7 + 16) = r0
	r6 &= 255
	*(u16 *)(r7 + 20) = r6
	r1 = 0
	*(u16 *)(r7 + 22) = r1
	r1 = r7
	r1 += 24
	r2 = 16
	call 16
	r1 = r7
	r2 = 0
	call 132
out:
	r0 = 0
	exit
	.size hand, .-hand

	.section maps,"aw",@progbits
	.globl ring
	.type ring, @object
ring:
	.long 27, 0, 0, 4096, 0
	.size ring, .-ring
	.section license,"aw",@progbits
	.globl LICENSE
	.type LICENSE, @object
LICENSE:
	.asciz "GPL"
	.size LICENSE, 4
