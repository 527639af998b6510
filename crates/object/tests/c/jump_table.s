# SPDX-License-Identifier: GPL-2.0 OR MIT
# A jump table as newer compilers write it, an alias, a function without a size, and two that overlap.
	.section	xdp,"ax",@progbits
	.globl	jumps
	.type	jumps,@function
jumps:
	r0 = 0
	r1 = table ll
	exit
end_of_jumps:
	.size	jumps, end_of_jumps-jumps
	.globl	same
	.type	same,@function
	.set	same, jumps
	.size	same, end_of_jumps-jumps
	.globl	no_size
	.type	no_size,@function
no_size:
	r0 = 1
	exit
	.globl	outer
	.type	outer,@function
outer:
	r0 = 2
	.globl	overlaps
	.type	overlaps,@function
overlaps:
	r0 = 3
	exit
end_of_outer:
	.size	outer, end_of_outer-outer
	.size	overlaps, end_of_outer-overlaps

	.section	.jumptables,"",@progbits
	.quad	0
	.type	table,@object
table:
	.quad	8
	.quad	24
end_of_table:
	.size	table, end_of_table-table
