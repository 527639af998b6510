/* Types to decode; compiled by the tests. */
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef _Bool bool;

enum state { CLOSED, LISTEN, OPEN = 7, BAD = -1 };
enum bits { READ = 1, WRITE = 2, EXEC = 4 };
enum wide { SMALL = 1, HUGE = 0x100000000ULL };

struct in6_addr { union { __u8 u8[16]; __be32 be32[4]; } in6_u; };
struct in_addr { __be32 s_addr; };

struct scalars {
	__u8 u8; __s8 s8; __u16 u16; __s16 s16; __u32 u32; __s32 s32; __u64 u64; __s64 s64;
	unsigned __int128 u128; __int128 s128;
	bool yes; bool odd;
	float f; double d;
	void *p;
	enum state state; enum state unknown; enum bits bits; enum wide wide;
} __attribute__((packed)) scalars;

struct fields {
	__u32 a : 3; __s32 b : 5; __u32 c : 24;
	__u64 d : 40; __u64 e : 24;
	bool f : 1; enum state g : 4; __u32 : 3; __s32 h : 7;
} fields;

struct point { int x, y; };
struct nested {
	struct point p;
	struct { int a; union { int b; float c; }; };
	union { __u32 whole; __u8 part[4]; } u;
	struct point path[2];
	int grid[2][3];
	char name[8];
	char lines[2][4];
	struct { } nothing;
	__u8 none[0];
	__u32 last;
} nested;

struct flexible { __u64 n; __u32 len; char data[]; } flexible;
struct numbers { __u32 n; struct point list[]; } numbers;
struct buffer { __u32 size; char args[32]; } buffer;

struct net {
	__be32 saddr; __u32 daddr; __be32 seq; __u32 addr;
	__be16 sport; __u16 dport; __u16 pad;
	struct in_addr in; struct in6_addr in6;
	__u8 h_source[6]; __u8 comm[10];
	__u8 addr6[16];
} net;

struct both {
	union { __u32 saddr_v4; __u8 saddr_v6[16]; };
	__u32 af;
} both;

struct wideaddr { unsigned __int128 saddr; __u16 family; } wideaddr;
struct version { unsigned __int128 addr; __u8 ver; } version;
struct unsure { unsigned __int128 addr; __u32 x[4]; } unsure;

struct times { __u64 ts_us; __u64 ts; __u64 delta_us; int ret; __s64 retval; } times;
struct hist { __u32 slots[8]; char comm[16]; } hist;

struct asked {
	__u64 bytes; __u32 pid; int ret; char comm[16];
	enum state state; enum bits mode; bool failed; __u8 mac[6];
	__be32 daddr; __u8 addr6[16]; double share;
	struct point p; struct point path[2]; __u16 ports[3];
} asked;
struct other { __u32 pid; char fname[8]; __u32 comm; } other;
