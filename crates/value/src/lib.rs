//! Bytes and a BTF type to typed values: JSON lines, table cells, YAML, histograms, or an owned [`Value`].
//!
//! [`Layout::compile`] looks at the type once and writes down a flat, bounded list of steps; decoding a record then
//! follows that list and neither looks at BTF nor allocates. What a number *means* (an address, a port, a time) is
//! decided while compiling, by one table of names and types: [`rules`].
//!
//! # How a record is shown
//! - `struct`: an object; members of anonymous structs and unions are inlined, as C sees them.
//! - `union`: an object with every member decoded: the bytes do not say which one holds. Where a `family` beside it
//!   says so (IPv4, IPv6), the address that does not apply is `null`.
//! - Array: a list. `char[N]`: text up to the first NUL; bytes that are no UTF-8 appear as `\xNN`.
//! - `enum`: its name; several names joined by `|` where every enumerator is one bit; the number where no name fits.
//! - Pointer: text in hex. `bool`: `true`, `false`, or the number that is neither.
//! - Integers are JSON numbers in full precision, up to 128 bits.
//! - A flexible array at the end takes what the record has left.
//!
//! A record that is shorter than its type is [`Short`], never a guess. Bytes behind the type are counted by
//! [`Layout::extra`] and otherwise ignored: perf buffers pad records to 8 bytes.
//!
//! This room knows no object file, no kernel and no clock: whoever has one hands over a [`Clock`].
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

mod code;
mod compile;
mod errno;
mod filter;
mod histogram;
mod json;
mod layout;
mod path;
mod row;
mod sense;
mod text;
mod tree;
mod yaml;

pub use errno::errno_name;
pub use filter::{Condition, Filter, FilterError};
pub use histogram::{Histogram, Scale};
pub use layout::{Error, Layout, Options, Short, per_cpu};
pub use path::{Field, Miss, Path, SortKey};
pub use row::{Clock, Row};
pub use sense::{Rule, Sense, Shape, rules};
pub use text::{hex_dump, hex_line};
pub use tree::Value;
