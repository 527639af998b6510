// SPDX-License-Identifier: GPL-2.0 OR MIT
// A function that nobody told the kernel to run.
int lonely(void *ctx) { return 0; }
