// SPDX-License-Identifier: MIT OR Apache-2.0
// Values that hang on tasks, sockets, files and control groups.
#include "bpf.h"

enum {
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_INODE_STORAGE = 28,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
	BPF_MAP_TYPE_CGRP_STORAGE = 32,
	BPF_F_NO_PREALLOC = 1,
	CREATE = 1,
};

#define CORE __attribute__((preserve_access_index))
struct cgroup {
	int unused;
};
struct css_set {
	struct cgroup *dfl_cgrp;
} CORE;
struct task_struct {
	int tgid;
	struct css_set *cgroups;
} CORE;
struct inode {
	unsigned long i_ino;
} CORE;
struct file {
	struct inode *f_inode;
} CORE;
struct bpf_sock;
struct bpf_sockopt {
	struct bpf_sock *sk;
	__u64 optval, optval_end;
	int level, optname, optlen, retval;
};

static void *(*bpf_sk_storage_get)(void *map, void *sk, void *value, __u64 flags) = (void *)107;
static void *(*bpf_inode_storage_get)(void *map, void *inode, void *value, __u64 flags) = (void *)145;
static void *(*bpf_task_storage_get)(void *map, void *task, void *value, __u64 flags) = (void *)156;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;
static void *(*bpf_cgrp_storage_get)(void *map, void *cgroup, void *value, __u64 flags) = (void *)210;

struct visits {
	__u64 from_user;
	__u64 seen;
};

#define STORAGE(name, kind) \
	struct { \
		__uint(type, kind); \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__type(key, int); \
		__type(value, struct visits); \
	} name SEC(".maps")

STORAGE(of_tasks, BPF_MAP_TYPE_TASK_STORAGE);
STORAGE(of_groups, BPF_MAP_TYPE_CGRP_STORAGE);
STORAGE(of_sockets, BPF_MAP_TYPE_SK_STORAGE);
STORAGE(of_files, BPF_MAP_TYPE_INODE_STORAGE);

int own_pid = 0;
unsigned long own_inode = 0;

static __always_inline void visit(struct visits *visits)
{
	if (visits)
		visits->seen += 1 + visits->from_user;
}

SEC("tp_btf/sys_enter")
int task(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (own_pid && task->tgid == own_pid)
		visit(bpf_task_storage_get(&of_tasks, task, 0, CREATE));
	return 0;
}

SEC("tp_btf/sys_enter")
int group(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (own_pid && task->tgid == own_pid)
		visit(bpf_cgrp_storage_get(&of_groups, task->cgroups->dfl_cgrp, 0, CREATE));
	return 0;
}

SEC("cgroup/setsockopt")
int socket(struct bpf_sockopt *ctx)
{
	if (ctx->sk)
		visit(bpf_sk_storage_get(&of_sockets, ctx->sk, 0, 0));
	return 1;
}

SEC("lsm/file_open")
int file(unsigned long long *ctx)
{
	struct file *file = (void *)ctx[0];

	if (own_inode && file->f_inode->i_ino == own_inode)
		visit(bpf_inode_storage_get(&of_files, file->f_inode, 0, CREATE));
	return 0;
}
