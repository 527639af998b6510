//! The BPF type format: lazily indexed reading of a whole kernel's types, split BTF of modules, writing,
//! sizes and member offsets, and types as C.
//!
//! This room knows no object file, no kernel interface and no policy. Nothing here does I/O: whoever has
//! the bytes (a file, a section, a mapping) hands them over as [`Bytes`].
//!
//! ```
//! use ringfence_btf::{Btf, Builder, Int, Kind, Member, New};
//!
//! # fn main() -> Result<(), ringfence_btf::Error> {
//! let mut builder = Builder::new();
//! let int = New::Int(Int { size: 4, bits: 32, offset: 0, signed: false, char: false, bool: false });
//! let int = builder.add("unsigned int", int);
//! let pid = Member { name: "pid", ty: int, bit_offset: 32, bit_size: 0 };
//! builder.add("event", New::Struct { size: 8, members: &[pid] });
//! let btf: Btf = builder.build()?;
//!
//! let event = btf.find("event", Kind::Struct).expect("it was just added");
//! assert_eq!(btf.size_of(event)?, 8);
//! assert_eq!(btf.find_member(event, "pid")?.bit_offset, 32);
//! assert_eq!(btf.c_definition(event), "struct event {\n\tchar __pad1[4];\n\tunsigned int pid;\n};");
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

mod c;
mod error;
mod header;
mod layout;
mod lookup;
mod names;
mod older;
mod parse_c;
mod read;
mod types;
mod write;

pub use error::Error;
pub use layout::Field;
pub use lookup::essential_name;
pub use older::Newer;
pub use parse_c::CError;
pub use read::{Btf, Bytes};
pub use types::{
    Array, Composite, Datasec, Def, Enum, Enumerator, Int, Kind, Linkage, Member, Param, Proto, SectionVar, Type,
    TypeId,
};
pub use write::{Builder, New};
