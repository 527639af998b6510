// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Files opened, with the result: openat(2) and openat2(2). */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#define NAME_LEN 256

/* Of the kernel's own types only what is read here; CO-RE finds the rest. */
struct trace_event_raw_sys_enter {
	unsigned long args[6];
} __attribute__((preserve_access_index));

struct trace_event_raw_sys_exit {
	long ret;
} __attribute__((preserve_access_index));

struct open_how {
	__u64 flags;
};

struct open_event {
	__u64 ts_ns;
	__u32 pid;
	__u32 uid;
	int ret;
	__u32 flags;
	char comm[16];
	char filename[NAME_LEN];
};

struct pending {
	const char *filename;
	__u32 flags;
};

/* Puts the record's type into the BTF: clang leaves out what only local variables use. */
const struct open_event *unused_open_event __attribute__((unused));

const volatile __u32 target_pid = 0;
const volatile bool failed_only = false;

/* Events for which the ring buffer had no room, and opens that the table of pending calls had no room for. */
__u64 lost_events = 0;
__u64 lost_calls = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u64);
	__type(value, struct pending);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

static __always_inline int enter(const char *filename, __u32 flags)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct pending call = {};

	if (target_pid && target_pid != id >> 32)
		return 0;
	call.filename = filename;
	call.flags = flags;
	if (bpf_map_update_elem(&calls, &id, &call, BPF_ANY))
		__sync_fetch_and_add(&lost_calls, 1);
	return 0;
}

static __always_inline int leave(struct trace_event_raw_sys_exit *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct pending *call = bpf_map_lookup_elem(&calls, &id);
	struct open_event *event;
	int ret = ctx->ret;

	if (!call)
		return 0;
	if (failed_only && ret >= 0)
		goto out;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&lost_events, 1);
		goto out;
	}
	event->ts_ns = bpf_ktime_get_ns();
	event->pid = id >> 32;
	event->uid = bpf_get_current_uid_gid();
	event->ret = ret;
	event->flags = call->flags;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (bpf_probe_read_user_str(event->filename, sizeof(event->filename), call->filename) < 0)
		event->filename[0] = 0;
	bpf_ringbuf_submit(event, 0);
out:
	bpf_map_delete_elem(&calls, &id);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_openat")
int enter_openat(struct trace_event_raw_sys_enter *ctx)
{
	return enter((const char *)ctx->args[1], ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_exit_openat")
int exit_openat(struct trace_event_raw_sys_exit *ctx)
{
	return leave(ctx);
}

SEC("tracepoint/syscalls/sys_enter_openat2")
int enter_openat2(struct trace_event_raw_sys_enter *ctx)
{
	const struct open_how *how = (const struct open_how *)ctx->args[2];
	__u64 flags = 0;

	bpf_probe_read_user(&flags, sizeof(flags), &how->flags);
	return enter((const char *)ctx->args[1], flags);
}

SEC("tracepoint/syscalls/sys_exit_openat2")
int exit_openat2(struct trace_event_raw_sys_exit *ctx)
{
	return leave(ctx);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
