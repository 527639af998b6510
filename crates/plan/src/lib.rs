//! Object + kernel facts + settings -> [`Plan`]: everything that can be known before the kernel is asked.
//!
//! This room does no I/O and takes no file descriptor: it knows what is to be done, not how.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

mod core;
mod model;

pub use model::{
    Attach, Fixup, FixupWith, LeftOut, LineInfo, LoadTarget, MapPlan, Need, Needed, Plan, PlanMap, Problem,
    ProgramPlan, SlotPlan, SlotTo, StructOpsPlan,
};

/// Why a plan, or one program of it, cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {}
