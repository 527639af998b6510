//! Facts about one kernel: the running one, asked lazily and once each; or one known by its types alone.
//!
//! This room knows no object file and takes no decision: it answers questions. What it cannot know it says it
//! does not know; nothing is concluded from a version number.
//!
//! ```
//! use ringfence_kernel::{Feature, Kernel};
//!
//! let kernel = Kernel::running();
//! if kernel.has(Feature::MemcgAccounting) {
//!     println!("no need to raise RLIMIT_MEMLOCK");
//! }
//! ```
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config;
mod error;
mod feature;
mod hardening;
mod kernel;
mod modules;
mod names;
mod probe;
mod process;
mod symbols;
mod tracefs;
mod version;

pub use error::Error;
pub use feature::Feature;
pub use hardening::{Lockdown, Sysctl};
pub use kernel::Kernel;
pub use modules::Module;
pub use process::{Capability, Process};

/// Text of a small file of proc or sys.
fn read(path: &str) -> Result<String, ringfence_sys::Errno> {
    std::fs::read_to_string(path).map_err(|error| errno(&error))
}

fn errno(error: &std::io::Error) -> ringfence_sys::Errno {
    ringfence_sys::Errno::from_io_error(error).unwrap_or(ringfence_sys::Errno::IO)
}
