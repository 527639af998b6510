// A known mix: of each round's work `sixty` does 60%, `thirty` 30%, `ten` 10%. Each step waits for the one before it, so that
// the same number of steps takes the same time wherever the loop lies; nothing of libc is called, whose functions have no
// frame pointers and would hide their callers.
#include <stdint.h>

volatile uint64_t sink;
void *volatile frame;

#define SPIN(steps)                                                     \
	do {                                                            \
		/* gcc leaves the frame out of a function that calls none. */ \
		frame = __builtin_frame_address(0);                     \
		uint64_t value = sink;                                  \
		for (int i = 0; i < (steps); i++)                       \
			value = value * 6364136223846793005ULL + i;     \
		sink = value;                                           \
	} while (0)

__attribute__((noinline)) void sixty(void)
{
	SPIN(600000); // line of sixty
}

__attribute__((noinline)) void thirty(void)
{
	SPIN(300000); // line of thirty
}

__attribute__((noinline)) void ten(void)
{
	SPIN(100000); // line of ten
}

int main(void)
{
	for (;;) {
		sixty();
		thirty();
		ten();
	}
}
