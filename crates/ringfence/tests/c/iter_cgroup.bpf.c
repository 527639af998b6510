// SPDX-License-Identifier: MIT OR Apache-2.0
// A byte for every control group.
#include "bpf.h"

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));
struct cgroup;
struct bpf_iter__cgroup {
	struct bpf_iter_meta *meta;
	struct cgroup *cgroup;
} __attribute__((preserve_access_index));

SEC("iter/cgroup")
int groups(struct bpf_iter__cgroup *ctx)
{
	char one = 1;

	if (ctx->cgroup)
		bpf_seq_write(ctx->meta->seq, &one, 1);
	return 0;
}
