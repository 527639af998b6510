// SPDX-License-Identifier: GPL-2.0 OR MIT
// A map that cannot be understood, one for each number.
#include "bpf.h"

struct inner { __uint(type, 2); __uint(max_entries, 4); __type(key, u32); __type(value, u64); };
struct inner good SEC(".maps");

#if BAD == 1
struct { __uint(type, 1); __uint(maximum, 4); __type(key, u32); } bad SEC(".maps");
#elif BAD == 2
struct { __uint(max_entries, 4); __type(key, u32); } bad SEC(".maps");
#elif BAD == 3
struct { __uint(type, 1); __uint(pinning, 2); } bad SEC(".maps");
#elif BAD == 4
struct { __uint(type, 1); __uint(key_size, 8); __type(key, u32); } bad SEC(".maps");
#elif BAD == 5
struct { __uint(type, 1); u32 max_entries; } bad SEC(".maps");
#elif BAD == 6
struct { __uint(type, 1); __array(values, struct inner); } bad SEC(".maps");
#elif BAD == 7
struct { __uint(type, 12); __array(values, struct { __uint(type, 12); __array(values, struct inner); }); } bad SEC(".maps");
#elif BAD == 8
struct { __uint(type, 12); __array(values, int(void)); } bad SEC(".maps");
#elif BAD == 9
static struct { __uint(type, 1); } bad SEC(".maps");
#elif BAD == 10
struct { __uint(type, 12); __uint(value_size, 8); __array(values, struct inner); } bad SEC(".maps");
#elif BAD == 11
struct { __uint(type, 12); __array(values, struct { __uint(type, 1); __uint(pinning, 1); }); } bad SEC(".maps");
#elif BAD == 12
extern struct inner bad SEC(".maps");
SEC("xdp") int use(void *ctx) { return (long)&bad; }
#elif BAD == 13
struct not_defined;
struct { __uint(type, 1); struct not_defined *value; } bad SEC(".maps");
#elif BAD == 14
u64 bad SEC(".maps");
#endif
