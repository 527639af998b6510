//! Many kernel functions with one link (5.18), at their start, return or both (6.10).
//!
//! Kernels without such links get a kprobe for each function, as long as they are few: the same to the program, and slower.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{CStr, CString};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;

use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::fs::OFlags;
use rustix::io::Errno;
use sys::Multi;

use super::kprobe::{self, Kprobe, Pmu};
use super::uprobe_multi::some;
use super::{Held, Link, attach_cause, failed, on_event};
use crate::error::{Cause, Kind, Result};
use crate::glob;
use crate::hook::{Hook, sealed};
use crate::kallsyms::{Function, Functions};
use crate::program::Program;
use crate::tracefs::TraceFs;

/// `MAX_KPROBE_MULTI_CNT` of kernel/trace/bpf_trace.c.
const MOST: usize = 1 << 20;
/// Most functions that get a kprobe each: one takes milliseconds to come, and more to go.
const MOST_EVENTS: usize = 512;
/// Names of functions that can be traced; the first (6.5) with their addresses.
const WITH_ADDRESSES: &str = "available_filter_functions_addrs";
const NAMES: &str = "available_filter_functions";

/// Kernel functions, attached together: much cheaper than a [`Kprobe`](super::kprobe::Kprobe) for each.
///
/// A program of a section `kprobe.session` runs at their start and at their return.
///
/// ```no_run
/// use ringfence::hook::KprobeMulti;
/// # fn show(program: &ringfence::Program) -> Result<(), ringfence::Error> {
/// let all = program.attach_to(&KprobeMulti::matching("tcp_*"))?;
/// let two = program.attach_to(&KprobeMulti::functions(["tcp_connect", "tcp_close"]).cookies([1, 2]))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KprobeMulti {
    which: Which,
    ret: bool,
    cookies: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Which {
    Matching(String),
    Functions(Vec<String>),
    Addresses(Vec<u64>),
}

/// The same, found.
enum Wanted {
    Names(Vec<String>),
    Addresses(Vec<u64>),
}

impl Wanted {
    fn count(&self) -> usize {
        match self {
            Wanted::Names(names) => names.len(),
            Wanted::Addresses(addresses) => addresses.len(),
        }
    }
}

impl KprobeMulti {
    fn new(which: Which) -> Self {
        KprobeMulti { which, ret: false, cookies: Vec::new() }
    }

    /// Every function that the kernel lets trace and whose name fits a pattern: `*` is any text, `?` one character.
    /// `MODULE:PATTERN`: of that module alone.
    pub fn matching(pattern: &str) -> Self {
        Self::new(Which::Matching(pattern.to_owned()))
    }

    /// These.
    pub fn functions<S: Into<String>>(functions: impl IntoIterator<Item = S>) -> Self {
        Self::new(Which::Functions(functions.into_iter().map(Into::into).collect()))
    }

    /// Functions by the address that they have in this kernel now (`/proc/kallsyms`).
    pub fn addresses(addresses: impl IntoIterator<Item = u64>) -> Self {
        Self::new(Which::Addresses(addresses.into_iter().collect()))
    }

    /// At the functions' return.
    pub fn at_return(mut self) -> Self {
        self.ret = true;
        self
    }

    /// What `bpf_get_attach_cookie` gives in the program, for each of the functions or addresses in their order.
    pub fn cookies(mut self, cookies: impl IntoIterator<Item = u64>) -> Self {
        self.cookies = cookies.into_iter().collect();
        self
    }

    pub(super) fn from_section(ret: bool, pattern: &str) -> Self {
        KprobeMulti { ret, ..KprobeMulti::matching(pattern) }
    }

    fn hook(&self) -> &'static str {
        if self.ret { "the returns of kernel functions" } else { "kernel functions" }
    }

    fn target(&self) -> String {
        match &self.which {
            Which::Matching(pattern) => pattern.clone(),
            Which::Functions(functions) => some(functions.iter().cloned(), functions.len()),
            Which::Addresses(addresses) => {
                some(addresses.iter().map(|address| format!("{address:#x}")), addresses.len())
            }
        }
    }

    /// Cookies also where none were asked for: without them some kernels halt when anyone reads the link's `fdinfo`
    /// (`bpf_kprobe_multi_show_fdinfo`; seen with 6.18.15).
    fn link(&self, program: &Program, functions: Multi<'_>) -> Result<sys::LinkFd, Errno> {
        let none;
        let cookies = if self.cookies.is_empty() {
            none = vec![0; functions.count()];
            &none
        } else {
            &self.cookies
        };
        sys::link_create(&sys::LinkCreate {
            program: program.as_fd(),
            attach_type: program.attach_type(),
            to: sys::AttachTo::Nothing,
            flags: 0,
            tail: sys::LinkTail::KprobeMulti {
                functions,
                cookies,
                flags: if self.ret { sys::flags::BPF_F_KPROBE_MULTI_RETURN } else { 0 },
            },
        })
    }

    /// Which functions, by address where a pattern says so.
    fn wanted(&self, program: &Program) -> Result<Wanted, Cause> {
        let wanted = match &self.which {
            Which::Addresses(addresses) => Wanted::Addresses(addresses.clone()),
            Which::Functions(names) => Wanted::Names(names.clone()),
            Which::Matching(name) if glob::is_plain(name) && !name.contains(':') => Wanted::Names(vec![name.clone()]),
            Which::Matching(_) if !self.cookies.is_empty() => {
                return Err(Cause::invalid("which functions fit a pattern is not known, so no cookie can be theirs")
                    .action("name the functions"));
            }
            Which::Matching(pattern) => {
                Wanted::Addresses(matching(pattern).map_err(
                    |cause| match self.link(program, Multi::Addresses(&[0])) {
                        // Then the list does not matter.
                        Err(Errno::OPNOTSUPP) => refused(program, Errno::OPNOTSUPP, 0),
                        _ => cause,
                    },
                )?)
            }
        };
        self.check(wanted.count())?;
        Ok(wanted)
    }

    fn by_link(&self, program: &Program, wanted: &Wanted) -> Result<Held, Cause> {
        let names = match wanted {
            Wanted::Addresses(addresses) => {
                let link = self.link(program, Multi::Addresses(addresses));
                return link.map(Held::Link).map_err(|errno| refused(program, errno, addresses.len()));
            }
            Wanted::Names(names) => names,
        };
        let texts = names.iter().map(|name| CString::new(name.as_str())).collect::<Result<Vec<CString>, _>>();
        let texts = texts.map_err(|_| Cause::invalid("a name holds a zero byte"))?;
        let texts: Vec<&CStr> = texts.iter().map(CString::as_c_str).collect();
        self.link(program, Multi::Symbols(&texts)).map(Held::Link).map_err(|errno| match errno {
            // ftrace_lookup_symbols: it says that one is missing, not which.
            Errno::SRCH | Errno::NOENT => missing(names).errno(errno),
            _ => refused(program, errno, names.len()),
        })
    }

    /// A kprobe for each, and how many the kernel has refused: functions that can be traced but not probed are left out of a pattern.
    fn by_events(&self, program: &Program, target: &str, wanted: &Wanted) -> Result<(Held, Option<String>)> {
        let fail = |cause| failed(program, self.hook(), target, cause);
        let count = wanted.count();
        if count > MOST_EVENTS {
            let why = format!(
                "{count} functions fit: without links for many (CONFIG_FPROBE, 5.18) at most {MOST_EVENTS} can be probed"
            );
            return Err(fail(Cause::new(Kind::Unsupported, why).action("give a narrower pattern")));
        }
        let mut links = Vec::new();
        for at in 0..count {
            let event = match wanted {
                Wanted::Names(names) => Kprobe::new(&names[at]).event(self.ret),
                Wanted::Addresses(addresses) => kprobe::event_at(addresses[at], self.ret),
            };
            match event {
                Ok(event) => {
                    let cookie = self.cookies.get(at).copied().unwrap_or(0);
                    links.push(on_event(program, self.hook(), target, event, cookie)?);
                }
                Err(cause) if cause.kind != Kind::Invalid || at + 1 == count && links.is_empty() => {
                    return Err(fail(cause));
                }
                Err(cause) if !matches!(self.which, Which::Matching(_)) => return Err(fail(cause)),
                Err(_) => {}
            }
        }
        let refused = count - links.len();
        let notice = format!("{refused} of {count} functions are on the kernel's black list of kprobes");
        Ok((Held::Many(links.into_iter().collect()), (refused > 0).then_some(notice)))
    }

    fn check(&self, count: usize) -> Result<(), Cause> {
        match (count, self.cookies.len()) {
            (0, _) => Err(Cause::invalid("no function was given")),
            (count, _) if count > MOST => Err(Cause::invalid(format!("{count} functions are more than a link takes"))),
            (count, cookies) if cookies != 0 && cookies != count => {
                Err(Cause::invalid(format!("{cookies} cookies were given for {count} functions")))
            }
            _ => Ok(()),
        }
    }
}

impl sealed::Sealed for KprobeMulti {}

impl Hook for KprobeMulti {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.target();
        let fail = |cause| failed(program, self.hook(), &target, cause);
        match program.attach_type() {
            AttachType::TRACE_KPROBE_MULTI => {}
            AttachType::TRACE_KPROBE_SESSION if !self.ret => {}
            AttachType::TRACE_KPROBE_SESSION => {
                return Err(fail(Cause::invalid("a session runs at the functions' start and return by itself")));
            }
            _ => {
                // Before the list of functions, which does not matter where there are no kprobes.
                Pmu::find("kprobe").map_err(fail)?;
                let wanted = self.wanted(program).map_err(fail)?;
                let (held, notice) = self.by_events(program, &target, &wanted)?;
                return Ok(Link::new(program.name(), self.hook(), &target, held).noticing(notice));
            }
        }
        let held = self.wanted(program).and_then(|wanted| self.by_link(program, &wanted)).map_err(fail)?;
        Ok(Link::new(program.name(), self.hook(), &target, held))
    }
}

fn refused(program: &Program, errno: Errno, count: usize) -> Cause {
    let session = program.attach_type() == AttachType::TRACE_KPROBE_SESSION;
    let known = program.kernel().knows_attach_type(program.attach_type()) != Some(false);
    let cause = match errno {
        Errno::OPNOTSUPP => Cause::new(
            Kind::Unsupported,
            "this kernel was built without what links to many functions need (CONFIG_FPROBE)",
        )
        .action("use SEC(\"kprobe/FUNCTION\") or SEC(\"fentry/FUNCTION\")"),
        Errno::INVAL if !known => Cause::new(
            Kind::Unsupported,
            match session {
                true => "this kernel has no kprobe.session links (6.10)",
                false => "this kernel has no kprobe.multi links (5.18)",
            },
        ),
        Errno::INVAL => Cause::invalid(format!(
            "the kernel refuses one of the {count} functions: it cannot be traced, or is there twice"
        )),
        Errno::SRCH | Errno::NOENT => {
            Cause::invalid(format!("one of the {count} addresses is no function that can be traced"))
        }
        _ => {
            let mut cause = attach_cause(errno);
            cause.why += &format!(" ({count} functions)");
            cause
        }
    };
    cause.errno(errno)
}

/// A line of the kernel's list: `ffffffff81000000 tcp_connect [module]`, or the same without the address.
pub(super) struct Line<'a> {
    address: Option<u64>,
    pub(super) name: &'a str,
    pub(super) module: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str, with_address: bool) -> Option<Line<'a>> {
        let mut parts = line.split_ascii_whitespace();
        let address = if with_address { Some(u64::from_str_radix(parts.next()?, 16).ok()?) } else { None };
        let name = parts.next()?;
        let module = parts.next().and_then(|module| module.strip_prefix('[')?.strip_suffix(']'));
        // The place of a function that was discarded after boot.
        (!name.starts_with("__ftrace_invalid_address__")).then_some(Line { address, name, module })
    }

    fn fits(&self, module: Option<&str>, pattern: &str) -> bool {
        module.is_none_or(|module| self.module == Some(module)) && glob::matches(pattern, self.name)
    }
}

/// Calls `each` for every function that the kernel lets trace; says whether addresses were told.
pub(super) fn each_function(tracefs: &TraceFs, mut each: impl FnMut(Line<'_>)) -> Result<bool, Cause> {
    for (file, with_address) in [(WITH_ADDRESSES, true), (NAMES, false)] {
        let opened = match tracefs.file(file, OFlags::RDONLY) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => continue,
            Err(errno) => {
                return Err(
                    crate::explain::plain(errno).action("reading tracing files takes root or CAP_DAC_READ_SEARCH")
                );
            }
        };
        let mut reader = BufReader::with_capacity(1 << 16, std::fs::File::from(opened));
        let mut line = String::new();
        loop {
            line.clear();
            match reader.read_line(&mut line) {
                Ok(0) => return Ok(with_address),
                Ok(_) => Line::parse(&line, with_address).into_iter().for_each(&mut each),
                Err(error) => return Err(Cause::new(Kind::Io, format!("cannot read {file}: {error}"))),
            }
        }
    }
    Err(Cause::new(Kind::Unsupported, "this kernel does not say which functions can be traced")
        .action("use a kernel with CONFIG_DYNAMIC_FTRACE, or name single functions by SEC(\"kprobe/FUNCTION\")"))
}

/// Addresses of the functions that fit a pattern.
fn matching(pattern: &str) -> Result<Vec<u64>, Cause> {
    let (module, glob) = pattern.split_once(':').map_or((None, pattern), |(module, glob)| (Some(module), glob));
    let tracefs = TraceFs::open()?;
    let (mut addresses, mut names, mut near) = (BTreeSet::new(), HashSet::new(), Vec::new());
    let told = each_function(&tracefs, |line| {
        if line.fits(module, glob) {
            addresses.extend(line.address);
            if line.address.is_none() {
                names.insert(line.name.to_owned());
            }
        } else if module.is_none_or(|module| line.module == Some(module)) {
            near.push(line.name.to_owned());
        }
    })?;
    if !told && !names.is_empty() {
        addresses = in_kallsyms(module, &names)?;
    }
    if addresses.is_empty() {
        let near = crate::near::nearest(glob::core(glob), near.iter().map(String::as_str));
        let of = module.map_or(String::new(), |module| format!(" of the module {module}"));
        let why = format!("no function{of} that the kernel lets trace fits `{glob}`");
        let cause = Cause::new(Kind::Unsupported, why);
        return Err(match near.is_empty() {
            true => cause.action(format!("those that it lets trace are in /sys/kernel/tracing/{NAMES}")),
            false => cause.action(format!("it has {}", near.join(", "))),
        });
    }
    Ok(addresses.into_iter().collect())
}

/// Where kernels before 6.5 have these functions. A name to which the compiler gives a suffix has it only here
/// (`avail_kallsyms_cb` of libbpf).
fn in_kallsyms(module: Option<&str>, names: &HashSet<String>) -> Result<BTreeSet<u64>, Cause> {
    let functions = Functions::read()?;
    let fits = |function: &Function<'_>| {
        let bare = function.name.split_once(".llvm.").map_or(function.name, |(bare, _)| bare);
        let named = names.contains(function.name) || names.contains(bare);
        named && module.is_none_or(|module| function.module == Some(module))
    };
    let found = functions.iter().filter(fits).map(|function| function.address);
    let addresses: BTreeSet<u64> = found.filter(|address| *address != 0).collect();
    if addresses.is_empty() { Err(Functions::hidden()) } else { Ok(addresses) }
}

/// Which of these names the kernel does not let trace.
fn missing(names: &[String]) -> Cause {
    let mut known = HashSet::new();
    let listed = TraceFs::open().and_then(|tracefs| {
        each_function(&tracefs, |line| {
            known.insert(line.name.to_owned());
        })
    });
    let cause = |what: String| Cause::new(Kind::Unsupported, format!("this kernel does not let trace {what}"));
    let absent: Vec<&String> = names.iter().filter(|name| !known.contains(*name)).collect();
    let Some(first) = absent.first().filter(|_| listed.is_ok()) else {
        return cause(format!("one of the {} functions", names.len()));
    };
    let near = crate::near::nearest(first, known.iter().map(String::as_str));
    let shown = some(absent.iter().map(|name| format!("`{name}`")), absent.len());
    let cause = cause(format!("{shown} ({} of {} functions)", absent.len(), names.len()));
    match near.is_empty() {
        true => cause.action("it has no such function, or the compiler put it into its callers"),
        false => cause.action(format!("it has {}", near.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernels_list() {
        let line = Line::parse("ffffffff81000010 tcp_connect [net]\n", true).unwrap();
        assert_eq!((line.address, line.name, line.module), (Some(0xffff_ffff_8100_0010), "tcp_connect", Some("net")));
        assert!(line.fits(Some("net"), "tcp_*") && line.fits(None, "tcp_*") && !line.fits(Some("other"), "tcp_*"));
        let line = Line::parse("tcp_close\n", false).unwrap();
        assert_eq!((line.address, line.name, line.module), (None, "tcp_close", None));
        assert!(Line::parse("__ftrace_invalid_address___16\n", false).is_none());
        assert!(Line::parse("\n", false).is_none() && Line::parse("zz name\n", true).is_none());
    }
}
