//! What can go wrong in a tool, in words.

use std::path::PathBuf;

/// Why a tool could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The library could not load, attach or read something.
    #[error("{0}")]
    Library(#[from] ringfence::Error),
    /// A process that is asked for is not there.
    #[error("there is no process {pid}; it may have ended")]
    NoProcess {
        /// Its number.
        pid: u32,
    },
    /// A control group that is asked for is not there.
    #[error("{path} is no control group of cgroup2: {why}")]
    NoCgroup {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A container that is asked for is not there.
    #[error(
        "no control group belongs to a container `{id}`; give the first characters of its number (docker ps, crictl ps)"
    )]
    NoContainer {
        /// What was asked for.
        id: String,
    },
    /// More than one container fits.
    #[error("more than one container begins with `{id}`: {}", which.join(", "))]
    ManyContainers {
        /// What was asked for.
        id: String,
        /// Their control groups.
        which: Vec<String>,
    },
    /// A name is too long to be a thread's.
    #[error("`{name}` is longer than a thread's name can be (15 bytes); the kernel cuts them off there")]
    LongName {
        /// The name.
        name: String,
    },
    /// A text is no list of folded stacks.
    #[error("line {line} is no folded stack (`main;work;inner 42`): {text}")]
    Folded {
        /// Which line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// A place to be watched is not there, or not understood.
    #[error("{spec}: {why}")]
    Spec {
        /// As it was written.
        spec: String,
        /// What is wrong, and what there is instead.
        why: String,
    },
    /// What says where a place is may not be read.
    #[error("{path}: this process may not read it; run it as root, or {how}")]
    MayNotRead {
        /// The file or directory.
        path: PathBuf,
        /// What would help.
        how: String,
    },
    /// A rule or filter for packets makes no sense.
    #[error("`{text}`: {why}")]
    Rule {
        /// The rule.
        text: String,
        /// What is wrong in it.
        why: String,
    },
    /// A network device that is asked for is not there.
    #[error("there is no device {name} in this network namespace; there is {}", known.join(", "))]
    NoDevice {
        /// What was asked for.
        name: String,
        /// What is there.
        known: Vec<String>,
    },
    /// A device has an XDP program of somebody else's.
    #[error(
        "{name} cannot be watched by XDP: {why}. It is left alone; without XDP (--no-xdp) the device can be watched all the same"
    )]
    Taken {
        /// The device.
        name: String,
        /// Whose program it is.
        why: String,
    },
    /// Nothing is left to be done.
    #[error("{0}")]
    Nothing(String),
    /// An output could not be written.
    #[error("{what}: {why}")]
    Output {
        /// What was written.
        what: &'static str,
        /// What went wrong.
        why: String,
    },
}

/// What a tool comes to.
pub type Result<T> = std::result::Result<T, Error>;
