/* Latencies: what was stored at the start is a map's value; arrays of structs; a number of 128 bits. */
#include "held.h"

struct start { u64 ts; u32 dev; u32 sectors; u64 sector; char disk[32]; };
struct { __uint(type, 1); __uint(max_entries, 1024); __type(key, u64); __type(value, struct start); } starts SEC(".maps");

struct step { u64 at; u32 kind; u32 bytes; };
struct done {
	u64 start;
	u64 duration;
	u64 sector;
	u32 dev;
	u32 sectors;
	s32 error;
	u32 pid;
	char disk[32];
	struct step steps[2];
	unsigned __int128 total;
};

SEC("raw_tp/start") int begins(u64 *ctx)
{
	struct start s = { .ts = bpf_ktime_get_ns(), .dev = ctx[1], .sectors = ctx[2] >> 9, .sector = ctx[3] };
	u64 key = ctx[0];

	bpf_probe_read_kernel_str(s.disk, sizeof(s.disk), (void *)ctx[4]);
	bpf_map_update_elem(&starts, &key, &s, 0);
	return 0;
}

SEC("raw_tp/done") int ends(u64 *ctx)
{
	u64 key = ctx[0];
	struct start *s = bpf_map_lookup_elem(&starts, &key);
	struct done *d;

	if (!s)
		return 0;
	d = bpf_ringbuf_reserve(&ring, sizeof(*d), 0);
	if (!d)
		goto out;
	d->start = s->ts;
	d->duration = bpf_ktime_get_ns() - s->ts;
	d->sector = s->sector;
	d->dev = s->dev;
	d->sectors = s->sectors;
	d->error = -(s32)ctx[1];
	d->pid = bpf_get_current_pid_tgid() >> 32;
	__builtin_memcpy(d->disk, s->disk, sizeof(d->disk));
	d->steps[0].at = s->ts + 1;
	d->steps[0].kind = 1;
	d->steps[0].bytes = s->sectors << 9;
	d->steps[1].at = bpf_ktime_get_ns();
	d->steps[1].kind = 2;
	d->steps[1].bytes = ctx[2] << 9;
	d->total = (unsigned __int128)ctx[3] << 64 | ctx[4];
	bpf_ringbuf_submit(d, 0);
out:
	bpf_map_delete_elem(&starts, &key);
	return 0;
}
