/* Declarations as headers have them; a compiler and Btf::parse_c must agree on each. */
#ifndef GUARD
#define GUARD
#include "not there.h"
#define COMM_LEN 16
#define LONGER (COMM_LEN * 2 + \
		1)
#define with_arguments(a) a
#if defined(COMM_LEN) && COMM_LEN > 15 // a comment
typedef unsigned int u32_of_mine;
#elif 1
typedef char u32_of_mine;
#else
#error this is "not C
#endif

typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
typedef u16 __be16; typedef u32 __be32;

enum verdict { PASS, DROP = 7, LATER, NEGATIVE = -3, COUNT = sizeof(u64) << 2 };
enum wide { SMALL = 1, HUGE_ = 0x100000000ULL };
enum small { ONE = 1, TWO } __attribute__((packed));

struct forward;
static inline int function(struct forward *a, int b) { if (b) { return 1; } return b; }
extern int variable, another[4];
int prototype(const char *name);

struct plain {
	u32 pid, tgid;
	char comm[COMM_LEN];
	const char *name;
	u8 flag;
	u64 stamp;
};
struct packed { u8 a; u32 b; u16 c[3]; u64 d; } __attribute__((packed));
struct __attribute__((__packed__)) packed_before { u8 a; u64 b; };
struct one_packed { u8 a; u32 b __attribute__((packed)); u64 c; };
struct aligned { u8 a; u32 b __attribute__((aligned(16))); u8 c; } __attribute__((aligned(32)));
struct bits {
	u32 a : 3, b : 7;
	u32 c : 25;
	u8 d : 5;
	u8 e : 4;
	u64 f : 40;
	int : 0;
	u16 g : 9;
	int h : 1;
	enum verdict i : 4;
	_Bool j : 1;
	u32 : 5;
	u32 k : 6;
};
struct packed_bits { u8 a : 3; u32 b : 30; u64 c : 50; u8 d; u16 e : 9; } __attribute__((packed));
struct nested {
	struct { u16 x, y; };
	union { u64 whole; struct { u32 low, high; } halves; u8 bytes[8]; };
	struct plain inner, many[2][3];
	enum verdict verdict;
	enum small small;
	enum wide wide;
};
union either { u8 a[5]; u32 b; struct bits c; u16 d : 3; };
struct pointers {
	struct forward *forward;
	struct pointers *next, **list;
	int (*call)(struct plain *, int);
	void (*table[3])(void);
	char (*matrix)[4];
	void *anything;
};
struct numbers {
	signed char a; char b; short int c; long unsigned int d; long long e; unsigned f; _Bool g; __int128 h;
	unsigned char i[LONGER]; int long j; float k; double l;
};
struct net { __be16 port; __be32 address; u32_of_mine mine; int length['a' - 'A' > 0 ? 2 : 3]; };
struct tail { u32 length; char text[]; };
typedef struct { int member; } only_typedef, typedef_array[4];
typedef struct with_both { only_typedef a; typedef_array b; } with_both_t;
#ifdef NOT_DEFINED
struct absent { broken;
#endif
struct last { struct tail *tail; with_both_t both; unsigned long long odd[sizeof(struct plain) / 8]; } last_variable;
#endif
