// SPDX-License-Identifier: MIT OR Apache-2.0
// Tracepoints, traced functions, security hooks, iterators, tables of functions.
#include "sections.h"

ROW(tracepoint, "tracepoint/syscalls/sys_enter_getpriority", 0)
ROW(tp, "tp/syscalls/sys_enter_getpriority", 0)
ROW(tracepoint_s, "tracepoint.s/syscalls/sys_enter_getpriority", 0)
ROW(tp_s, "tp.s/syscalls/sys_enter_getpriority", 0)
ROW(raw_tracepoint, "raw_tracepoint/sys_enter", 0)
ROW(raw_tp, "raw_tp/sys_enter", 0)
ROW(raw_tracepoint_s, "raw_tracepoint.s/sys_enter", 0)
ROW(raw_tp_s, "raw_tp.s/sys_enter", 0)
ROW(raw_tracepoint_w, "raw_tracepoint.w/bpf_test_finish", 0)
ROW(raw_tp_w, "raw_tp.w/bpf_test_finish", 0)
ROW(tp_btf, "tp_btf/sys_enter", 0)
ROW(tp_btf_s, "tp_btf.s/sys_enter", 0)

ROW(fentry, "fentry/do_sys_openat2", 0)
ROW(fexit, "fexit/do_sys_openat2", 0)
ROW(fsession, "fsession/do_sys_openat2", 0)
ROW(fmod_ret, "fmod_ret/security_file_open", 0)
ROW(fentry_s, "fentry.s/bpf_fentry_test1", 0)
ROW(fexit_s, "fexit.s/bpf_fentry_test1", 0)
ROW(fsession_s, "fsession.s/bpf_fentry_test1", 0)
ROW(fmod_ret_s, "fmod_ret.s/bpf_fentry_test1", 0)
ROW(fentry_multi, "fentry.multi/do_sys_openat*", 0)
ROW(fexit_multi, "fexit.multi/do_sys_openat*", 0)
ROW(fsession_multi, "fsession.multi/do_sys_openat*", 0)
ROW(fentry_multi_s, "fentry.multi.s/bpf_fentry_test1", 0)
ROW(fexit_multi_s, "fexit.multi.s/bpf_fentry_test1", 0)
ROW(fsession_multi_s, "fsession.multi.s/bpf_fentry_test1", 0)

ROW(lsm, "lsm/file_open", 0)
ROW(lsm_s, "lsm.s/bprm_committed_creds", 0)
ROW(lsm_cgroup, "lsm_cgroup/socket_bind", 1)
ROW(iter, "iter/task", 0)
ROW(iter_s, "iter.s/task", 0)
ROW(syscall, "syscall", 0)

/* Test runs of programs for traced functions call those functions. */
SEC("fentry/bpf_fentry_test2")
int tested(void *ctx)
{
	return 0;
}

struct __sk_buff {
	__u32 len;
};

__attribute__((noinline)) int answer(struct __sk_buff *skb)
{
	/* So that the compiler does not tell the caller what comes back. */
	volatile int answer = 1;

	return answer;
}

SEC("socket")
int asks(struct __sk_buff *skb)
{
	return answer(skb);
}

SEC("freplace/answer")
int on_freplace(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&runs, 1);
	return 42;
}

struct sock;
struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	void (*init)(struct sock *sk);
	char name[16];
} __attribute__((preserve_access_index));

SEC("struct_ops")
void on_struct_ops(__u64 *ctx)
{
	__sync_fetch_and_add(&runs, 1);
}

SEC("struct_ops")
__u32 threshold(__u64 *ctx)
{
	return 4;
}

SEC("struct_ops")
void avoid(__u64 *ctx)
{
}

SEC("struct_ops")
__u32 undo(__u64 *ctx)
{
	return 4;
}

SEC(".struct_ops")
struct tcp_congestion_ops table = {
	.ssthresh = (void *)threshold,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
	.init = (void *)on_struct_ops,
	.name = "rf_sections",
};

struct bpf_dummy_ops_state;
struct bpf_dummy_ops {
	int (*test_sleepable)(struct bpf_dummy_ops_state *state);
} __attribute__((preserve_access_index));

SEC("struct_ops.s/test_sleepable")
int on_struct_ops_s(__u64 *ctx)
{
	__sync_fetch_and_add(&runs, 1);
	return 0;
}

SEC(".struct_ops")
struct bpf_dummy_ops sleeping = {
	.test_sleepable = (void *)on_struct_ops_s,
};
