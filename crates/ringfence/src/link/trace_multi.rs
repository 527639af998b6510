//! Many kernel functions with one link and the arguments of each (fentry.multi, fexit.multi, fsession.multi).

use std::collections::HashSet;
use std::os::fd::AsFd;

use ringfence_btf::{Btf, Def, Kind as BtfKind};
use ringfence_sys as sys;
use rustix::io::Errno;

use super::kprobe_multi::each_function;
use super::uprobe_multi::some;
use super::{Link, create, failed};
use crate::error::{Cause, Kind, Result};
use crate::glob;
use crate::hook::{Hook, sealed};
use crate::program::Program;
use crate::tracefs::TraceFs;

const HOOK: &str = "kernel functions";

/// Kernel functions, attached together, for programs of the sections `fentry.multi`, `fexit.multi` and `fsession.multi`.
///
/// ```no_run
/// use ringfence::hook::TraceMulti;
/// # fn show(program: &ringfence::Program) -> Result<(), ringfence::Error> {
/// let all = program.attach_to(&TraceMulti::matching("tcp_*"))?;
/// let two = program.attach_to(&TraceMulti::functions(["tcp_connect", "tcp_close"]).cookies([1, 2]))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceMulti {
    which: Which,
    cookies: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Which {
    Matching(String),
    Functions(Vec<String>),
}

impl TraceMulti {
    /// Every function that the kernel lets trace, has types of, and whose name fits a pattern: `*` is any text, `?` one
    /// character. Functions of modules are left out.
    pub fn matching(pattern: &str) -> Self {
        TraceMulti { which: Which::Matching(pattern.to_owned()), cookies: Vec::new() }
    }

    /// These.
    pub fn functions<S: Into<String>>(functions: impl IntoIterator<Item = S>) -> Self {
        TraceMulti { which: Which::Functions(functions.into_iter().map(Into::into).collect()), cookies: Vec::new() }
    }

    /// What `bpf_get_attach_cookie` gives in the program, for each of the functions in their order.
    pub fn cookies(mut self, cookies: impl IntoIterator<Item = u64>) -> Self {
        self.cookies = cookies.into_iter().collect();
        self
    }

    fn target(&self) -> String {
        match &self.which {
            Which::Matching(pattern) => pattern.clone(),
            Which::Functions(functions) => some(functions.iter().cloned(), functions.len()),
        }
    }

    /// The functions' types.
    fn find(&self, btf: &Btf) -> Result<Vec<u32>, Cause> {
        let names = match &self.which {
            Which::Matching(pattern) if !glob::is_plain(pattern) => {
                if !self.cookies.is_empty() {
                    return Err(Cause::invalid(
                        "which functions fit a pattern is not known, so no cookie can be theirs",
                    )
                    .action("name the functions"));
                }
                return matching(btf, pattern);
            }
            Which::Matching(name) => vec![name.clone()],
            Which::Functions(names) => names.clone(),
        };
        if !matches!(self.cookies.len(), count if count == 0 || count == names.len()) {
            let why = format!("{} cookies were given for {} functions", self.cookies.len(), names.len());
            return Err(Cause::invalid(why));
        }
        let find = |name: &String| {
            btf.find(name, BtfKind::Func).map(|id| id.0).ok_or_else(|| {
                Cause::new(Kind::Unsupported, format!("this kernel has no function `{name}`, or no types of it"))
                    .action(format!("look for it: `grep {name} /proc/kallsyms`"))
            })
        };
        names.iter().map(find).collect()
    }
}

/// The types of the functions that fit a pattern and can be traced.
fn matching(btf: &Btf, pattern: &str) -> Result<Vec<u32>, Cause> {
    let mut traced = HashSet::new();
    each_function(&TraceFs::open()?, |line| {
        if line.module.is_none() && glob::matches(pattern, line.name) {
            traced.insert(line.name.to_owned());
        }
    })?;
    let bad = |error: ringfence_btf::Error| Cause::invalid(format!("the kernel's types: {error}"));
    let mut ids = Vec::new();
    for ty in btf.own_types() {
        let ty = ty.map_err(bad)?;
        // A name that stands for several functions is taken once: which of them is meant cannot be told.
        if matches!(ty.def, Def::Func { .. }) && traced.remove(ty.name) {
            ids.push(ty.id.0);
        }
    }
    if ids.is_empty() {
        let why = format!("no function that the kernel lets trace and has types of fits `{pattern}`");
        return Err(Cause::new(Kind::Unsupported, why));
    }
    Ok(ids)
}

impl sealed::Sealed for TraceMulti {}

impl Hook for TraceMulti {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = self.target();
        let fail = |cause| failed(program, HOOK, &target, cause);
        let btf = program.kernel().btf().map_err(|error| fail(Cause::new(Kind::Io, error.to_string())))?;
        let none = || Cause::new(Kind::Unsupported, "this kernel has no types (CONFIG_DEBUG_INFO_BTF)");
        let ids = self.find(btf.ok_or_else(none).map_err(fail)?).map_err(fail)?;
        let link = sys::LinkCreate {
            program: program.as_fd(),
            attach_type: program.attach_type(),
            to: sys::AttachTo::Nothing,
            flags: 0,
            tail: sys::LinkTail::TracingMulti { ids: &ids, cookies: &self.cookies },
        };
        create(program, HOOK, &target, &link, |errno| match errno {
            Errno::INVAL => Some(Cause::invalid(format!(
                "the kernel refuses one of the {} functions: it cannot be traced so, or is there twice, or may not sleep",
                ids.len()
            ))),
            Errno::BUSY => {
                Some(Cause::new(Kind::Io, "one of the functions is being traced in a way that excludes this"))
            }
            _ => None,
        })
    }
}
