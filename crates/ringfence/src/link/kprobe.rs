//! Kernel functions, at their start or return, by a perf event made for it (4.17).

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use ringfence_kernel::Feature;
use ringfence_sys as sys;
use rustix::io::Errno;
use sys::{PerfOpen, PerfTarget};

use super::{Link, failed, on_event};
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::kallsyms::{Function, Functions};
use crate::perf::perf_cause;
use crate::program::Program;

/// A function of the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kprobe {
    function: String,
    offset: u64,
    ret: bool,
    syscall: bool,
    cookie: u64,
}

/// How the kernel names the function of a system call: `__x64_sys_openat` (`ARCH_HAS_SYSCALL_WRAPPER`).
fn syscall_prefix() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "__x64_",
        "aarch64" => "__arm64_",
        "s390x" => "__s390x_",
        "riscv64" => "__riscv_",
        _ => "__",
    }
}

impl Kprobe {
    /// At the start of a function: `NAME`, `NAME+OFFSET`, `MODULE:NAME`.
    pub fn new(function: &str) -> Self {
        let (function, offset) = match function.split_once('+') {
            Some((name, offset)) => match offset
                .strip_prefix("0x")
                .map_or_else(|| offset.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
            {
                Some(offset) => (name, offset),
                None => (function, 0),
            },
            None => (function, 0),
        };
        Kprobe { function: function.to_owned(), offset, ret: false, syscall: false, cookie: 0 }
    }

    /// At the function's return.
    pub fn at_return(mut self) -> Self {
        self.ret = true;
        self
    }

    /// The function of this system call, under the name that the kernel gives it.
    pub fn syscall(name: &str) -> Self {
        Kprobe { syscall: true, ..Kprobe::new(name) }
    }

    /// What `bpf_get_attach_cookie` gives in the program.
    pub fn cookie(mut self, cookie: u64) -> Self {
        self.cookie = cookie;
        self
    }

    pub(super) fn from_section(ret: bool, function: &str, syscall: bool) -> Self {
        Kprobe { ret, syscall, ..Kprobe::new(function) }
    }

    fn hook(&self) -> &'static str {
        if self.ret { "the return of kernel function" } else { "kernel function" }
    }
}

impl sealed::Sealed for Kprobe {}

impl Hook for Kprobe {
    fn attach(&self, program: &Program) -> Result<Link> {
        let name = match self.syscall {
            true if program.kernel().has(Feature::SyscallWrapper) => {
                format!("{}sys_{}", syscall_prefix(), self.function)
            }
            // Without wrappers: sys_openat has the alias __se_sys_openat (SYSCALL_DEFINEx).
            true => format!("__se_sys_{}", self.function),
            false => self.function.clone(),
        };
        let target = if self.offset == 0 { name.clone() } else { format!("{name}+{:#x}", self.offset) };
        let fail = |cause| failed(program, self.hook(), &target, cause);
        let event = Kprobe { function: name.clone(), ..self.clone() }.event(self.ret).map_err(fail)?;
        on_event(program, self.hook(), &target, event, self.cookie)
    }
}

impl Kprobe {
    /// An event that fires there.
    pub(super) fn event(&self, ret: bool) -> Result<OwnedFd, Cause> {
        // The kernel looks for the function in all modules; where several have it, one of them is meant.
        if let Some((module, function)) = self.function.split_once(':') {
            let place = in_module(module, function)?;
            return event_at(place.saturating_add(self.offset), ret);
        }
        let text = CString::new(self.function.as_str()).map_err(|_| Cause::invalid("its name holds a zero byte"))?;
        event(Some(&text), self.offset, ret).map_err(|cause| match cause.errno.map(Errno::from_raw_os_error) {
            Some(errno @ Errno::NOENT) => self.missing().errno(errno),
            // number_of_same_symbols of kernel/trace/trace_kprobe.c (6.6).
            Some(errno @ Errno::ADDRNOTAVAIL) => Cause::invalid("this kernel has several functions of that name")
                .action("name the module of the one that is meant: MODULE:FUNCTION")
                .errno(errno),
            _ => cause,
        })
    }

    fn missing(&self) -> Cause {
        let cause = Cause::new(Kind::Unsupported, "this kernel has no such function, or it was inlined everywhere");
        match Functions::read().map(|functions| functions.near(&self.function)) {
            Ok(near) if !near.is_empty() => cause.action(format!("it has {} (/proc/kallsyms)", near.join(", "))),
            _ => cause.action(format!("look for it: `grep {} /proc/kallsyms`", self.function)),
        }
    }
}

/// Where a module has a function.
fn in_module(module: &str, function: &str) -> Result<u64, Cause> {
    let functions = Functions::read()?;
    // The kernel's own go by this name in BTF too.
    let own = module == "vmlinux";
    let name = module.replace('-', "_");
    let of = |found: &Function<'_>| if own { found.module.is_none() } else { found.module == Some(name.as_str()) };
    let found = functions.iter().filter(|found| of(found) && found.name == function).map(|found| found.address);
    match found.collect::<Vec<u64>>()[..] {
        [0, ..] => Err(Functions::hidden()),
        [address] => Ok(address),
        [_, _, ..] => Err(Cause::invalid(format!("{module} has several functions of that name"))),
        [] if functions.iter().any(|found| of(&found)) => {
            let near = crate::near::nearest(function, functions.iter().filter(of).map(|found| found.name));
            let cause = Cause::new(Kind::Unsupported, format!("the module {module} has no function `{function}`"));
            Err(if near.is_empty() { cause } else { cause.action(format!("it has {}", near.join(", "))) })
        }
        [] => Err(Cause::new(Kind::Unsupported, format!("the module {module} is not loaded"))
            .action(format!("load it: `modprobe {module}`"))),
    }
}

/// An event that fires at an address in the kernel.
pub(super) fn event_at(address: u64, ret: bool) -> Result<OwnedFd, Cause> {
    event(None, address, ret)
}

fn event(name: Option<&CStr>, offset: u64, ret: bool) -> Result<OwnedFd, Cause> {
    let pmu = Pmu::find("kprobe")?;
    let target = PerfTarget::Probe { pmu: pmu.number, config: pmu.config(ret), name, offset };
    sys::perf_event_open(&PerfOpen::new(target)).map_err(|errno| match errno {
        Errno::NOENT | Errno::ADDRNOTAVAIL => {
            Cause::new(Kind::Unsupported, "this kernel has no such function").errno(errno)
        }
        Errno::INVAL | Errno::ILSEQ => Cause::invalid(
            "the kernel allows no probe there: the function is on its black list, or the offset is inside of an instruction",
        )
        .errno(errno),
        _ => perf_cause(errno),
    })
}

/// A source of probes (`/sys/bus/event_source/devices`).
pub(super) struct Pmu {
    pub(super) number: u32,
    ret: Option<u32>,
    /// Bits of the configuration that take a reference counter's offset.
    counter: Option<u32>,
}

impl Pmu {
    pub(super) fn find(name: &str) -> Result<Pmu, Cause> {
        let dir = format!("/sys/bus/event_source/devices/{name}");
        let number = std::fs::read_to_string(format!("{dir}/type")).ok().and_then(|text| text.trim().parse().ok());
        let number = number.ok_or_else(|| {
            Cause::new(Kind::Unsupported, format!("this kernel offers no {name}s by perf events (there is no {dir})"))
                .action(format!("use a kernel with CONFIG_{}_EVENTS, or another kind of program", name.to_uppercase()))
        })?;
        // config:0, config:32-63
        let bit = |name: &str| {
            let text = std::fs::read_to_string(format!("{dir}/format/{name}")).ok()?;
            let bits = text.trim().strip_prefix("config:")?;
            bits.split('-').next()?.parse().ok().filter(|bit: &u32| *bit < 64)
        };
        Ok(Pmu { number, ret: bit("retprobe"), counter: bit("ref_ctr_offset") })
    }

    /// The configuration of a probe at a function's start or return.
    pub(super) fn config(&self, ret: bool) -> u64 {
        if ret { 1 << self.ret.unwrap_or(0) } else { 0 }
    }

    /// What a reference counter at this offset of the file adds to it.
    pub(super) fn counter(&self, offset: u64) -> Result<u64, Cause> {
        let Some(bit) = self.counter else {
            return Err(Cause::new(Kind::Unsupported, "this kernel keeps no counters of who looks at a probe (4.20)"));
        };
        let config = offset.checked_shl(bit).filter(|config| config >> bit == offset);
        config.ok_or_else(|| {
            Cause::invalid(format!("the counter at byte {offset:#x} is too far in the file for the kernel"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_with_offsets() {
        assert_eq!(Kprobe::new("do_unlinkat+0x10"), Kprobe { offset: 16, ..Kprobe::new("do_unlinkat") });
        assert_eq!(Kprobe::new("do_unlinkat+8").offset, 8);
        assert_eq!(Kprobe::new("mod:f").function, "mod:f");
    }
}
