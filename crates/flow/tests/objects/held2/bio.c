/* Block requests: an object of the kernel copied in parts, a union by kind, an array of structs, values of an enum. */
#include "more.h"

struct gendisk { int major, first_minor; char disk_name[32]; } core;
struct request { u64 __sector; u32 __data_len, cmd_flags; struct gendisk *rq_disk; u64 io_start_time_ns; } core;

enum phase { QUEUED, ISSUED, DONE };
struct step { u64 at; u32 cpu; u32 phase; };
struct io_event {
	u64 sector;
	u32 bytes;
	u32 dev;
	union {
		struct { s32 error; u32 retries; } done;
		u64 cookie;
	};
	struct step steps[3];
	u8 rwflag;
	u8 pad[3];
	u32 stack_id;
	char disk[32];
	char comm[16];
};

struct { __uint(type, 1); __uint(max_entries, 4096); __type(key, u64); __uint(value_size, sizeof(struct io_event)); }
	inflight SEC(".maps");
struct { __uint(type, 7); __uint(max_entries, 1024); __uint(key_size, 4); __uint(value_size, 1016); } stacks SEC(".maps");

SEC("raw_tp/block_rq_insert")
int rq_insert(u64 *ctx)
{
	u64 rq = ctx[0];
	struct io_event io = {};

	io.steps[QUEUED].at = bpf_ktime_get_ns();
	io.steps[QUEUED].cpu = bpf_get_smp_processor_id();
	io.steps[QUEUED].phase = QUEUED;
	io.stack_id = bpf_get_stackid(ctx, &stacks, 0);
	bpf_get_current_comm(&io.comm, sizeof(io.comm));
	bpf_map_update_elem(&inflight, &rq, &io, 0);
	return 0;
}

SEC("raw_tp/block_rq_issue")
int rq_issue(u64 *ctx)
{
	u64 rq = ctx[0];
	struct io_event *io = bpf_map_lookup_elem(&inflight, &rq);

	if (!io)
		return 0;
	io->steps[ISSUED].at = bpf_ktime_get_ns();
	io->steps[ISSUED].cpu = bpf_get_smp_processor_id();
	io->steps[ISSUED].phase = ISSUED;
	return 0;
}

SEC("raw_tp/block_rq_complete")
int rq_complete(u64 *ctx)
{
	u64 key = ctx[0];
	struct request *rq = (struct request *)ctx[0];
	struct io_event *io = bpf_map_lookup_elem(&inflight, &key);

	if (!io)
		return 0;
	struct gendisk *disk = BPF_CORE_READ(rq, rq_disk);
	io->steps[DONE].at = bpf_ktime_get_ns();
	io->steps[DONE].cpu = bpf_get_smp_processor_id();
	io->steps[DONE].phase = DONE;
	io->sector = BPF_CORE_READ(rq, __sector);
	io->bytes = BPF_CORE_READ(rq, __data_len);
	io->dev = BPF_CORE_READ(disk, major) << 20 | BPF_CORE_READ(disk, first_minor);
	io->rwflag = !!(BPF_CORE_READ(rq, cmd_flags) & 1);
	if (ctx[1]) {
		io->done.error = ctx[1];
		io->done.retries = ctx[2] >> 9;
	} else {
		io->cookie = BPF_CORE_READ(rq, io_start_time_ns);
	}
	BPF_CORE_READ_STR_INTO(&io->disk, disk, disk_name);
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, io, sizeof(*io));
	bpf_map_delete_elem(&inflight, &key);
	return 0;
}
