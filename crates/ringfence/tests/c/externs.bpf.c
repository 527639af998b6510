// SPDX-License-Identifier: MIT OR Apache-2.0
// What only the running kernel knows: functions and variables of modules, and how it was configured.
#include "bpf.h"

#define __ksym __attribute__((section(".ksyms")))
#define __kconfig __attribute__((section(".kconfig")))
#define __weak __attribute__((weak))

struct __sk_buff {
	__u32 len;
};
struct bpf_sock_tuple {
	__u32 saddr, daddr;
	__u16 sport, dport;
};
struct bpf_ct_opts {
	__s32 netns_id, error;
	__u8 l4proto, dir, reserved[2];
};
/* Only declared, it would be another type than the kernel's, and the functions count as missing. */
struct nf_conn {
	unsigned long status;
};
struct seqcount {
	__u32 sequence;
};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 tuple__sz,
					 struct bpf_ct_opts *opts, __u32 opts__sz) __ksym __weak;
extern void bpf_ct_release(struct nf_conn *entry) __ksym __weak;
extern int bpf_there_is_no_such_function(int a) __ksym __weak;
extern const struct seqcount xt_recseq __ksym __weak;
extern const struct seqcount there_is_no_such_variable __ksym __weak;
extern const void there_is_no_such_symbol __ksym __weak;

static void *(*bpf_this_cpu_ptr)(const void *) = (void *)154;

__s32 error = 0;
__u32 functions = 0, variables = 0, sequence = ~0;

SEC("tc")
int look(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = { .saddr = 1, .daddr = 2, .sport = 3, .dport = 4 };
	struct bpf_ct_opts opts = { .netns_id = -1, .l4proto = 17 };
	struct nf_conn *found = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple), &opts, sizeof(opts));

	error = opts.error;
	if (found)
		bpf_ct_release(found);
	return 0;
}

SEC("tc")
int there(struct __sk_buff *skb)
{
	functions = bpf_skb_ct_lookup && bpf_ct_release ? 1 : 2;
	return 0;
}

SEC("tc")
int missing(struct __sk_buff *skb)
{
	if (bpf_there_is_no_such_function)
		functions = bpf_there_is_no_such_function(1);
	if (&there_is_no_such_variable)
		variables |= 1;
	if (&there_is_no_such_symbol)
		variables |= 2;
	return 7;
}

SEC("tc")
int count(struct __sk_buff *skb)
{
	if (&xt_recseq) {
		const struct seqcount *here = bpf_this_cpu_ptr(&xt_recseq);
		sequence = here->sequence;
	}
	return 0;
}

enum libbpf_tristate {
	TRI_NO = 0,
	TRI_YES = 1,
	TRI_MODULE = 2,
};
extern __s32 LINUX_KERNEL_VERSION __kconfig;
extern _Bool LINUX_HAS_BPF_COOKIE __kconfig;
extern _Bool LINUX_HAS_SYSCALL_WRAPPER __kconfig;
extern _Bool CONFIG_BPF_SYSCALL __kconfig;
extern _Bool CONFIG_THERE_IS_NO_SUCH_OPTION __kconfig __weak;
extern enum libbpf_tristate CONFIG_BPF_JIT __kconfig;
extern enum libbpf_tristate CONFIG_VETH __kconfig __weak;
extern enum libbpf_tristate CONFIG_NEITHER __kconfig __weak;
extern char CONFIG_NET __kconfig;
extern __s32 CONFIG_HZ __kconfig;
extern unsigned long CONFIG_PHYSICAL_ALIGN __kconfig __weak;
extern char CONFIG_DEFAULT_HOSTNAME[8] __kconfig __weak;

__s32 version = 0, hertz = 0;
__u32 bits = 0, tristates = 0;
__u64 align = 0;
char letter = 0, host[8] = {};

SEC("tc")
int configured(struct __sk_buff *skb)
{
	version = LINUX_KERNEL_VERSION;
	bits = LINUX_HAS_BPF_COOKIE | LINUX_HAS_SYSCALL_WRAPPER << 1 | CONFIG_BPF_SYSCALL << 2 |
	       CONFIG_THERE_IS_NO_SUCH_OPTION << 3;
	tristates = CONFIG_BPF_JIT | CONFIG_VETH << 4 | CONFIG_NEITHER << 8;
	letter = CONFIG_NET;
	hertz = CONFIG_HZ;
	align = CONFIG_PHYSICAL_ALIGN;
	for (int i = 0; i < 8; i++)
		host[i] = CONFIG_DEFAULT_HOSTNAME[i];
	return 0;
}
