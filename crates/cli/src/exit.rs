//! How the command ends. Scripts rely on the numbers: they are published in the README.

use std::fmt;
use std::process::ExitCode;

/// Exit codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Something else went wrong: an unreadable file, an I/O error.
    Error = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The kernel lacks something that the object needs.
    Unsupported = 3,
    /// The verifier refused a program.
    Refused = 4,
    /// The caller lacks a capability.
    Permission = 6,
}

/// Why the command ends early.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What to say, without a trailing full stop or line break.
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Error, error)
    }
}

/// What the process returns. A closed pipe is no failure: whoever read has seen enough.
pub fn code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr().lock(), "ringfence: {}", failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}
