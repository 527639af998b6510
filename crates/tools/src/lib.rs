//! The built-in tools of Ringfence: what they load, measure and make of it. They know no arguments and print nothing.
//!
//! Each tool is a module over the public library: [`profile`] says where time goes, by stack; [`net`] what goes
//! through network devices; [`trace`] what happens at places that are named. [`symbols`] turns addresses
//! into functions and lines, [`Filter`] says whose events are taken.
#![forbid(unsafe_code)]

mod cost;
mod error;
mod filter;
pub mod net;
pub mod profile;
pub mod symbols;
pub mod trace;

pub use cost::Cost;
pub use error::{Error, Result};
pub use filter::{Cgroup, Filter};
