/* Structs that a program only fills in a ring buffer: clang leaves them out of BTF. */
typedef unsigned char __u8;
typedef unsigned int __u32;
typedef unsigned long long __u64;
#define SEC(name) __attribute__((section(name), used))

enum kind { OPEN = 1, CLOSE = 2, LAST = 0xffffffff };
enum sign { MINUS = -7, PLUS = 7 };
enum wide { WIDE = 0x123456789abULL };

struct inner {
	__u32 a;
	short b[3];
};

union either {
	__u64 number;
	__u8 bytes[8];
};

struct opaque;

struct event {
	__u64 time;
	__u32 pid;
	char comm[16];
	struct inner inner;
	enum kind kind;
	enum sign sign;
	enum wide wide;
	union either either;
	__u32 low : 3;
	__u32 high : 7;
	__u64 far : 40;
	void *address;
	int (*call)(int, const char *, ...);
	const volatile int guarded;
	_Bool done;
	struct event *next;
	struct opaque *opaque;
	int matrix[2][3];
	struct {
		int x;
		union {
			int y;
			long z;
		};
	};
	struct {
		char c;
		int i;
	} __attribute__((packed)) tight;
	char rest[];
};

#define AT(member) __builtin_offsetof(struct event, member)
/* What the compiler says, in the order in which the test asks. */
const __u64 expected[] SEC(".rodata.expected") = {
	sizeof(struct event), AT(time), AT(pid), AT(comm), AT(inner), AT(inner.b), AT(kind), AT(sign), AT(wide),
	AT(either), AT(address), AT(call), AT(guarded), AT(done), AT(next), AT(opaque), AT(matrix), AT(x), AT(y), AT(z),
	AT(tight), AT(tight.i), AT(rest), AT(matrix[1][2]),
};

static void *(*bpf_ringbuf_reserve)(void *ringbuf, __u64 size, __u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;

struct {
	int (*type)[27];
	int (*max_entries)[4096];
} ring SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_openat")
int emit(void *ctx)
{
	struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	if (!event)
		return 0;
	event->time = 1;
	event->far = 5;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
