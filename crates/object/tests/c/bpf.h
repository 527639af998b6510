/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* The little that the objects of these tests need; stands for libbpf's bpf_helpers.h. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef _Bool bool;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, type) typeof(type) *name
#define __array(name, type) typeof(type) *name[]
#define __ulong(name, value) enum { __unique(value_, __COUNTER__) = value } name
#define __unique(a, b) __paste(a, b)
#define __paste(a, b) a##b
#define __noinline __attribute__((noinline))
#define __hidden __attribute__((visibility("hidden")))
#define __weak __attribute__((weak))
#define __kconfig __attribute__((section(".kconfig")))
#define __ksym __attribute__((section(".ksyms")))
#define __tag(text) __attribute__((btf_decl_tag(text)))
#define barrier() asm volatile("" ::: "memory")

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*trace_printk)(const char *format, u32 size, ...) = (void *)6;
static long (*loop)(u32 times, void *callback, void *context, u64 flags) = (void *)181;
