//! The BPF type format: lazily indexed reading of a whole kernel's types, split BTF of modules, writing,
//! sizes and member offsets, and types as C.
//!
//! This room knows no object file, no kernel interface and no policy. Nothing here does I/O: whoever has
//! the bytes (a file, a section, a mapping) hands them over as [`Bytes`].
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
mod older;
mod read;
mod types;
mod write;

pub use error::Error;
pub use layout::Field;
pub use lookup::essential_name;
pub use older::Newer;
pub use read::{Btf, Bytes};
pub use types::{
    Array, Composite, Datasec, Def, Enum, Enumerator, Int, Kind, Linkage, Member, Param, Proto, SectionVar, Type,
    TypeId,
};
pub use write::{Builder, New};
