/* As bpftrace compiles `printf("%d %s %d %llu %s\n", pid, comm, cpu, nsecs, str(arg0))`: the number of the format first, all
 * numbers in 8 bytes, no types of C, no source lines. */
#include "held.h"

SEC("raw_tp/a") int printed(u64 *ctx)
{
	u8 buf[8 + 8 + 16 + 8 + 8 + 64] __attribute__((aligned(8)));

	__builtin_memset(buf, 0, sizeof(buf));
	*(u64 *)buf = 0;
	*(u64 *)(buf + 8) = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(buf + 16, 16);
	*(u64 *)(buf + 32) = bpf_get_smp_processor_id();
	*(u64 *)(buf + 40) = bpf_ktime_get_ns();
	bpf_probe_read_user_str(buf + 48, 64, (void *)ctx[0]);
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, buf, sizeof(buf));
	return 0;
}
