/* As many small tools are: one struct, a ring, and what the kernel's function was called with. */
#include "../held2/more.h"

struct oom_control { u64 order; u64 totalpages; struct task_struct *chosen; long chosen_points; } core;
struct data_t {
	u32 fpid;
	u32 tpid;
	u64 pages;
	s64 points;
	char fcomm[16];
	char tcomm[16];
};

SEC("kprobe/oom_kill_process") int oom_kill_process(u64 *ctx)
{
	struct oom_control *oc = (void *)ctx[14];
	struct data_t *data = bpf_ringbuf_reserve(&ring, sizeof(*data), 0);

	if (!data)
		return 0;
	data->fpid = bpf_get_current_pid_tgid() >> 32;
	data->tpid = BPF_CORE_READ(oc, chosen, tgid);
	data->pages = BPF_CORE_READ(oc, totalpages);
	data->points = BPF_CORE_READ(oc, chosen_points);
	bpf_get_current_comm(&data->fcomm, sizeof(data->fcomm));
	bpf_probe_read_kernel(&data->tcomm, sizeof(data->tcomm), &BPF_CORE_READ(oc, chosen)->comm);
	bpf_ringbuf_submit(data, 0);
	return 0;
}
