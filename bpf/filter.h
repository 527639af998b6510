/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Whose events a built-in tool takes, decided in the kernel: the process that runs now. */
#ifndef RINGFENCE_FILTER_H
#define RINGFENCE_FILTER_H

#define COMM_LEN 16

/* What is zero or empty filters nothing. `filter_cgroup` is the number of a directory of cgroup2, itself or a parent of the
 * process's, and `filter_cgroup_level` how many directories below the root it is. */
const volatile __u32 filter_pid = 0;
const volatile bool filter_by_uid = false;
const volatile __u32 filter_uid = 0;
const volatile __u64 filter_cgroup = 0;
const volatile __u32 filter_cgroup_level = 0;
const volatile char filter_comm[COMM_LEN] = {};

static __always_inline bool filter_takes(void)
{
	char comm[COMM_LEN] = {};

	if (filter_pid && filter_pid != bpf_get_current_pid_tgid() >> 32)
		return false;
	if (filter_by_uid && filter_uid != (__u32)bpf_get_current_uid_gid())
		return false;
	if (filter_cgroup && filter_cgroup != bpf_get_current_ancestor_cgroup_id(filter_cgroup_level))
		return false;
	if (!filter_comm[0])
		return true;
	bpf_get_current_comm(comm, sizeof(comm));
	for (int i = 0; i < COMM_LEN; i++) {
		if (comm[i] != filter_comm[i])
			return false;
		if (!comm[i])
			break;
	}
	return true;
}

#endif
