//! One eBPF instruction, and the parts of its encoding.
//!
//! The encoding is that of `Documentation/bpf/standardization/instruction-set.rst`; the pseudo values of
//! `src` are those of `include/uapi/linux/bpf.h`.

use std::fmt;

/// One eBPF instruction slot: 8 bytes, in the byte order of this value's owner once decoded.
///
/// A 64-bit immediate load takes two slots; the second one has `code == 0`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Insn {
    /// Class, source bit and operation.
    pub code: u8,
    /// Destination register, 0 to 10 when valid.
    pub dst: u8,
    /// Source register, or a pseudo value (`PSEUDO_*`).
    pub src: u8,
    /// Offset of a jump (in slots) or of a memory access (in bytes).
    pub off: i16,
    /// Immediate.
    pub imm: i32,
}

#[allow(missing_docs, reason = "names of the instruction set")]
impl Insn {
    pub const LD: u8 = 0x00;
    pub const LDX: u8 = 0x01;
    pub const ST: u8 = 0x02;
    pub const STX: u8 = 0x03;
    pub const ALU: u8 = 0x04;
    pub const JMP: u8 = 0x05;
    pub const JMP32: u8 = 0x06;
    pub const ALU64: u8 = 0x07;

    /// 64-bit immediate load, first slot.
    pub const LD_IMM64: u8 = 0x18;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
    pub const JA: u8 = 0x05;

    pub const PSEUDO_MAP_FD: u8 = 1;
    pub const PSEUDO_MAP_VALUE: u8 = 2;
    pub const PSEUDO_BTF_ID: u8 = 3;
    pub const PSEUDO_FUNC: u8 = 4;
    pub const PSEUDO_MAP_IDX: u8 = 5;
    pub const PSEUDO_MAP_IDX_VALUE: u8 = 6;
    /// `src` of a call to another function of the program.
    pub const PSEUDO_CALL: u8 = 1;
    /// `src` of a call to a kfunc.
    pub const PSEUDO_KFUNC_CALL: u8 = 2;
}

impl Insn {
    /// Bytes of one slot.
    pub const SIZE: usize = 8;

    /// Decodes one slot of an object file in the given byte order.
    pub fn from_bytes(bytes: [u8; 8], big_endian: bool) -> Self {
        let [code, regs, o0, o1, i0, i1, i2, i3] = bytes;
        // The two register nibbles swap with the byte order: they are C bit-fields.
        if big_endian {
            let (off, imm) = (i16::from_be_bytes([o0, o1]), i32::from_be_bytes([i0, i1, i2, i3]));
            Self { code, dst: regs >> 4, src: regs & 0xf, off, imm }
        } else {
            let (off, imm) = (i16::from_le_bytes([o0, o1]), i32::from_le_bytes([i0, i1, i2, i3]));
            Self { code, dst: regs & 0xf, src: regs >> 4, off, imm }
        }
    }

    /// The slot as the running machine's kernel takes it.
    pub fn to_native(self) -> [u8; 8] {
        let (dst, src) = (self.dst & 0xf, self.src & 0xf);
        let regs = if cfg!(target_endian = "big") { dst << 4 | src } else { src << 4 | dst };
        let ([o0, o1], [i0, i1, i2, i3]) = (self.off.to_ne_bytes(), self.imm.to_ne_bytes());
        [self.code, regs, o0, o1, i0, i1, i2, i3]
    }

    /// `LD`, `LDX`, `ST`, `STX`, `ALU`, `JMP`, `JMP32` or `ALU64`.
    pub fn class(self) -> u8 {
        self.code & 0x07
    }

    /// First slot of a 64-bit immediate load.
    pub fn is_ld_imm64(self) -> bool {
        self.code == Self::LD_IMM64
    }

    /// Call of a function in the same program.
    pub fn is_subprogram_call(self) -> bool {
        self.code == Self::CALL && self.src == Self::PSEUDO_CALL
    }

    /// Call of a kfunc.
    pub fn is_kfunc_call(self) -> bool {
        self.code == Self::CALL && self.src == Self::PSEUDO_KFUNC_CALL
    }

    /// Call of a helper; the number is [`Insn::imm`].
    pub fn is_helper_call(self) -> bool {
        self.code == Self::CALL && self.src == 0
    }
}

/// `opcode dst src off imm`, the opcode in hex: the text form in which loaders are compared.
impl fmt::Display for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x} {} {} {} {}", self.code, self.dst, self.src, self.off, self.imm)
    }
}

impl fmt::Debug for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
