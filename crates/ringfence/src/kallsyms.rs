//! The kernel's functions by name: `/proc/kallsyms`.

use crate::error::{Cause, Kind};

/// A function of the kernel or of a module.
pub(crate) struct Function<'a> {
    /// 0 where the kernel hides addresses.
    pub(crate) address: u64,
    pub(crate) name: &'a str,
    pub(crate) module: Option<&'a str>,
}

/// All functions, in the order of the file.
pub(crate) struct Functions(String);

impl Functions {
    pub(crate) fn read() -> Result<Functions, Cause> {
        let text = std::fs::read_to_string("/proc/kallsyms");
        text.map(Functions).map_err(|error| Cause::new(Kind::Io, format!("cannot read /proc/kallsyms: {error}")))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Function<'_>> {
        self.0.lines().filter_map(|line| {
            // ffffffff81000000 T name [module]
            let mut parts = line.split_ascii_whitespace();
            let address = u64::from_str_radix(parts.next()?, 16).ok()?;
            parts.next().filter(|kind| matches!(*kind, "t" | "T" | "w" | "W"))?;
            let name = parts.next()?;
            let module = parts.next().and_then(|module| module.strip_prefix('[')?.strip_suffix(']'));
            Some(Function { address, name, module })
        })
    }

    /// Names that are close to one that is not there.
    pub(crate) fn near(&self, name: &str) -> Vec<String> {
        crate::near::nearest(name, self.iter().map(|function| function.name))
    }

    /// Addresses are there, and this process may not see them.
    pub(crate) fn hidden() -> Cause {
        Cause::new(Kind::Permission, "the kernel hides the addresses of its functions (kernel.kptr_restrict)")
            .action("run it with CAP_SYSLOG, or set kernel.kptr_restrict to 1")
    }
}
