//! Which instructions the kernel carries out itself at a uprobe, and which it has the CPU step through at some ten times the cost.

/// Where indirect jumps may land; functions of many distributions begin with it.
pub(crate) const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// The instruction at the start of `code` is stepped through by every kernel that this knows.
///
/// arch/x86/kernel/uprobes.c (`branch_setup_xol_ops`, `push_setup_xol_ops`), arch/arm64/kernel/probes/decode-insn.c (`arm_probe_decode_insn`).
pub(crate) fn is_stepped(code: &[u8]) -> bool {
    match std::env::consts::ARCH {
        "x86_64" => !x86_is_emulated(code),
        "aarch64" => !arm64_is_emulated(code),
        _ => false,
    }
}

fn x86_is_emulated(code: &[u8]) -> bool {
    match code {
        // push, jumps, call, nop; the pushes of r8 to r15; the long jumps; nops of several bytes (older kernels step these). Not endbr64.
        [0x50..=0x57 | 0x70..=0x7f | 0x90 | 0xe8 | 0xe9 | 0xeb, ..]
        | [0x41, 0x50..=0x57, ..]
        | [0x0f, 0x80..=0x8f | 0x1f, ..]
        | [0x66, 0x90, ..]
        | [0x66, 0x0f, 0x1f, ..] => true,
        [] => true,
        _ => false,
    }
}

fn arm64_is_emulated(code: &[u8]) -> bool {
    let Some(word) = code.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes) else { return true };
    // (mask, value): b, bl; b.cond; cbz, cbnz; tbz, tbnz; br, blr, ret; adr, adrp; ldr (literal); nop.
    const EMULATED: [(u32, u32); 9] = [
        (0x7c00_0000, 0x1400_0000),
        (0xff00_0010, 0x5400_0000),
        (0x7e00_0000, 0x3400_0000),
        (0x7e00_0000, 0x3600_0000),
        (0xff9f_fc1f, 0xd61f_0000),
        (0x1f00_0000, 0x1000_0000),
        (0xbf00_0000, 0x1800_0000),
        (0xff00_0000, 0x9800_0000),
        (0xffff_ffff, 0xd503_201f),
    ];
    EMULATED.iter().any(|(mask, value)| word & mask == *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_emulates() {
        for (code, emulated) in [
            (&[0x55][..], true),               // push %rbp
            (&[0x41, 0x57], true),             // push %r15
            (&[0x90], true),                   // nop
            (&[0x0f, 0x1f, 0x44, 0, 0], true), // nopl 0(%rax,%rax)
            (&[0xe8, 0, 0, 0, 0], true),       // call
            (&[0x0f, 0x84, 0, 0, 0, 0], true), // je
            (&[0xc3], false),                  // ret
            (&ENDBR64, false),
            (&[0x48, 0x89, 0xe5], false),    // mov %rsp,%rbp
            (&[0x48, 0x83, 0xec, 8], false), // sub $8,%rsp
            (&[0x49, 0x50], false),
        ] {
            assert_eq!(x86_is_emulated(code), emulated, "{code:x?}");
        }
        for (word, emulated) in [
            (0x1400_0001u32, true), // b
            (0x9400_0001, true),    // bl
            (0xd65f_03c0, true),    // ret
            (0xd503_201f, true),    // nop
            (0xb400_0040, true),    // cbz
            (0xa9bf_7bfd, false),   // stp x29, x30, [sp, -16]!
            (0x9100_03fd, false),   // mov x29, sp
        ] {
            assert_eq!(arm64_is_emulated(&word.to_le_bytes()), emulated, "{word:#x}");
        }
    }
}
