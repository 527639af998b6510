//! The system calls on the running kernel. One binary, so that it can be run in a virtual machine too.

mod layout;
mod links;
mod maps;
mod perf;
mod programs;
mod ring;

use ringfence_sys::{self as sys, MapCreate, MapFd, ProgLoad, ProgramFd};
use ringfence_uapi::{Insn, MapType, ProgramType};

/// `r0 = 0; exit`.
const NOTHING: [Insn; 2] = [insn(0xb7, 0, 0, 0, 0), insn(Insn::EXIT, 0, 0, 0, 0)];

const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

/// `rDST = map` or, with `PSEUDO_MAP_VALUE`, `rDST = &value[0]`.
fn load_map(dst: u8, map: &MapFd, src: u8) -> [Insn; 2] {
    use std::os::fd::{AsFd, AsRawFd};
    [insn(Insn::LD_IMM64, dst, src, 0, map.as_fd().as_raw_fd()), insn(0, 0, 0, 0, 0)]
}

/// Kernels before 5.11 count maps against RLIMIT_MEMLOCK.
fn raise_memlock() {
    let (_, hard) = sys::memlock_limit();
    if sys::set_memlock_limit(None, None).is_err() {
        let _ = sys::set_memlock_limit(hard, hard);
    }
}

fn map(kind: MapType, key: u32, value: u32, max: u32) -> MapFd {
    map_with(kind, key, value, max, 0)
}

fn map_with(kind: MapType, key: u32, value: u32, max: u32, flags: u32) -> MapFd {
    raise_memlock();
    sys::map_create(&MapCreate { flags, name: "rf_test", ..MapCreate::new(kind, key, value, max) }).unwrap()
}

fn program(kind: ProgramType, insns: &[Insn]) -> ProgramFd {
    raise_memlock();
    let mut log = sys::Log::new(1, 1 << 16);
    sys::prog_load(&ProgLoad { name: "rf_test", ..ProgLoad::new(kind, insns, "GPL") }, Some(&mut log))
        .unwrap_or_else(|errno| panic!("{errno}: {}", log.text()))
}

/// Version of the running kernel, to know what must work.
fn release() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = text.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap(), parts.next().unwrap())
}
