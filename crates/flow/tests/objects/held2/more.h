/* What the programs of this directory share beyond ../held/held.h. They were written after recovery was tuned on the others
 * and before it was tried on these: in other people's habits, as their repositories show them. */
#include "../held/held.h"

typedef signed char s8;
typedef signed short s16;
typedef _Bool bool;
#define true 1
#define false 0
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_ntohl(x) __builtin_bswap32(x)
#define barrier_var(x) asm volatile("" : "+r"(x))
#define preserve(x) __builtin_preserve_access_index(x)

static long (*bpf_skb_load_bytes)(const void *skb, u32 offset, void *to, u32 len) = (void *)26;
static long (*bpf_d_path)(void *path, char *buf, u32 size) = (void *)147;
static u64 (*bpf_get_socket_cookie)(void *ctx) = (void *)46;
static long (*bpf_probe_read_str)(void *dst, u32 size, const void *from) = (void *)45;
static u64 (*bpf_ktime_get_tai_ns)(void) = (void *)208;
static u64 (*bpf_get_current_ancestor_cgroup_id)(int level) = (void *)123;
static long (*bpf_perf_prog_read_value)(void *ctx, void *buf, u32 size) = (void *)56;

/* As libbpf's bpf_core_read.h has them, for one and two steps. */
#define bpf_core_read(dst, sz, src) bpf_probe_read_kernel(dst, sz, (const void *)preserve(src))
#define bpf_core_read_str(dst, sz, src) bpf_probe_read_kernel_str(dst, sz, (const void *)preserve(src))
#define ___apply(fn, n) fn##n
#define ___nth(_, _1, _2, _3, _4, N, ...) N
#define ___narg(...) ___nth(_, ##__VA_ARGS__, 4, 3, 2, 1, 0)
#define ___concat(a, b) ___apply(a, b)
#define ___into1(dst, src, a) bpf_core_read(dst, sizeof(*(dst)), &(src)->a)
#define ___into2(dst, src, a, b) ({ const void *__t; bpf_core_read(&__t, sizeof(__t), &(src)->a); \
	bpf_core_read(dst, sizeof(*(dst)), &((typeof((src)->a))(__t))->b); })
#define BPF_CORE_READ_INTO(dst, src, ...) ({ ___concat(___into, ___narg(__VA_ARGS__))(dst, src, __VA_ARGS__); })
#define ___type1(src, a) typeof((src)->a)
#define ___type2(src, a, b) typeof((src)->a->b)
#define BPF_CORE_READ(src, ...) ({ ___concat(___type, ___narg(__VA_ARGS__))(src, __VA_ARGS__) __r; \
	BPF_CORE_READ_INTO(&__r, src, __VA_ARGS__); __r; })
#define BPF_CORE_READ_STR_INTO(dst, src, a) bpf_core_read_str((void *)(dst), sizeof(*(dst)), &(src)->a)

struct ns_common { u64 stash; u32 inum; } core;
struct pid_namespace { u32 level; struct ns_common ns; } core;
struct nsproxy { u32 count; struct pid_namespace *pid_ns_for_children; } core;
struct task_struct {
	u32 flags; int on_cpu, prio, static_prio; u32 policy;
	int pid, tgid, exit_code, exit_signal;
	struct task_struct *real_parent, *parent, *group_leader;
	struct nsproxy *nsproxy;
	u64 utime, stime, start_time, start_boottime;
	char comm[16];
} core;
struct in6_addr { union { u8 u6_addr8[16]; __be32 u6_addr32[4]; } in6_u; };
struct sock_common {
	union { struct { __be32 skc_daddr, skc_rcv_saddr; }; };
	union { struct { __be16 skc_dport; u16 skc_num; }; };
	u16 skc_family;
	volatile u8 skc_state;
	int skc_bound_dev_if;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
} core;
struct sock { struct sock_common __sk_common; int sk_sndbuf, sk_rcvbuf; u32 sk_mark; u16 sk_protocol; } core;
struct qstr { u32 hash, len; const u8 *name; } core;
struct dentry { struct dentry *d_parent; struct qstr d_name; struct inode *d_inode; } core;
struct inode { u16 i_mode; u32 i_uid; u64 i_ino; long i_size; u32 i_nlink; } core;
struct path { void *mnt; struct dentry *dentry; } core;
struct file { struct path f_path; struct inode *f_inode; u32 f_flags; s64 f_pos; } core;
