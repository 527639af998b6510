// SPDX-License-Identifier: MIT OR Apache-2.0
// Functions of the kernel and of programs.
#include "sections.h"

ROW(kprobe, "kprobe/do_sys_openat2", 0)
ROW(kretprobe, "kretprobe/do_sys_openat2", 0)
ROW(ksyscall, "ksyscall/getpriority", 0)
ROW(kretsyscall, "kretsyscall/getpriority", 0)
ROW(kprobe_multi, "kprobe.multi/do_sys_openat*", 0)
ROW(kretprobe_multi, "kretprobe.multi/do_sys_openat*", 0)
ROW(kprobe_session, "kprobe.session/do_sys_openat*", 0)
ROW(uprobe, "uprobe", 0)
ROW(uprobe_s, "uprobe.s", 0)
ROW(uretprobe, "uretprobe", 0)
ROW(uretprobe_s, "uretprobe.s", 0)
ROW(uprobe_multi, "uprobe.multi//proc/self/exe:*ringfence_test_probed*", 0)
ROW(uprobe_multi_s, "uprobe.multi.s//proc/self/exe:*ringfence_test_probed*", 0)
ROW(uretprobe_multi, "uretprobe.multi//proc/self/exe:*ringfence_test_probed*", 0)
ROW(uretprobe_multi_s, "uretprobe.multi.s//proc/self/exe:*ringfence_test_probed*", 0)
ROW(uprobe_session, "uprobe.session//proc/self/exe:*ringfence_test_probed*", 0)
ROW(uprobe_session_s, "uprobe.session.s//proc/self/exe:*ringfence_test_probed*", 0)
ROW(usdt, "usdt", 0)
ROW(usdt_s, "usdt.s", 0)
ROW(perf_event, "perf_event", 0)
