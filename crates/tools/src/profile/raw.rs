//! What `bpf/profile.bpf.c` and this side share: the same members at the same places, which `Tables::open` checks.

use std::mem::offset_of;

use ringfence::{Loaded, PerCpuTable, Result, Table, Variable};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Most frames of a stack, on each side (`DEPTH`).
pub(super) const DEPTH: usize = 127;

/// `struct stack`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Stack {
    pub(super) count: u64,
    pub(super) ns: u64,
    pub(super) image: u64,
    pub(super) pid: u32,
    kernel: u16,
    user: u16,
    pub(super) preempted: u8,
    pub(super) kernel_task: u8,
    pub(super) known: u8,
    unused: [u8; 5],
    comm: [u8; 16],
    frames: [u64; 2 * DEPTH],
}

impl Stack {
    pub(super) fn kernel(&self) -> &[u64] {
        self.frames.get(..usize::from(self.kernel).min(DEPTH)).unwrap_or_default()
    }

    pub(super) fn user(&self) -> &[u64] {
        self.frames.get(DEPTH..DEPTH + usize::from(self.user).min(DEPTH)).unwrap_or_default()
    }

    pub(super) fn comm(&self) -> String {
        String::from_utf8_lossy(self.comm.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    }
}

/// `struct process`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Process {
    pub(super) image: u64,
    pub(super) pid: u32,
    unused: u32,
}

/// `struct waiting`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Waiting {
    pub(super) hash: u64,
    pub(super) since: u64,
    pid: u32,
    unused: u32,
}

/// `struct counters`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Counters {
    pub(super) samples: u64,
    pub(super) idle: u64,
    pub(super) filtered: u64,
    pub(super) taken: u64,
    pub(super) lost_full: u64,
    pub(super) lost_tasks: u64,
    pub(super) lost_images: u64,
}

/// The maps, typed.
#[derive(Debug)]
pub(super) struct Tables {
    stacks: [Table<u64, Stack>; 2],
    totals: PerCpuTable<u32, Counters>,
    pub(super) waits: Table<u32, Waiting>,
    active: Variable,
}

impl Tables {
    pub(super) fn open(loaded: &Loaded) -> Result<Tables> {
        let stacks = loaded.map("stacks_a")?;
        stacks.check_value(&[
            ("count", offset_of!(Stack, count)),
            ("image", offset_of!(Stack, image)),
            ("user", offset_of!(Stack, user)),
            ("known", offset_of!(Stack, known)),
            ("comm", offset_of!(Stack, comm)),
            ("frames", offset_of!(Stack, frames)),
        ])?;
        let totals = loaded.map("totals")?;
        totals.check_value(&[
            ("samples", offset_of!(Counters, samples)),
            ("lost_images", offset_of!(Counters, lost_images)),
        ])?;
        Ok(Tables {
            stacks: [stacks.table()?, loaded.map("stacks_b")?.table()?],
            totals: totals.per_cpu()?,
            waits: loaded.map("waits")?.table()?,
            active: loaded.variable("active")?,
        })
    }

    /// Lets programs write into the other table; gives the one that they leave.
    pub(super) fn switch(&self) -> Result<Table<u64, Stack>> {
        let now: u32 = self.active.get()?;
        self.active.set(&u32::from(now == 0))?;
        let [a, b] = &self.stacks;
        Ok(if now == 0 { a } else { b }.clone())
    }

    pub(super) fn counters(&self) -> Result<Counters> {
        let mut sum = Counters::default();
        for one in self.totals.get(&0)?.iter().flat_map(|values| values.iter()) {
            sum.samples += one.samples;
            sum.idle += one.idle;
            sum.filtered += one.filtered;
            sum.taken += one.taken;
            sum.lost_full += one.lost_full;
            sum.lost_tasks += one.lost_tasks;
            sum.lost_images += one.lost_images;
        }
        Ok(sum)
    }
}
