/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Walks the stack of the program that runs now by tables that user space makes of its files' .eh_frame: code without frame pointers
 * says there how to find the caller of every instruction. x86-64, and kernels with bpf_task_pt_regs (5.15).
 *
 * A table is an array of chunks of rows, sorted by address, one array a file. Where a mapping has no table the step is
 * made by the frame pointer: code made by a JIT compiler, the vdso, programs that have them. */
#ifndef RINGFENCE_UNWIND_H
#define RINGFENCE_UNWIND_H

#define UNWIND_FRAMES 127
#define UNWIND_MAPPINGS 128
#define UNWIND_ROWS 512
#define UCONTEXT_BP 120
#define UCONTEXT_SP 160
#define UCONTEXT_IP 168

/* How the canonical frame address (CFA) is found: what the stack pointer was before the call. */
enum {
	ROW_NONE,     /* not known */
	ROW_SP,	      /* stack pointer + cfa */
	ROW_BP,	      /* frame pointer + cfa */
	ROW_PLT,      /* stack pointer + 8, and 8 more behind the first push of a PLT entry */
	ROW_BP_DEREF, /* what lies at frame pointer + cfa: functions that align their stack */
	ROW_END,      /* nobody called it: a thread begins here */
	ROW_SIGNAL,   /* the kernel called it: what was interrupted lies on the stack */
};

enum {
	BP_SAME = 0, /* negative: saved at CFA + 8 * bp */
	BP_AT_BP = 1, /* saved where the frame pointer points */
};

/* A row is one word: the first address in the file for which it holds (32 bits), cfa in units of 8 (20, signed), kind (4), where the
 * frame pointer was saved (8, signed). */
#define ROW_PC(row) ((__u32)(row))
#define ROW_CFA(row) ((__s64)((row) << 12) >> 44)
#define ROW_KIND(row) ((__u32)((row) >> 52) & 15)
#define ROW_BP_RULE(row) ((__s64)(row) >> 56)

struct chunk {
	__u64 rows[UNWIND_ROWS];
};

struct mapping {
	__u64 start;
	__u64 end;
	__u64 bias;   /* address in memory - address in the table */
	__u32 table;  /* from 1; 0: none */
	__u32 chunks; /* of the table */
};

struct mapped {
	__u64 image;
	__u32 count;
	__u32 unused;
	struct mapping mappings[UNWIND_MAPPINGS]; /* sorted */
};

/* How a walk ended; the last ones say why it was cut short. */
enum {
	WALK_POINTERS, /* by frame pointers: nothing is known */
	WALK_WHOLE,
	WALK_DEEP,     /* there are more frames */
	WALK_UNMAPPED, /* at an address where nothing is known to be mapped */
	WALK_NO_RULE,  /* at code that the table has no rule for */
	WALK_NO_POINTER, /* where there is no table, and no frame pointer either */
	WALK_UNREAD,   /* at memory that cannot be read now, or is no stack */
};

struct walk {
	__u64 pc;
	__u64 sp;
	__u64 bp;
	__u32 pid;
	__u16 end;   /* WALK_* */
	__u16 exact; /* pc is no return address: the innermost one, or interrupted by a signal */
	__u64 count; /* of frames */
	__u64 frames[UNWIND_FRAMES + 1];
};

struct pt_regs___x86 {
	unsigned long bp;
	unsigned long ip;
	unsigned long sp;
} __attribute__((preserve_access_index));

const volatile bool unwind_tables = false;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct mapped);
} mapped_files SEC(".maps");

struct table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_INNER_MAP);
	/* By sizes: 6.1 takes no map without BTF where one with BTF was declared (`timer_off` in bpf_map_meta_equal). */
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct chunk));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__array(values, struct table);
} unwind_files SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk);
} walks SEC(".maps");

/* The row of an address of a table, in one word; 0: none. A function of its own so that the verifier looks at it once. */
__attribute__((noinline)) __u64 unwind_row(__u32 file, __u32 chunks, __u32 pc)
{
	void *table = bpf_map_lookup_elem(&unwind_files, &file);
	__u32 low = 0, high = chunks, middle;
	struct chunk *chunk;
	__u64 row;

	if (!table)
		return 0;
	for (int i = 0; i < 16 && low + 1 < high; i++) {
		middle = low + (high - low) / 2;
		chunk = bpf_map_lookup_elem(table, &middle);
		if (!chunk)
			return 0;
		if (ROW_PC(chunk->rows[0]) <= pc)
			low = middle;
		else
			high = middle;
	}
	chunk = bpf_map_lookup_elem(table, &low);
	if (!chunk)
		return 0;
	low = 0;
	for (int step = UNWIND_ROWS / 2; step; step /= 2) {
		middle = (low + step) & (UNWIND_ROWS - 1);
		if (ROW_PC(chunk->rows[middle]) <= pc)
			low = middle;
	}
	row = chunk->rows[low & (UNWIND_ROWS - 1)];
	return ROW_PC(row) <= pc ? row : 0;
}

static __always_inline bool word_at(__u64 address, __u64 *word)
{
	return !bpf_probe_read_user(word, sizeof(*word), (void *)address);
}

static __always_inline int ends(struct walk *walk, __u16 end)
{
	walk->end = end;
	return 0;
}

/* Notes one frame and goes on to its caller; 0: there is none, or it cannot be found. */
__attribute__((noinline)) int unwind_frame(__u32 n)
{
	__u32 zero = 0, low = 0, high;
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);
	struct mapped *mapped;
	struct mapping *mapping;
	__u64 pc, cfa, bp, word, row;
	__s64 rule;

	if (!walk)
		return 0;
	walk->frames[n & UNWIND_FRAMES] = walk->pc;
	mapped = bpf_map_lookup_elem(&mapped_files, &walk->pid);
	if (!mapped)
		return ends(walk, WALK_UNMAPPED);
	/* All but the innermost are return addresses: the call is before them. */
	pc = walk->exact ? walk->pc : walk->pc - 1;
	walk->exact = false;
	high = mapped->count;
	for (int i = 0; i < 8 && low + 1 < high; i++) {
		__u32 middle = ((low + high) / 2) & (UNWIND_MAPPINGS - 1);

		if (mapped->mappings[middle].start <= pc)
			low = middle;
		else
			high = middle;
	}
	mapping = &mapped->mappings[low & (UNWIND_MAPPINGS - 1)];
	if (pc < mapping->start || pc >= mapping->end)
		return ends(walk, WALK_UNMAPPED);
	if (!mapping->table) {
		/* Below the stack pointer is no frame. */
		if (walk->bp < walk->sp || !word_at(walk->bp + 8, &pc) || !word_at(walk->bp, &bp))
			return ends(walk, WALK_NO_POINTER);
		walk->sp = walk->bp + 16;
		walk->bp = bp;
		walk->pc = pc;
		return pc ? 1 : ends(walk, WALK_WHOLE);
	}
	row = unwind_row(mapping->table, mapping->chunks, pc - mapping->bias);
	cfa = ROW_CFA(row) * 8;
	rule = ROW_BP_RULE(row);
	switch (ROW_KIND(row)) {
	case ROW_SP:
		cfa += walk->sp;
		break;
	case ROW_BP:
		cfa += walk->bp;
		break;
	case ROW_PLT:
		cfa = walk->sp + 8 + (((walk->pc & 15) >= 11) << 3);
		break;
	case ROW_BP_DEREF:
		if (!word_at(walk->bp + cfa, &cfa))
			return ends(walk, WALK_UNREAD);
		break;
	case ROW_SIGNAL:
		/* `struct ucontext` at the stack pointer: the kernel's ABI. */
		if (!word_at(walk->sp + UCONTEXT_BP, &walk->bp) || !word_at(walk->sp + UCONTEXT_IP, &walk->pc) ||
		    !word_at(walk->sp + UCONTEXT_SP, &walk->sp))
			return ends(walk, WALK_UNREAD);
		walk->exact = true;
		return 1;
	case ROW_END:
		return ends(walk, WALK_WHOLE);
	default:
		return ends(walk, WALK_NO_RULE);
	}
	if (cfa <= walk->sp || !word_at(cfa - 8, &word))
		return ends(walk, WALK_UNREAD);
	if (rule < 0 && !word_at(cfa + rule * 8, &walk->bp))
		return ends(walk, WALK_UNREAD);
	if (rule == BP_AT_BP && !word_at(walk->bp, &walk->bp))
		return ends(walk, WALK_UNREAD);
	walk->sp = cfa;
	walk->pc = word;
	return word ? 1 : ends(walk, WALK_WHOLE);
}

/* The frames of the program that runs now, innermost first; 0: by frame pointers then. */
static __always_inline struct walk *unwind(__u32 pid, __u64 image)
{
	struct pt_regs___x86 *regs = 0;
	struct mapped *mapped;
	struct walk *walk;
	__u32 zero = 0;

	if (!unwind_tables || !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs) ||
	    !bpf_core_field_exists(regs->bp))
		return 0;
	mapped = bpf_map_lookup_elem(&mapped_files, &pid);
	walk = bpf_map_lookup_elem(&walks, &zero);
	if (!mapped || !walk || mapped->image != image)
		return 0;
	regs = (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
	walk->pc = BPF_CORE_READ(regs, ip);
	walk->sp = BPF_CORE_READ(regs, sp);
	walk->bp = BPF_CORE_READ(regs, bp);
	walk->pid = pid;
	walk->end = WALK_DEEP;
	walk->exact = true;
	/* The count lies in memory so that the verifier does not know it, and looks at what follows once, not 127 times. */
	for (int i = 0; i < UNWIND_FRAMES; i++) {
		walk->count = i + 1;
		if (!unwind_frame(i))
			break;
	}
	return walk;
}

#endif
