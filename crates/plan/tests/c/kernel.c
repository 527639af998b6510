/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Types of a small kernel: what its BTF would hold. Never loaded. */
typedef unsigned int u32;
typedef unsigned long long u64;

struct task_struct { int padding; int pid; };
struct list { struct list *next; };

/* What the features of a kernel are recognised by. */
enum bpf_prog_type { BPF_PROG_TYPE_UNSPEC, BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_KPROBE };
enum bpf_map_type { BPF_MAP_TYPE_UNSPEC, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY };
enum bpf_attach_type { BPF_TRACE_RAW_TP = 23, BPF_TRACE_FENTRY = 24 };
struct bpf_map_ops {
	int (*map_direct_value_addr)(void);
#ifdef MMAP
	int (*map_mmap)(void);
#endif
};
#ifdef NAMES
union bpf_attr { struct { char prog_name[16]; u32 expected_attach_type; }; };
#endif

/* Kernel variables, functions, tracepoints, hooks. */
struct task_struct init_task;
u64 jiffies;
u32 kernel_add(u32 a, u32 b) { return a + b; }
u32 kernel_other(u64 *a) { return *a; }
int tcp_connect(struct task_struct *task) { return task->pid; }
int bpf_lsm_file_open(void *file) { return !file; }
int bpf_iter_task(void *meta) { return !meta; }
typedef void (*btf_trace_sched_switch)(void *data, struct task_struct *prev);

struct tiny_ops {
	int new_member;
	void (*start)(struct task_struct *task);
	u32 flags;
	int (*stop)(void);
	struct list *other;
};
struct bpf_struct_ops_tiny_ops { int refcnt; struct tiny_ops data; };

/* Keeps the types that nothing above uses. */
struct all {
	struct bpf_map_ops ops;
	btf_trace_sched_switch trace;
	struct bpf_struct_ops_tiny_ops tiny;
	enum bpf_prog_type prog;
	enum bpf_map_type map;
	enum bpf_attach_type attach;
#ifdef NAMES
	union bpf_attr attr;
#endif
} all;
