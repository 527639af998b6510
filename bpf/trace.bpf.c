// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Events of any hook, with the fields that are asked for. This object is loaded once for each place that is watched.
 *
 * What is read of an event is a list of steps in read-only data. The verifier knows it: what a place does not need
 * is cut out of its program, and each record has just the size that its fields take. */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "filter.h"

/* Where things are in `struct pt_regs`, for the machine that this runs on: the object is the same on all of them. */
const volatile __u16 argument_at[12] = {};
const volatile __u16 return_at = 0;
const volatile __u16 stack_at = 0;
const volatile __u16 instruction_at = 0;
/* What a return takes off the stack. */
const volatile __u32 return_pops = 0;

static __always_inline __u64 of_registers(void *ctx, __u16 at)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), ctx + at);
	return value;
}

#undef PT_REGS_IP
#define PT_REGS_IP(ctx) of_registers(ctx, instruction_at)
#include <bpf/usdt.bpf.h>

#define STEPS 32
#define DEREFS 4
#define ARGUMENTS 12

enum from {
	FROM_ARGUMENT, /* the number `index` */
	FROM_CONTEXT,  /* memory of the context, at `at` */
	FROM_LOCATION, /* memory of the context, where the word at `at` says (`__data_loc`) */
	FROM_RELATIVE, /* the same, counted from behind that word (`__rel_loc`) */
	FROM_RETURN,   /* what the function gave */
};

enum kind {
	KIND_BYTES,  /* `size` bytes */
	KIND_STRING, /* text up to a zero */
	KIND_SIZED,  /* text whose length is argument `length` */
	KIND_LIST,   /* texts of a list of pointers that ends with a null, joined by blanks: LIST_SIZE bytes */
};

/* Texts of a list, and bytes of each with what ends it. */
#define LIST 8
#define LIST_TEXT 64
#define LIST_SIZE ((LIST + 1) * LIST_TEXT)

struct step {
	__u8 from;
	__u8 kind;
	__u8 index;
	__u8 length;
	__u16 to; /* place in the record, and bytes there */
	__u16 size;
	__u32 at;
	__u32 derefs; /* pointers that are followed: each to what lies `offsets` behind it */
	__s32 offsets[DEREFS];
};

/* What each record begins with. */
struct event {
	__u64 ts_ns;
	__u32 pid;
	__u32 tid;
	__u32 uid;
	__u32 cpu;
	char comm[COMM_LEN];
	__s64 ret;
	__u64 duration_ns;
	__u32 target; /* which place */
	__s32 kernel; /* bytes of the stacks, or the error */
	__s32 user;
	__u32 index; /* which function, where one place is several of them */
};

/* A call that has not returned. */
struct call {
	__u64 since;
	__u64 arguments[ARGUMENTS];
};

/* Of one thread those of other frames are other ones: the place of its stack tells them apart. Of several functions it
 * is not known alike at both ends: there `stack` is the function, and of calls inside of calls of it the last one is kept. */
struct frame {
	__u64 thread;
	__u64 stack;
};

struct counters {
	__u64 runs;	/* the place was reached; of calls and their returns, the returns */
	__u64 filtered; /* of them, by what is not wanted, and by this tool itself */
	__u64 taken;	/* of them, sent or counted */
	__u64 lost;	/* of them, without room in the buffer */
	__u64 unpaired; /* returns of which the call was not seen, or found no room */
	__u64 entered;	/* calls that were kept until they return */
};

const struct event *unused_event __attribute__((unused));

const volatile struct step steps[STEPS] = {};
const volatile __u32 step_count = 0;
const volatile __u32 target = 0;
const volatile __u32 record_size = sizeof(struct event);
/* Where stacks are in the record, and bytes of them; 0: none are wanted. */
const volatile __u32 kernel_at = 0;
const volatile __u32 kernel_bytes = 0;
const volatile __u32 user_at = 0;
const volatile __u32 user_bytes = 0;
/* Arguments that are looked at. */
const volatile __u32 argument_count = 0;
/* This tool: what it does is not watched. 0: it is, and so is the idle task. */
const volatile __u32 own_pid = 0;
/* The program may wait for memory that has to be read from a disk first. */
const volatile bool may_sleep = false;
/* Durations are counted instead of sent. */
const volatile bool histogram = false;
/* Bytes that wait before the reader is woken. */
const volatile __u32 wake_bytes = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} totals SEC(".maps");

/* Durations by their logarithm. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} durations SEC(".maps");

/* Entries of threads that ended in between are the first to go. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct frame);
	__type(value, struct call);
} calls SEC(".maps");

static __always_inline struct counters *counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&totals, &zero);
}

static __always_inline bool not_own(void)
{
	return !own_pid || bpf_get_current_pid_tgid() >> 32 != own_pid;
}

/* Whether this event is wanted; counts it. */
static __always_inline struct counters *wanted(void)
{
	struct counters *totals = counters();

	if (!totals)
		return 0;
	totals->runs++;
	if (not_own() && filter_takes())
		return totals;
	totals->filtered++;
	return 0;
}

/* The same at a call that is looked at when it returns. */
static __always_inline struct counters *wanted_call(void)
{
	return not_own() && filter_takes() ? counters() : 0;
}

/* Addresses of the kernel are negative, as numbers; those of programs are not. */
static __always_inline long read(void *to, __u32 size, __u64 address)
{
	if ((__s64)address < 0)
		return bpf_probe_read_kernel(to, size, (void *)address);
	return bpf_probe_read_user(to, size, (void *)address);
}

static __always_inline long read_text(char *to, __u32 size, __u64 address)
{
	if ((__s64)address < 0)
		return bpf_probe_read_kernel_str(to, size, (void *)address);
	return bpf_probe_read_user_str(to, size, (void *)address);
}

/* Brings a page of the program into memory. */
static __always_inline void fetch_page(__u64 address)
{
	char byte;

	bpf_copy_from_user(&byte, 1, (void *)address);
}

/* Text that is cut off ends with an ellipsis, for which three bytes are kept. */
static __always_inline void text(char *to, __u32 size, __u64 address)
{
	const char none[8] = "(null)", fault[8] = "(fault)", more[4] = "\xe2\x80\xa6";
	__u32 room = size - 3;
	char next = 0;
	long length;

	length = address ? read_text(to, room, address) : -1;
	if (may_sleep && length < 0 && address) {
		fetch_page(address);
		/* It may go on in the next one. */
		fetch_page(address + room);
		length = read_text(to, room, address);
	}
	if (length < 0) {
		bpf_probe_read_kernel(to, 8, address ? fault : none);
		return;
	}
	if (length != room)
		return;
	read(&next, 1, address + room - 1);
	if (next)
		bpf_probe_read_kernel(to + room - 1, 4, more);
}

static __always_inline void sized_text(char *to, __u32 size, __u64 address, __u64 length)
{
	const char fault[8] = "(fault)", more[4] = "\xe2\x80\xa6";
	__u32 room = size - 4, bytes;

	bytes = length > room ? room : length;
	if (bytes > room)
		return;
	if (may_sleep && bytes) {
		fetch_page(address);
		fetch_page(address + bytes - 1);
	}
	if (bytes && read(to, bytes, address)) {
		bpf_probe_read_kernel(to, 8, fault);
		return;
	}
	if (length > room)
		bpf_probe_read_kernel(to + room, 4, more);
	else
		to[bytes] = 0;
}

static __always_inline void list(char *to, __u64 address)
{
	const char more[4] = "\xe2\x80\xa6";
	__u32 at = 0;

	/* Older kernels (6.1) take loops only where the way back is a jump, which the compiler does not promise. */
#pragma clang loop unroll(full)
	for (int i = 0; i <= LIST; i++) {
		__u64 text = 0;
		long length;

		read(&text, sizeof(text), address + i * sizeof(text));
		if (!text)
			break;
		if (i == LIST) {
			bpf_probe_read_kernel(to + at, sizeof(more), more);
			return;
		}
		length = read_text(to + at, LIST_TEXT, text);
		if (length <= 0 || length > LIST_TEXT)
			break;
		if (length == LIST_TEXT)
			bpf_probe_read_kernel(to + at + LIST_TEXT - 4, sizeof(more), more);
		at += length;
		to[at - 1] = ' ';
	}
	to[at ? at - 1 : 0] = 0;
}

static __always_inline void fetch(void *ctx, char *record, const __u64 *arguments, __u64 ret)
{
	for (__u32 i = 0; i < STEPS; i++) {
		const volatile struct step *step = &steps[i];
		__u32 size = step->size, word = 0;
		__u64 value = 0, address;
		char *to;

		if (i >= step_count)
			break;
		to = record + step->to;
		switch (step->from) {
		case FROM_ARGUMENT:
			if (step->index >= ARGUMENTS)
				continue;
			value = arguments[step->index];
			break;
		case FROM_CONTEXT:
			address = (__u64)ctx + step->at;
			if (step->derefs)
				bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
			else if (step->kind == KIND_BYTES) {
				bpf_probe_read_kernel(to, size, (void *)address);
				continue;
			} else {
				text(to, size, address);
				continue;
			}
			break;
		case FROM_LOCATION:
		case FROM_RELATIVE:
			address = (__u64)ctx + step->at;
			bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
			address = (__u64)ctx + (word & 0xffff);
			if (step->from == FROM_RELATIVE)
				address += step->at + sizeof(word);
			if (step->kind == KIND_BYTES)
				bpf_probe_read_kernel(to, size, (void *)address);
			else
				text(to, size, address);
			continue;
		case FROM_RETURN:
			value = ret;
			break;
		}
		/* All but the last lead to another pointer. */
		for (__u32 d = 0; d + 1 < DEREFS && d + 1 < step->derefs; d++) {
			address = value + step->offsets[d];
			value = 0;
			read(&value, sizeof(value), address);
		}
		if (step->derefs && step->derefs <= DEREFS) {
			address = value ? value + step->offsets[step->derefs - 1] : 0;
			if (step->kind == KIND_STRING)
				text(to, size, address);
			else if (step->kind == KIND_LIST && size == LIST_SIZE)
				list(to, address);
			else if (step->kind == KIND_SIZED && step->length < ARGUMENTS)
				sized_text(to, size, address, arguments[step->length]);
			else
				read(to, size, address);
		} else {
			bpf_probe_read_kernel(to, size, &value);
		}
	}
}

static __always_inline void emit(void *ctx, struct counters *totals, const __u64 *arguments, __u64 ret, __u64 duration,
				 __u32 index)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct event *event;
	__u64 flags = 0;

	event = bpf_ringbuf_reserve(&events, record_size, 0);
	if (!event) {
		totals->lost++;
		return;
	}
	event->ts_ns = bpf_ktime_get_ns();
	event->pid = thread >> 32;
	event->tid = thread;
	event->uid = bpf_get_current_uid_gid();
	event->cpu = bpf_get_smp_processor_id();
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	event->ret = ret;
	event->duration_ns = duration;
	event->target = target;
	event->kernel = 0;
	event->user = 0;
	event->index = index;
	fetch(ctx, (char *)event, arguments, ret);
	if (kernel_bytes)
		event->kernel = bpf_get_stack(ctx, (char *)event + kernel_at, kernel_bytes, 0);
	if (user_bytes)
		event->user = bpf_get_stack(ctx, (char *)event + user_at, user_bytes, BPF_F_USER_STACK);
	totals->taken++;
	if (wake_bytes)
		flags = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < wake_bytes ? BPF_RB_NO_WAKEUP : BPF_RB_FORCE_WAKEUP;
	bpf_ringbuf_submit(event, flags);
}

static __always_inline void keep(struct counters *totals, struct call *call, __u64 stack, bool may_nest)
{
	struct frame frame = { .thread = bpf_get_current_pid_tgid(), .stack = stack };
	bool again = may_nest && bpf_map_lookup_elem(&calls, &frame);

	call->since = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&calls, &frame, call, BPF_ANY))
		return;
	/* Of the other one the return is without its call. */
	if (!again)
		totals->entered++;
}

static __always_inline void returned(void *ctx, struct counters *totals, __u64 stack, __u64 ret, __u32 index)
{
	struct frame frame = { .thread = bpf_get_current_pid_tgid(), .stack = stack };
	struct call *kept = bpf_map_lookup_elem(&calls, &frame), call;
	__u64 duration, *count;
	__u32 slot = 0;

	if (!kept) {
		totals->unpaired++;
		return;
	}
	duration = bpf_ktime_get_ns() - kept->since;
	call = *kept;
	bpf_map_delete_elem(&calls, &frame);
	if (!histogram) {
		emit(ctx, totals, call.arguments, ret, duration, index);
		return;
	}
	for (int shift = 32; shift; shift >>= 1) {
		if (duration >> shift) {
			duration >>= shift;
			slot += shift;
		}
	}
	count = bpf_map_lookup_elem(&durations, &slot);
	if (count)
		*count += 1;
	totals->taken++;
}

/* The fields of a tracepoint are its context. */
SEC("tracepoint")
int on_tracepoint(void *ctx)
{
	struct counters *totals = wanted();
	__u64 none[ARGUMENTS] = {};

	if (totals)
		emit(ctx, totals, none, 0, 0, 0);
	return 0;
}

/* Where the arguments of a system call are in the context, one behind the other. */
#define CALL_ARGUMENTS 16

struct sys_exit {
	__u64 common;
	__s64 number;
	__s64 ret;
};

SEC("tracepoint")
int on_sys_enter(void *ctx)
{
	struct counters *totals = wanted_call();
	struct call call = {};

	if (!totals)
		return 0;
	if (argument_count && argument_count <= ARGUMENTS)
		bpf_probe_read_kernel(call.arguments, argument_count * sizeof(__u64), ctx + CALL_ARGUMENTS);
	keep(totals, &call, 0, false);
	return 0;
}

SEC("tracepoint")
int on_sys_exit(struct sys_exit *ctx)
{
	struct counters *totals = wanted();

	if (totals)
		returned(ctx, totals, 0, ctx->ret, 0);
	return 0;
}

static __always_inline void from_registers(void *ctx, __u64 *arguments)
{
	for (__u32 i = 0; i < ARGUMENTS; i++) {
		if (i >= argument_count)
			break;
		arguments[i] = of_registers(ctx, argument_at[i]);
	}
}

static __always_inline int begins(void *ctx, __u32 index)
{
	struct counters *totals = wanted();
	__u64 arguments[ARGUMENTS] = {};

	if (!totals)
		return 0;
	from_registers(ctx, arguments);
	emit(ctx, totals, arguments, 0, 0, index);
	return 0;
}

static __always_inline int returns(void *ctx)
{
	struct counters *totals = wanted();

	if (totals)
		returned(ctx, totals, of_registers(ctx, stack_at) - return_pops, of_registers(ctx, return_at), 0);
	return 0;
}

SEC("kprobe")
int on_function(void *ctx)
{
	return begins(ctx, 0);
}

SEC("uprobe.s")
int on_user_function(void *ctx)
{
	return begins(ctx, 0);
}

SEC("kprobe")
int on_function_enter(void *ctx)
{
	struct counters *totals = wanted_call();
	struct call call = {};

	if (!totals)
		return 0;
	from_registers(ctx, call.arguments);
	keep(totals, &call, of_registers(ctx, stack_at), false);
	return 0;
}

SEC("kretprobe")
int on_function_return(void *ctx)
{
	return returns(ctx);
}

SEC("uretprobe.s")
int on_user_function_return(void *ctx)
{
	return returns(ctx);
}

/* Several functions by one program: their cookies are their numbers. */
SEC("kprobe.multi")
int on_functions(void *ctx)
{
	return begins(ctx, bpf_get_attach_cookie(ctx));
}

SEC("kprobe.multi")
int on_functions_enter(void *ctx)
{
	struct counters *totals = wanted_call();
	struct call call = {};

	if (!totals)
		return 0;
	from_registers(ctx, call.arguments);
	keep(totals, &call, bpf_get_attach_cookie(ctx), true);
	return 0;
}

SEC("kretprobe.multi")
int on_functions_return(void *ctx)
{
	struct counters *totals = wanted();
	__u64 index;

	if (!totals)
		return 0;
	index = bpf_get_attach_cookie(ctx);
	returned(ctx, totals, index, of_registers(ctx, return_at), index);
	return 0;
}

static __always_inline void from_trampoline(void *ctx, __u64 *arguments)
{
	for (__u32 i = 0; i < ARGUMENTS; i++) {
		if (i >= argument_count)
			break;
		bpf_get_func_arg(ctx, i, &arguments[i]);
	}
}

SEC("fentry")
int on_fentry(void *ctx)
{
	struct counters *totals = wanted();
	__u64 arguments[ARGUMENTS] = {};

	if (!totals)
		return 0;
	from_trampoline(ctx, arguments);
	emit(ctx, totals, arguments, 0, 0, 0);
	return 0;
}

SEC("fexit")
int on_fexit(void *ctx)
{
	struct counters *totals = wanted();
	__u64 arguments[ARGUMENTS] = {}, ret = 0;

	if (!totals)
		return 0;
	from_trampoline(ctx, arguments);
	bpf_get_func_ret(ctx, &ret);
	emit(ctx, totals, arguments, ret, 0, 0);
	return 0;
}

static __always_inline int static_probe(struct pt_regs *ctx)
{
	struct counters *totals = wanted();
	__u64 arguments[ARGUMENTS] = {};

	if (!totals)
		return 0;
	for (__u32 i = 0; i < ARGUMENTS; i++) {
		long value = 0;

		if (i >= argument_count)
			break;
		bpf_usdt_arg(ctx, i, &value);
		arguments[i] = value;
	}
	emit(ctx, totals, arguments, 0, 0, 0);
	return 0;
}

SEC("usdt")
int on_usdt(struct pt_regs *ctx)
{
	return static_probe(ctx);
}

SEC("usdt.s")
int on_usdt_sleeping(struct pt_regs *ctx)
{
	return static_probe(ctx);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
