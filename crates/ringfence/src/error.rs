//! What can go wrong, in words: object, program or map, the step, the cause, and what to do.

use std::fmt;
use std::path::PathBuf;

/// Whose fault a failure is, coarsely: what a command's exit code says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// The verifier read the program and refused it.
    Refused,
    /// This kernel, or this platform, lacks something.
    Unsupported,
    /// The caller lacks a right.
    Permission,
    /// The object, the plan or the call asks for something that cannot be.
    Invalid,
    /// Something outside went wrong: a file, a device, memory.
    Io,
}

/// Why a step failed, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Cause {
    /// Whose fault it is.
    pub kind: Kind,
    /// The kernel's error number, where the kernel gave one.
    pub errno: Option<i32>,
    /// What happened, in words.
    pub why: String,
    /// What to do; empty when there is nothing to say.
    pub action: String,
}

impl Cause {
    pub(crate) fn new(kind: Kind, why: impl Into<String>) -> Cause {
        Cause { kind, errno: None, why: why.into(), action: String::new() }
    }

    pub(crate) fn invalid(why: impl Into<String>) -> Cause {
        Cause::new(Kind::Invalid, why)
    }

    pub(crate) fn errno(mut self, errno: rustix::io::Errno) -> Cause {
        self.errno = Some(errno.raw_os_error());
        self
    }

    pub(crate) fn action(mut self, action: impl Into<String>) -> Cause {
        self.action = action.into();
        self
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        if let Some(errno) = self.errno {
            write!(f, " ({})", crate::explain::errno_name(errno))?;
        }
        if !self.action.is_empty() {
            write!(f, "; {}", self.action)?;
        }
        Ok(())
    }
}

/// A line of a program's source.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SourceLine {
    /// The file as the compiler saw it; empty where the log does not say.
    pub file: String,
    /// The line's number, from 1; 0 where the log does not say.
    pub line: u32,
    /// The line's text, without the blanks around it.
    pub text: String,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:{}: ", self.file, self.line)?;
        }
        f.write_str(&self.text)
    }
}

/// The verifier's refusal of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// Name of the object.
    pub object: String,
    /// Name of the program.
    pub program: String,
    /// Its section.
    pub section: String,
    /// Whose fault it is: [`Kind::Unsupported`] where it needs what this kernel does not have.
    pub kind: Kind,
    /// The kernel's error number.
    pub errno: i32,
    /// Why: the line of the log that says so, or what it means.
    pub reason: String,
    /// The last instruction that the verifier looked at.
    pub insn: Option<usize>,
    /// The source of that instruction.
    pub source: Option<SourceLine>,
    /// What to do, where it is known.
    pub action: String,
    /// The whole log. Where it is longer than the kernel would give: its end, which holds the reason.
    pub log: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: program `{}` ({}): the verifier refused it", self.object, self.program, self.section)?;
        if let Some(insn) = self.insn {
            write!(f, " at instruction {insn}")?;
        }
        write!(f, ": {}", self.reason)?;
        if let Some(source) = &self.source {
            write!(f, "; at {source}")?;
        }
        if !self.action.is_empty() {
            write!(f, "; {}", self.action)?;
        }
        Ok(())
    }
}

/// Why something could not be done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: Box<Cause>,
    },
    /// A file is no eBPF object that makes sense.
    #[error("{path}: {source}")]
    Object {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<ringfence_object::Error>,
    },
    /// No plan can be made, or a program of it cannot be loaded for a reason known without asking the kernel.
    #[error("{}{source}", before(object, source))]
    Plan {
        /// Name of the object.
        object: String,
        /// Name of the program; `None`: no plan at all can be made.
        program: Option<String>,
        /// Why.
        source: Box<ringfence_plan::Error>,
    },
    /// A fact about the kernel could not be had.
    #[error("{object}: {source}")]
    Kernel {
        /// Name of the object.
        object: String,
        /// What could not be had.
        source: ringfence_kernel::Error,
    },
    /// The object's BTF could not be loaded.
    #[error("{object}: loading its BTF: {cause}")]
    Btf {
        /// Name of the object.
        object: String,
        /// Why.
        cause: Box<Cause>,
        /// What the kernel's BTF checker wrote.
        log: String,
    },
    /// Something about a map failed.
    #[error("{}map `{map}`: {step}: {cause}", of(object))]
    Map {
        /// Name of the object; empty for a map that belongs to none.
        object: String,
        /// Name of the map.
        map: String,
        /// What was tried: `creating it`, `looking up a key`.
        step: &'static str,
        /// Why.
        cause: Box<Cause>,
    },
    /// A program could not be loaded, and the verifier wrote nothing.
    #[error("{object}: program `{program}` ({section}): {step}: {cause}")]
    Load {
        /// Name of the object.
        object: String,
        /// Name of the program.
        program: String,
        /// Its section.
        section: String,
        /// What was tried.
        step: &'static str,
        /// Why.
        cause: Box<Cause>,
    },
    /// The verifier refused a program.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// A program could not be attached.
    #[error("program `{program}`: attaching it to {hook} {target}: {cause}")]
    Attach {
        /// Name of the program.
        program: String,
        /// Kind of the hook: `tracepoint`.
        hook: &'static str,
        /// Which one.
        target: String,
        /// Why.
        cause: Box<Cause>,
    },
    /// Something about a loaded program failed.
    #[error("program `{program}`: {step}: {cause}")]
    Program {
        /// Name of the program.
        program: String,
        /// What was tried: `running it`.
        step: &'static str,
        /// Why.
        cause: Box<Cause>,
    },
    /// Something about a link failed.
    #[error("link of program `{program}` at {hook} {target}: {step}: {cause}")]
    Link {
        /// Name of the program.
        program: String,
        /// Kind of the hook.
        hook: &'static str,
        /// Which one.
        target: String,
        /// What was tried: `pinning it`.
        step: &'static str,
        /// Why.
        cause: Box<Cause>,
    },
    /// There is nothing of that name.
    #[error("{object}: no {what} is named `{name}`{}", nearest(near))]
    NoSuch {
        /// Name of the object.
        object: String,
        /// What was looked for: `map`.
        what: &'static str,
        /// The name.
        name: String,
        /// Names that are close to it.
        near: Vec<String>,
    },
    /// Something on this machine could not be opened or read: a trace pipe, an epoll set.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        cause: Box<Cause>,
    },
}

/// What is said of the object itself names it.
fn before(object: &str, source: &ringfence_plan::Error) -> String {
    if matches!(source, ringfence_plan::Error::Object(_)) { String::new() } else { of(object) }
}

fn of(object: &str) -> String {
    if object.is_empty() { String::new() } else { format!("{object}: ") }
}

fn nearest(near: &[String]) -> String {
    match near {
        [] => String::new(),
        names => format!("; there is {}", names.join(", ")),
    }
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Refused(refusal) => refusal.kind,
            Error::Object { .. } | Error::NoSuch { .. } => Kind::Invalid,
            Error::Plan { source, .. } => crate::explain::plan_kind(source),
            Error::Kernel { .. } => Kind::Io,
            _ => self.cause().map_or(Kind::Invalid, |cause| cause.kind),
        }
    }

    /// The cause, where the kernel was asked.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Error::Read { cause, .. }
            | Error::Btf { cause, .. }
            | Error::Map { cause, .. }
            | Error::Load { cause, .. }
            | Error::Attach { cause, .. }
            | Error::Program { cause, .. }
            | Error::Link { cause, .. }
            | Error::System { cause, .. } => Some(cause),
            Error::Object { .. }
            | Error::Plan { .. }
            | Error::Kernel { .. }
            | Error::Refused(_)
            | Error::NoSuch { .. } => None,
        }
    }

    /// Why, in one line without the names around it: the verifier's reason, or the cause.
    pub fn reason(&self) -> String {
        match self {
            Error::Refused(refusal) => refusal.reason.clone(),
            Error::Plan { source, program, .. } => {
                let text = source.to_string();
                let name = program.as_ref().map(|program| format!("program {program}: "));
                name.and_then(|name| text.strip_prefix(&name).map(str::to_owned)).unwrap_or(text)
            }
            _ => self.cause().map_or_else(|| self.to_string(), Cause::to_string),
        }
    }

    /// The kernel's error number, where the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused(refusal) => Some(refusal.errno),
            _ => self.cause().and_then(|cause| cause.errno),
        }
    }

    /// The verifier's log, where there is one.
    pub fn log(&self) -> Option<&str> {
        match self {
            Error::Refused(refusal) => Some(&refusal.log),
            Error::Btf { log, .. } if !log.is_empty() => Some(log),
            _ => None,
        }
    }

    pub(crate) fn map(object: &str, map: &str, step: &'static str, cause: Cause) -> Error {
        Error::Map { object: object.to_owned(), map: map.to_owned(), step, cause: cause.into() }
    }

    pub(crate) fn system(what: &str, cause: Cause) -> Error {
        Error::System { what: what.to_owned(), cause: cause.into() }
    }

    pub(crate) fn no_such<'a>(
        object: &str,
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Error {
        let near = crate::near::nearest(name, known);
        Error::NoSuch { object: object.to_owned(), what, name: name.to_owned(), near }
    }
}

/// `Result` with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
