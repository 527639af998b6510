/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Static probes by hand: a nop, and a note that says where it and its arguments are. */
#pragma once

#define NOTE_BASE \
	".ifndef _.stapsdt.base\n" \
	".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
	".weak _.stapsdt.base\n.hidden _.stapsdt.base\n" \
	"_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n" \
	".popsection\n.endif\n"

#define NOTE(provider, name, semaphore, args, operands...) \
	asm volatile("990: nop\n" \
		     ".pushsection .note.stapsdt,\"\",\"note\"\n" \
		     ".balign 4\n.4byte 992f-991f, 994f-993f, 3\n" \
		     "991: .asciz \"stapsdt\"\n992: .balign 4\n" \
		     "993: .8byte 990b, _.stapsdt.base, " semaphore "\n" \
		     ".asciz \"" provider "\"\n.asciz \"" name "\"\n.asciz \"" args "\"\n" \
		     "994: .balign 4\n.popsection\n" NOTE_BASE \
		     :: operands)

#define NOTE0(provider, name) NOTE(provider, name, "0", "", "i"(0))
