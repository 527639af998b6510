//! An eBPF object file as plain data: programs, subprograms, maps, globals, externs, relocations, types.
//!
//! [`Object::parse`] reads ELF bytes. This room knows no kernel, no system call and no policy: reading the
//! same file on any machine gives the same [`Object`].
//!
//! Damage to the file as a whole, or to what all programs share (maps, types), is an [`Error`]. What makes one
//! function unusable is in [`Function::problem`] and keeps nobody from using the others. Memory and time are
//! limited to a multiple of the file's size, whatever is in it.
//!
//! [`section`] says what a program is from the name of its section.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

mod data;
mod dwarf;
mod elf;
mod error;
mod ext;
mod externs;
mod functions;
mod layout;
mod legacy;
mod maps;
mod model;
mod parse;
mod relocs;
mod section;
mod struct_ops;
mod types;

pub use data::data_map_name;
pub use dwarf::debug_types;
pub use error::Error;
pub use model::{
    CoreKind, CoreReloc, Data, DatasecLayout, Extern, ExternId, ExternKind, Function, FunctionId, Global, KconfigType,
    Line, Map, MapId, Object, Program, Reloc, Role, Slot, SlotTarget, StructOps, Tag, Target, VarLayout, Visibility,
};
pub use section::{Form, SECTIONS, Section, SectionDef, section};
