//! Many functions of a program or library in user space with one link (6.6), at their start, return or both (6.13).
//!
//! Kernels without such links get an event for each place: the same to the program, and slower to attach.

use std::os::fd::AsFd;

use ringfence_kernel::Feature;
use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;

use super::uprobe::{Probe, User, event, place_cause};
use super::{Held, Link, Links, attach_cause, failed, on_event};
use crate::binary::Binary;
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;

/// Without links for many places each place is a file descriptor and takes a millisecond or more to go.
const MOST_EVENTS: usize = 4096;

/// Functions in user space, attached together.
///
/// A program of a section `uprobe.session` runs at their start and at their return.
///
/// ```no_run
/// use ringfence::hook::UprobeMulti;
/// # fn show(program: &ringfence::Program) -> Result<(), ringfence::Error> {
/// let all = program.attach_to(&UprobeMulti::matching("libc.so.6", "mem*"))?;
/// let two = program.attach_to(&UprobeMulti::functions("libc.so.6", ["malloc", "free"]).cookies([1, 2]))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UprobeMulti {
    user: User,
    which: Which,
    ret: bool,
    cookies: Vec<u64>,
    counters: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Which {
    Matching(String),
    Functions(Vec<String>),
    Offsets(Vec<u64>),
}

impl UprobeMulti {
    fn new(binary: &str, which: Which) -> Self {
        UprobeMulti { user: User::new(binary), which, ret: false, cookies: Vec::new(), counters: Vec::new() }
    }

    /// Every function whose name fits a pattern: `*` is any text, `?` one character. A function of several names counts once.
    pub fn matching(binary: &str, pattern: &str) -> Self {
        Self::new(binary, Which::Matching(pattern.to_owned()))
    }

    /// These, each named as [`Uprobe::new`](super::uprobe::Uprobe::new) takes it.
    pub fn functions<S: Into<String>>(binary: &str, functions: impl IntoIterator<Item = S>) -> Self {
        Self::new(binary, Which::Functions(functions.into_iter().map(Into::into).collect()))
    }

    /// Places by their offset in the file.
    pub fn offsets(binary: &str, offsets: impl IntoIterator<Item = u64>) -> Self {
        Self::new(binary, Which::Offsets(offsets.into_iter().collect()))
    }

    /// At the functions' return.
    pub fn at_return(mut self) -> Self {
        self.ret = true;
        self
    }

    /// In this process alone; without this in all, also in those that start later.
    pub fn pid(mut self, pid: u32) -> Self {
        self.user.pid = Some(pid);
        self
    }

    /// Looks for the binary where this process would: in its container.
    pub fn seen_by(mut self, pid: u32) -> Self {
        self.user.seen_by = Some(pid);
        self
    }

    /// What `bpf_get_attach_cookie` gives in the program, for each of the functions or offsets in their order.
    pub fn cookies(mut self, cookies: impl IntoIterator<Item = u64>) -> Self {
        self.cookies = cookies.into_iter().collect();
        self
    }

    /// Offsets in the file of counters that the kernel keeps above 0 as long as this is attached, one a place; 0: none.
    pub fn counters(mut self, offsets: impl IntoIterator<Item = u64>) -> Self {
        self.counters = offsets.into_iter().collect();
        self
    }

    pub(super) fn from_section(ret: bool, binary: &str, pattern: &str) -> Self {
        UprobeMulti { ret, ..UprobeMulti::matching(binary, pattern) }
    }

    fn hook(&self) -> &'static str {
        if self.ret { "the returns of user functions" } else { "user functions" }
    }

    fn target(&self) -> String {
        let binary = &self.user.binary;
        match &self.which {
            Which::Matching(pattern) => format!("{binary}:{pattern}"),
            Which::Functions(functions) => format!("{binary}:{}", some(functions.iter().cloned(), functions.len())),
            Which::Offsets(offsets) => {
                format!("{binary}:{}", some(offsets.iter().map(|offset| format!("{offset:#x}")), offsets.len()))
            }
        }
    }

    fn places(&self, binary: &Binary) -> Result<Vec<u64>, Cause> {
        let list = match &self.which {
            Which::Matching(pattern) => {
                if !self.cookies.is_empty() || !self.counters.is_empty() {
                    return Err(Cause::invalid(
                        "which functions fit a pattern is not known, so no cookie can be theirs",
                    )
                    .action("name the functions"));
                }
                // A plain name means what it means for a single function: with version and offset.
                match crate::glob::is_plain(pattern) {
                    true => vec![binary.image()?.offset(pattern)?],
                    false => binary.image()?.matching(pattern)?.into_iter().map(|(_, offset)| offset).collect(),
                }
            }
            Which::Functions(functions) => {
                let names: Vec<&str> = functions.iter().map(String::as_str).collect();
                binary.image()?.offsets(&names).into_iter().collect::<Result<Vec<u64>, Cause>>()?
            }
            Which::Offsets(offsets) => offsets.clone(),
        };
        if list.is_empty() {
            return Err(Cause::invalid("no function was given"));
        }
        for (what, given) in [("cookies", self.cookies.len()), ("counters", self.counters.len())] {
            if given != 0 && given != list.len() {
                return Err(Cause::invalid(format!("{given} {what} were given for {} places", list.len())));
            }
        }
        Ok(list)
    }
}

/// A few names of many.
pub(super) fn some(names: impl Iterator<Item = String>, count: usize) -> String {
    let shown: Vec<String> = names.take(3).collect();
    match count - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl sealed::Sealed for UprobeMulti {}

impl Hook for UprobeMulti {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.target();
        let fail = |cause| failed(program, self.hook(), &target, cause);
        let binary = self.user.open().map_err(fail)?;
        if self.ret || program.attach_type() == AttachType::TRACE_UPROBE_SESSION {
            binary.check_return().map_err(fail)?;
        }
        let places = Places {
            pid: self.user.pid,
            ret: self.ret,
            offsets: self.places(&binary).map_err(fail)?,
            cookies: self.cookies.clone(),
            counters: self.counters.clone(),
        };
        let link = places.attach(program, self.hook(), &target, &binary)?;
        Ok(link.noticing(binary.slow_places(&places.offsets)))
    }
}

/// Places of one binary that are attached together; `cookies` and `counters` are as many, or none.
pub(super) struct Places {
    pub(super) pid: Option<u32>,
    pub(super) ret: bool,
    pub(super) offsets: Vec<u64>,
    pub(super) cookies: Vec<u64>,
    pub(super) counters: Vec<u64>,
}

impl Places {
    /// By one link where the program was loaded for that, else by an event for each.
    pub(super) fn attach(&self, program: &Program, hook: &'static str, target: &str, binary: &Binary) -> Result<Link> {
        match program.attach_type() {
            AttachType::TRACE_UPROBE_MULTI | AttachType::TRACE_UPROBE_SESSION => {
                self.by_link(program, hook, target, binary)
            }
            _ => self.by_events(program, hook, target, binary),
        }
    }

    fn by_link(&self, program: &Program, hook: &'static str, target: &str, binary: &Binary) -> Result<Link> {
        let fail = |cause| failed(program, hook, target, cause);
        let session = program.attach_type() == AttachType::TRACE_UPROBE_SESSION;
        if session && self.ret {
            return Err(fail(Cause::invalid("a session runs at the functions' start and return by itself")));
        }
        let path = binary.c_path().map_err(fail)?;
        let create = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: program.attach_type(),
            to: sys::AttachTo::Nothing,
            flags: 0,
            tail: sys::LinkTail::UprobeMulti {
                path: &path,
                offsets: &self.offsets,
                ref_ctr_offsets: &self.counters,
                cookies: &self.cookies,
                flags: if self.ret { sys::flags::BPF_F_UPROBE_MULTI_RETURN } else { 0 },
                pid: self.pid.unwrap_or(0),
            },
        };
        let link = sys::link_create(&create).map_err(|errno| {
            let known = program.kernel().knows_attach_type(program.attach_type());
            fail(match errno {
                Errno::INVAL | Errno::OPNOTSUPP if known == Some(false) => {
                    let since = if session { "uprobe.session links (6.13)" } else { "uprobe.multi links (6.6)" };
                    Cause::new(Kind::Unsupported, format!("this kernel has no {since}")).errno(errno)
                }
                _ => place_cause(errno, binary, &self.offsets).unwrap_or_else(|| attach_cause(errno)),
            })
        })?;
        let by_thread = self.pid.is_some() && !program.kernel().has(Feature::UprobeMulti);
        let notice = "this kernel counts the first thread of the process alone (6.6 to 6.9)".to_owned();
        Ok(Link::new(program.name(), hook, target, Held::Link(link)).noticing(by_thread.then_some(notice)))
    }

    fn by_events(&self, program: &Program, hook: &'static str, target: &str, binary: &Binary) -> Result<Link> {
        let fail = |cause| failed(program, hook, target, cause);
        if self.offsets.len() > MOST_EVENTS {
            let why = format!(
                "{} functions fit: without links for many (6.6) at most {MOST_EVENTS} can be attached",
                self.offsets.len()
            );
            return Err(fail(Cause::new(Kind::Unsupported, why).action("give a narrower pattern")));
        }
        let nth = |list: &[u64], at: usize| list.get(at).copied().unwrap_or(0);
        let links = self.offsets.iter().enumerate().map(|(at, offset)| {
            let counter = Some(nth(&self.counters, at)).filter(|counter| *counter != 0);
            let event = event(binary, self.pid, Probe { ret: self.ret, offset: *offset, counter }).map_err(fail)?;
            on_event(program, hook, target, event, nth(&self.cookies, at))
        });
        let links = links.collect::<Result<Links>>()?;
        Ok(Link::new(program.name(), hook, target, Held::Many(links)))
    }
}
