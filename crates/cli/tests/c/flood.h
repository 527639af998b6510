/* Events faster than anybody reads them: CALLS of getpriority(2) by one process, BATCH events each. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define BATCH 100

struct flood_event {
	__u64 number;
	__u32 pid;
	__u32 batch;
	char text[48];
};

const struct flood_event *unused_flood_event __attribute__((unused));

const volatile __u32 target_pid = 0;
__u64 numbers = 0;

char LICENSE[] SEC("license") = "Dual MIT/GPL";
