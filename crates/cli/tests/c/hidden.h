/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
#ifndef HIDDEN_H
#define HIDDEN_H

#define HIDDEN_COMM 16

enum hidden_kind { HIDDEN_NONE, HIDDEN_KIND = 7 };

struct hidden_event {
	__u64 started;
	__u32 pid, uid;
	char comm[HIDDEN_COMM];
	enum hidden_kind kind;
	__u32 unused;
};

#endif
