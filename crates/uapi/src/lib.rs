//! The names and numbers that the kernel and its programs share: instructions, and the `enum`s of `bpf.h`.
//!
//! This room knows no object file, no system call and no policy.
#![forbid(unsafe_code)]

mod enums;
mod insn;

pub use enums::{AttachType, Command, Helper, LinkType, MapType, ProgramType};
pub use insn::Insn;
