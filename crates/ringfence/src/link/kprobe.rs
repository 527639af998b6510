//! Kernel functions, at their start or return, by a perf event made for it (4.17).

use std::ffi::CString;

use ringfence_kernel::Feature;
use ringfence_sys as sys;
use rustix::io::Errno;
use sys::{PerfOpen, PerfTarget};

use super::{Link, failed, on_event};
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
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
    /// At the function's start.
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
        let fail = |cause| failed(program, self.hook(), &name, cause);
        let pmu = Pmu::find("kprobe").map_err(fail)?;
        let text = CString::new(name.as_str()).map_err(|_| fail(Cause::invalid("its name holds a zero byte")))?;
        let target =
            PerfTarget::Probe { pmu: pmu.number, config: pmu.config(self.ret), name: Some(&text), offset: self.offset };
        let event = sys::perf_event_open(&PerfOpen::new(target)).map_err(|errno| {
            fail(match errno {
                Errno::NOENT | Errno::ADDRNOTAVAIL => {
                    Cause::new(Kind::Unsupported, "this kernel has no such function, or it was inlined everywhere")
                        .action(format!("look for it: `grep {} /proc/kallsyms`", self.function))
                        .errno(errno)
                }
                Errno::INVAL | Errno::ILSEQ => {
                    Cause::invalid("the kernel allows no probe there: the function is on its black list, or the offset is inside of an instruction").errno(errno)
                }
                _ => perf_cause(errno),
            })
        })?;
        on_event(program, self.hook(), &name, event, self.cookie)
    }
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
