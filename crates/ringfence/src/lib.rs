//! Loads and runs eBPF programs: know before you load, load with the least privilege, leave nothing behind.
//!
//! An [`Object`] is what a file says, a [`Kernel`] the facts of a kernel, [`Settings`] what you choose. Together they make a
//! [`Plan`], which can be read before anything is done. [`load`] executes it; what it gives is owned by values and gone when they are dropped.
//!
//! ```no_run
//! use ringfence::{Kernel, Settings};
//!
//! # fn show() -> Result<(), ringfence::Error> {
//! let object = ringfence::open("opens.bpf.o")?;
//! let kernel = Kernel::running();
//! let plan = ringfence::plan(&object, &kernel, &Settings::new().global("target_pid", 42u32))?;
//! for need in &plan.needs {
//!     println!("{:?}: {}", need.what, need.because);
//! }
//! let loaded = ringfence::load(&plan, &kernel)?; // the one step that changes the kernel
//! let links = loaded.attach_all()?; // gone when dropped
//! let mut events = loaded.events("events")?;
//! while let Some(event) = events.next(None)? {
//!     println!("{:?}", event.bytes);
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod binary;
mod device;
mod error;
mod events;
mod explain;
#[cfg(feature = "tokio")]
mod futures;
mod glob;
pub mod hook;
mod kallsyms;
mod link;
mod load;
mod loaded;
pub mod machine;
mod map;
mod perf;
pub mod printk;
mod program;
mod ring;
mod statistics;
mod tracefs;
pub mod typed;
mod usdt;

use std::path::Path;

pub use error::{Cause, Error, Kind, Refusal, Result, SourceLine};
pub use events::{Buffering, Event, Events, Seen};
#[cfg(feature = "tokio")]
pub use futures::AsyncEvents;
pub use link::{Link, Links};
pub use load::{Loader, load};
pub use loaded::Loaded;
pub use map::{
    Arena, Bloom, Cpus, Devices, Entries, LpmKey, Map, MapOfMaps, NewMap, PerCpuTable, PerCpuValues, Plain, Queue,
    Redirect, Storage, Table, TableEntries, Update, UserRing, Variable, pidfd, pidfd_of_thread,
};
pub use program::{Program, TestRun};
pub use ringfence_kernel::Kernel;
pub use ringfence_object::Object;
use ringfence_plan::near;
pub use ringfence_plan::{Plan, Settings, Value};
pub use ringfence_sys::survey::{Device, DeviceStatistics};
pub use ringfence_sys::{LinkDetails, LinkInfo, MapInfo, PerfLinkDetails, ProgramInfo, UserRecord};
pub use ringfence_uapi::{AttachType, MapType, ProgramType};

pub use statistics::{RunTimeStatistics, run_time_statistics};
/// Generated modules derive its traits by this path.
pub use zerocopy;

/// What is to be done to load an object into a kernel. Nothing is changed anywhere.
///
/// # Errors
/// No plan can be made at all; what concerns single programs is in [`Plan::problems`].
pub fn plan(object: &Object, kernel: &Kernel, settings: &Settings) -> Result<Plan> {
    ringfence_plan::plan(object, kernel, settings).map_err(|source| Error::Plan {
        object: object.name.clone(),
        program: None,
        source: source.into(),
    })
}

/// Reads an object file. Nothing is asked of the kernel.
///
/// # Errors
/// The file cannot be read, or is no eBPF object that makes sense.
pub fn open(path: impl AsRef<Path>) -> Result<Object> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| {
        let cause = match rustix::io::Errno::from_io_error(&error) {
            Some(errno) => explain::plain(errno),
            None => Cause::new(Kind::Io, error.to_string()),
        };
        Error::Read { path: path.to_owned(), cause: cause.into() }
    })?;
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Object::parse(&name, &bytes).map_err(|source| Error::Object { path: path.to_owned(), source: source.into() })
}

/// Reads an object that is in memory, such as one that is a part of the program; `name` is that of its file.
///
/// # Errors
/// It is no eBPF object that makes sense.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Object> {
    Object::parse(name, bytes).map_err(|source| Error::Object { path: name.into(), source: source.into() })
}

/// The code of that page compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/maps.md")]
struct MapsPage;
