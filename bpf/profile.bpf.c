// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Where time goes, by stack: on a CPU (samples of a perf event), or off it (what lies between two context switches).
 *
 * Stacks are counted here. There are two tables: programs write into one while the other is read and emptied, so that no count
 * is lost between reading and removing, and no table fills in a long run. A stack is known by a 64-bit hash of
 * all that tells it from others, so that none gives way to another, as in a BPF_MAP_TYPE_STACK_TRACE. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "filter.h"
#include "unwind.h"

#define DEPTH 127 /* the kernel's own limit (kernel.perf_event_max_stack) */
#define PF_EXITING 0x00000004
#define PF_KTHREAD 0x00200000

/* Of the kernel's own types only what is read here; CO-RE finds the rest. */
struct task_struct {
	int pid;
	int tgid;
	unsigned int flags;
	unsigned int __state;
} __attribute__((preserve_access_index));

/* Before 5.14. */
struct task_struct___old {
	long state;
} __attribute__((preserve_access_index));

struct stack {
	__u64 count; /* samples, or times off a CPU */
	__u64 ns;    /* time off a CPU */
	__u64 image; /* which program the process runs: see `processes` */
	__u32 pid;   /* the process (tgid) */
	__u16 kernel;
	__u16 user;	  /* frames; both 0: this is an addition to a stack of this hash that was in the other table */
	__u8 preempted;	  /* off a CPU though it could run */
	__u8 kernel_task; /* has no user stack */
	__u8 known;	  /* the stack is here */
	__u8 walked;	  /* WALK_*: how the user stack was walked */
	__u8 unused[4];
	char comm[COMM_LEN];
	__u64 frames[2 * DEPTH]; /* innermost first: DEPTH of the kernel, then DEPTH of user space */
};

/* A process of which a stack is seen for the first time since its last exec, or for the BUSY-th time: user space looks at its files,
 * and makes tables of them. */
struct process {
	__u64 image;
	__u32 pid;
	__u32 busy;
};

#define BUSY 8

struct seen {
	__u64 image; /* the moment of the first stack: stands for the program that the process runs from then on */
	__u64 stacks; /* up to BUSY */
};

struct waiting {
	__u64 hash;
	__u64 since;
	__u32 pid;
	__u32 unused;
};

struct counters {
	__u64 samples;	  /* runs */
	__u64 idle;	  /* of them in the idle task */
	__u64 filtered;	  /* of them in processes that are not wanted */
	__u64 taken;	  /* of them counted with a stack */
	__u64 lost_full;  /* of them without room in the table */
	__u64 lost_tasks; /* waits whose beginning found no room */
	__u64 lost_images; /* processes of which user space could not be told */
};

const struct process *unused_process __attribute__((unused));

/* Waits shorter than this are not counted. */
const volatile __u64 shortest_ns = 0;

/* Which table programs write into. */
__u32 active = 0;

#define TABLE(name)                                    \
	struct {                                       \
		__uint(type, BPF_MAP_TYPE_HASH);       \
		__uint(max_entries, 1024);             \
		__type(key, __u64);                    \
		__type(value, struct stack);           \
	} name SEC(".maps")

TABLE(stacks_a);
TABLE(stacks_b);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stack);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} totals SEC(".maps");

/* By process. One that falls out only is looked at again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct seen);
} images SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct waiting);
} waits SEC(".maps");

static __always_inline struct counters *counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&totals, &zero);
}

static __always_inline struct stack *find(__u64 hash)
{
	if (active)
		return bpf_map_lookup_elem(&stacks_b, &hash);
	return bpf_map_lookup_elem(&stacks_a, &hash);
}

static __always_inline long put(__u64 hash, struct stack *stack)
{
	if (active)
		return bpf_map_update_elem(&stacks_b, &hash, stack, BPF_NOEXIST);
	return bpf_map_update_elem(&stacks_a, &hash, stack, BPF_NOEXIST);
}

static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ (hash >> 29);
}

static __always_inline __u64 image_of(__u32 pid, unsigned int flags, struct counters *totals)
{
	struct seen *known = bpf_map_lookup_elem(&images, &pid), first = {};
	struct process process = {};

	if (known) {
		/* Two CPUs may count as one, or both say that it is busy: neither does harm. */
		if (known->stacks >= BUSY || ++known->stacks < BUSY)
			return known->image;
		process.image = known->image;
		process.busy = 1;
	} else {
		/* Nothing can be learned of it any more. */
		if (flags & PF_EXITING)
			return 0;
		process.image = first.image = bpf_ktime_get_ns();
		first.stacks = 1;
		bpf_map_update_elem(&images, &pid, &first, BPF_ANY);
	}
	process.pid = pid;
	if (bpf_ringbuf_output(&processes, &process, sizeof(process), 0)) {
		if (known)
			known->stacks = 0;
		else
			totals->lost_images++;
	}
	return process.image;
}

static __always_inline void take_user(void *ctx, struct stack *stack)
{
	struct walk *walk = unwind(stack->pid, stack->image);
	volatile __u64 *count;
	long bytes;

	if (!walk) {
		bytes = bpf_get_stack(ctx, stack->frames + DEPTH, DEPTH * 8, BPF_F_USER_STACK);
		stack->user = bytes > 0 ? bytes / 8 : 0;
		return;
	}
	count = &walk->count;
	for (int i = 0; i < DEPTH && i < *count; i++)
		stack->frames[DEPTH + i] = walk->frames[i];
	stack->user = *count;
	stack->walked = walk->end;
}

/* Fills the scratch with the stack of what runs now; its hash, or 0. */
static __always_inline __u64 take(void *ctx, struct stack *stack, unsigned int flags, struct counters *totals)
{
	bool kernel_task = flags & PF_KTHREAD;
	__u64 hash, *words;
	long bytes;

	stack->count = 0;
	stack->ns = 0;
	stack->pid = bpf_get_current_pid_tgid() >> 32;
	stack->image = kernel_task ? 0 : image_of(stack->pid, flags, totals);
	stack->kernel_task = kernel_task;
	stack->preempted = 0;
	stack->known = 1;
	bpf_get_current_comm(stack->comm, sizeof(stack->comm));
	bytes = bpf_get_stack(ctx, stack->frames, DEPTH * 8, 0);
	stack->kernel = bytes > 0 ? bytes / 8 : 0;
	stack->user = 0;
	stack->walked = WALK_POINTERS;
	if (!kernel_task)
		take_user(ctx, stack);

	words = (__u64 *)stack->comm;
	hash = mix(mix(mix(1, stack->image), words[0]), words[1]);
	hash = mix(hash, stack->pid | (__u64)stack->kernel << 32 | (__u64)stack->user << 48);
	for (int i = 0; i < DEPTH && i < stack->kernel; i++)
		hash = mix(hash, stack->frames[i]);
	for (int i = 0; i < DEPTH && i < stack->user; i++)
		hash = mix(hash, stack->frames[DEPTH + i]);
	return hash;
}

SEC("perf_event")
int on_cpu(void *ctx)
{
	struct counters *totals = counters();
	__u32 zero = 0, pid = bpf_get_current_pid_tgid();
	struct task_struct *task;
	struct stack *stack, *known;
	unsigned int flags = 0;
	__u64 hash;

	if (!totals)
		return 0;
	totals->samples++;
	if (!pid) {
		totals->idle++;
		return 0;
	}
	if (!filter_takes()) {
		totals->filtered++;
		return 0;
	}
	stack = bpf_map_lookup_elem(&scratch, &zero);
	if (!stack)
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	bpf_probe_read_kernel(&flags, sizeof(flags), &task->flags);
	hash = take(ctx, stack, flags, totals);
	known = find(hash);
	if (!known) {
		stack->count = 1;
		if (!put(hash, stack)) {
			totals->taken++;
			return 0;
		}
		/* Another CPU has put it there just now, or there is no room. */
		known = find(hash);
	}
	if (known) {
		__sync_fetch_and_add(&known->count, 1);
		totals->taken++;
	} else {
		totals->lost_full++;
	}
	return 0;
}

/* A wait begins: the task that leaves the CPU is still the current one, and its stack is taken now. */
static __always_inline void leaves(void *ctx, struct task_struct *task, bool preempted, struct counters *totals)
{
	struct waiting waiting = {};
	struct stack *stack;
	__u32 zero = 0, pid = task->pid;

	if (!pid) {
		totals->idle++;
		return;
	}
	/* The last time: it never comes back. */
	if (task->flags & PF_EXITING)
		return;
	if (!filter_takes()) {
		totals->filtered++;
		return;
	}
	stack = bpf_map_lookup_elem(&scratch, &zero);
	if (!stack)
		return;
	waiting.hash = mix(take(ctx, stack, task->flags, totals), preempted);
	stack->preempted = preempted;
	/* Here so that its end finds it, with nothing counted yet. */
	if (!find(waiting.hash) && put(waiting.hash, stack) && !find(waiting.hash)) {
		totals->lost_full++;
		return;
	}
	waiting.since = bpf_ktime_get_ns();
	waiting.pid = stack->pid;
	if (bpf_map_update_elem(&waits, &pid, &waiting, BPF_ANY))
		totals->lost_tasks++;
}

static __always_inline void comes(struct task_struct *task, struct counters *totals)
{
	__u32 zero = 0, pid = task->pid;
	struct waiting *waiting = bpf_map_lookup_elem(&waits, &pid);
	struct stack *stack, *known;
	__u64 hash, ns;

	if (!waiting)
		return;
	hash = waiting->hash;
	ns = bpf_ktime_get_ns() - waiting->since;
	bpf_map_delete_elem(&waits, &pid);
	if (ns < shortest_ns)
		return;
	known = find(hash);
	if (!known) {
		/* The tables have changed places since the wait began: user space has the stack. */
		stack = bpf_map_lookup_elem(&scratch, &zero);
		if (!stack)
			return;
		stack->count = 1;
		stack->ns = ns;
		stack->known = stack->kernel = stack->user = 0;
		if (!put(hash, stack)) {
			totals->taken++;
			return;
		}
		known = find(hash);
	}
	if (known) {
		__sync_fetch_and_add(&known->count, 1);
		__sync_fetch_and_add(&known->ns, ns);
		totals->taken++;
	} else {
		totals->lost_full++;
	}
}

/* It gives up the CPU though it could go on: in the kernel (`preempt`), or on the way back to user space. The state is an argument
 * only since 5.18. */
static __always_inline bool could_run(bool preempt, struct task_struct *task)
{
	struct task_struct___old *old = (void *)task;

	if (preempt)
		return true;
	if (bpf_core_field_exists(task->__state))
		return !task->__state;
	return !old->state;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(off_cpu, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct counters *totals = counters();

	if (!totals)
		return 0;
	totals->samples++;
	leaves(ctx, prev, could_run(preempt, prev), totals);
	comes(next, totals);
	return 0;
}

/* What is known of a process ends with its program. */
SEC("raw_tp/sched_process_exec")
int on_exec(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	bpf_map_delete_elem(&images, &pid);
	bpf_map_delete_elem(&mapped_files, &pid);
	return 0;
}

SEC("raw_tp/sched_process_exit")
int on_exit(void *ctx)
{
	__u64 both = bpf_get_current_pid_tgid();
	__u32 pid = both >> 32, thread = both;

	if (pid == thread) {
		bpf_map_delete_elem(&images, &pid);
		bpf_map_delete_elem(&mapped_files, &pid);
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
