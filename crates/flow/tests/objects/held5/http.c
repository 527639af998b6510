/* Requests of a server: the first bytes are kept in a map between two system calls and sent when it answers. */
#include "../held2/more.h"

#define METHOD_GET 1
#define METHOD_POST 2
#define PAYLOAD 64
struct sys_enter { u64 common; s64 id; u64 args[6]; };
struct sys_exit { u64 common; s64 id; s64 ret; };
struct active_read { u64 fd; char *buf; u64 read_start_ns; };
struct l7_request { u64 write_time_ns; u8 protocol; u8 method; char payload[PAYLOAD]; u32 payload_size; u8 payload_read_complete; };
struct l7_event {
	u64 fd;
	u64 write_time_ns;
	u32 pid;
	u32 status;
	u64 duration;
	u8 protocol;
	u8 method;
	u16 unused;
	char payload[PAYLOAD];
	u32 payload_size;
	u8 payload_read_complete;
	u8 failed;
	u8 is_tls;
};
struct { __uint(type, 1); __uint(max_entries, 1024); __type(key, u64); __type(value, struct active_read); } active_reads SEC(".maps");
struct { __uint(type, 9); __uint(max_entries, 1024); __type(key, u64); __type(value, u8[88]); } active_l7_requests SEC(".maps");
struct { __uint(type, 6); __uint(max_entries, 1); __type(key, u32); __type(value, u8[120]); } l7_event_heap SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_write") int handle_write(struct sys_enter *ctx)
{
	struct l7_request req = {};
	u64 key = (bpf_get_current_pid_tgid() & ~0xffffffffULL) | (u32)ctx->args[0];
	char head[4];

	bpf_probe_read_user(head, sizeof(head), (void *)ctx->args[1]);
	if (head[0] == 'G')
		req.method = METHOD_GET;
	else if (head[0] == 'P')
		req.method = METHOD_POST;
	else
		return 0;
	req.protocol = 1;
	req.write_time_ns = bpf_ktime_get_ns();
	bpf_probe_read_user(req.payload, sizeof(req.payload), (void *)ctx->args[1]);
	req.payload_size = ctx->args[2];
	req.payload_read_complete = ctx->args[2] <= PAYLOAD;
	bpf_map_update_elem(&active_l7_requests, &key, &req, 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_read") int handle_read(struct sys_enter *ctx)
{
	struct active_read args = { .fd = ctx->args[0], .buf = (char *)ctx->args[1], .read_start_ns = bpf_ktime_get_ns() };
	u64 id = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&active_reads, &id, &args, 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_read") int handle_read_ret(struct sys_exit *ctx)
{
	u64 id = bpf_get_current_pid_tgid(), key;
	struct active_read *read = bpf_map_lookup_elem(&active_reads, &id);
	struct l7_request *req;
	struct l7_event *e;
	char status[16] = {};
	u32 zero = 0;

	if (!read)
		return 0;
	e = bpf_map_lookup_elem(&l7_event_heap, &zero);
	if (!e)
		return 0;
	key = (id & ~0xffffffffULL) | (u32)read->fd;
	req = bpf_map_lookup_elem(&active_l7_requests, &key);
	if (!req)
		return 0;
	e->fd = read->fd;
	e->pid = id >> 32;
	e->method = req->method;
	e->protocol = req->protocol;
	e->write_time_ns = req->write_time_ns;
	e->duration = bpf_ktime_get_ns() - req->write_time_ns;
	for (int i = 0; i < PAYLOAD; i++)
		e->payload[i] = req->payload[i];
	e->payload_size = req->payload_size;
	e->payload_read_complete = req->payload_read_complete;
	e->failed = ctx->ret < 0;
	e->is_tls = 0;
	bpf_probe_read_user(status, sizeof(status) - 1, read->buf);
	e->status = (status[9] - '0') * 100 + (status[10] - '0') * 10 + (status[11] - '0');
	bpf_map_delete_elem(&active_reads, &id);
	bpf_map_delete_elem(&active_l7_requests, &key);
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, e, sizeof(*e));
	return 0;
}
