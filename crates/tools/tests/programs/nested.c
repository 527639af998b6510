// A known mix in nested functions without frame pointers, called through libc, which has none either: `half` does 50% of the work,
// `third` 30%, `fifth` 20%. `-DALIGNED` has functions that align their stack, and find their caller through memory.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __clang__
#define CALLED __attribute__((noinline))
#else
#define CALLED __attribute__((noipa))
#endif

volatile uint64_t sink;

#define SPIN(steps)                                                 \
	do {                                                        \
		uint64_t value = sink;                              \
		for (int i = 0; i < (steps); i++)                   \
			value = value * 6364136223846793005ULL + i; \
		sink = value;                                       \
	} while (0)

CALLED void half(char *room)
{
	SPIN(500000);
	room[0] = 1;
}

CALLED void third(char *room)
{
	SPIN(300000);
	room[0] = 2;
}

CALLED void fifth(char *room)
{
	SPIN(200000);
	room[0] = 3;
}

#ifdef ALIGNED
#define ROOM _Alignas(64) char room[192]
#else
#define ROOM char room[200]
#endif

CALLED void inner(int which)
{
	ROOM;

	memset(room, which, sizeof(room));
	if (which == 0)
		half(room);
	else if (which == 1)
		third(room);
	else
		fifth(room);
	sink += room[0];
}

// Big enough that its size does not fit into 16 bits.
CALLED void middle(int which)
{
	volatile char room[100000];

	room[which] = 1;
	inner(which);
	sink += room[which];
}

static int compare(const void *left, const void *right)
{
	middle(0);
	middle(1);
	middle(2);
	return *(const int *)left - *(const int *)right;
}

int main(void)
{
	for (;;) {
		int two[] = { 2, 1 };
		qsort(two, 2, sizeof(int), compare);
		sink += two[0];
	}
}
