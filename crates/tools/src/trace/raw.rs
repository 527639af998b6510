//! `bpf/trace.bpf.c` seen from this side.

use ringfence::{PerCpuTable, Result};

mod made {
    include!(concat!(env!("OUT_DIR"), "/trace.rs"));
}
pub(super) use made::trace::{Counters, Loaded, RodataSettings, Step, Trace as Programs};

/// Where `struct pt_regs` has what, in bytes.
pub(super) struct Registers {
    pub(super) arguments: &'static [u16],
    /// As Go passes them.
    pub(super) go: &'static [u16],
    ret: u16,
    stack: u16,
    instruction: u16,
    /// What a return takes off the stack.
    pops: u32,
}

#[cfg(target_arch = "x86_64")]
pub(super) const REGISTERS: Registers = Registers {
    arguments: &[112, 104, 96, 88, 72, 64],
    go: &[80, 40, 88, 112, 104, 72, 64, 56, 48],
    ret: 80,
    stack: 152,
    instruction: 128,
    pops: 8,
};
#[cfg(target_arch = "aarch64")]
pub(super) const REGISTERS: Registers = Registers {
    arguments: &[0, 8, 16, 24, 32, 40, 48, 56],
    go: &[0, 8, 16, 24, 32, 40, 48, 56, 64],
    ret: 0,
    stack: 248,
    instruction: 256,
    pops: 0,
};
/// Others are not known: arguments are zero there.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const REGISTERS: Registers =
    Registers { arguments: &[], go: &[], ret: 0, stack: 0, instruction: 0, pops: 0 };

impl Registers {
    pub(super) fn set(&self, globals: &mut RodataSettings<'_>, go: bool) {
        let mut places = [0; 12];
        for (place, at) in places.iter_mut().zip(if go { self.go } else { self.arguments }) {
            *place = *at;
        }
        globals
            .set_argument_at(places)
            .set_return_at(self.ret)
            .set_stack_at(self.stack)
            .set_instruction_at(self.instruction)
            .set_return_pops(self.pops);
    }
}

/// The sum over all CPUs.
pub(super) fn sum(totals: &PerCpuTable<u32, Counters>) -> Result<Counters> {
    let mut sum = Counters::default();
    for one in totals.get(&0)?.iter().flat_map(|values| values.iter()) {
        sum.runs += one.runs;
        sum.filtered += one.filtered;
        sum.taken += one.taken;
        sum.lost += one.lost;
        sum.unpaired += one.unpaired;
        sum.entered += one.entered;
    }
    Ok(sum)
}
