//! What the instructions of an object do, computed without a kernel: values and where they come from, the records
//! that programs send to user space, and the types of those records.
//!
//! - [`outputs`]: every call that sends a record, with its map and its size.
//! - [`event_types`]: the struct of each map's records, or why there is none ([`event`] has the rules).
//! - [`scalars`]: what the bare numbers in keys and values of maps mean.
//! - [`uses`]: helpers, maps and functions that a function reaches.
//!
//! This room knows no kernel and no policy. It walks what a compiler wrote, and what an attacker wrote, in bounded
//! time: where the analysis gives up, a size or a map is unknown, and never wrong.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

mod arrays;
mod compare;
mod contradict;
pub mod event;
mod evidence;
mod headers;
mod helpers;
mod kinds;
mod layout;
mod lists;
mod merge;
mod names;
mod origin;
mod outputs;
mod recover;
mod scalars;
mod source;
mod state;
mod step;
mod tags;
mod types;
mod uses;
mod value;
mod walk;
mod writes;

pub use event::{Basis, Candidate, EventChoice, Types, event_types, slot_scale_is_log2};
pub use kinds::layouts;
pub use layout::{Certainty, Field, Layout, Meaning};
pub use outputs::{Kind, Output, Size, Source, outputs};
pub use recover::contents;
pub use scalars::{Quantity, Scalar, Side, scalars};
pub use tags::Tag;
pub use uses::{Uses, uses};
