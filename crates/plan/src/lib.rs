//! Object + kernel facts + settings -> [`Plan`]: everything that can be known before the kernel is asked.
//!
//! This room does no I/O and takes no file descriptor: it knows what is to be done, not how. [`plan()`] is the way in;
//! what it returns is plain data.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

mod arg_ctx;
mod attach;
mod code;
mod core;
mod error;
mod externs;
mod fit;
mod globals;
mod kconfig;
mod link;
mod listing;
mod maps;
mod model;
pub mod near;
mod needs;
mod plan;
mod programs;
mod settings;
pub mod since;
mod struct_ops;

pub use core::{Cause as CoreCause, Error as CoreError, Misfit as CoreMisfit};
pub use error::Error;
pub use model::{
    Attach, Fixup, FixupWith, LeftOut, LineInfo, LoadTarget, MapPlan, Need, Needed, Plan, PlanMap, Problem,
    ProgramPlan, SlotPlan, SlotTo, StructOpsPlan,
};
pub use plan::plan;

pub use settings::{InnerMap, Settings, Value};

use ringfence_btf::TypeId;
