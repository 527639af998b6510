//! An eBPF object file as plain data: programs, subprograms, maps, globals, externs, relocations, types.
//!
//! [`Object::parse`] reads ELF bytes. This room knows no kernel, no system call and no policy: reading the
//! same file on any machine gives the same [`Object`].
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

mod model;

pub use model::{
    CoreKind, CoreReloc, Data, Extern, ExternId, ExternKind, Function, FunctionId, KconfigType, Line, Map, MapId,
    Object, Program, Reloc, Role, Slot, SlotTarget, StructOps, Target, Visibility,
};
