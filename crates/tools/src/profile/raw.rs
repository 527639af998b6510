//! `bpf/profile.bpf.c` seen from this side: the module made from its types, and what is read together.

use ringfence::{PerCpuTable, Result, Table, Variable};

mod made {
    include!(concat!(env!("OUT_DIR"), "/profile.rs"));
}
pub(super) use made::profile::{Counters, Loaded, Mapped, Mapping, Process, Profile as Programs, Stack, Waiting};

/// Most frames of a stack, on each side (`DEPTH`).
pub(super) const DEPTH: usize = 127;

impl Stack {
    pub(super) fn kernel_frames(&self) -> &[u64] {
        self.frames.get(..usize::from(self.kernel).min(DEPTH)).unwrap_or_default()
    }

    pub(super) fn user_frames(&self) -> &[u64] {
        self.frames.get(DEPTH..DEPTH + usize::from(self.user).min(DEPTH)).unwrap_or_default()
    }
}

/// What is read again and again.
#[derive(Debug)]
pub(super) struct Tables {
    stacks: [Table<u64, Stack>; 2],
    totals: PerCpuTable<u32, Counters>,
    pub(super) waits: Table<u32, Waiting>,
    active: Variable,
}

impl Tables {
    pub(super) fn open(loaded: &Loaded) -> Result<Tables> {
        let maps = loaded.maps();
        Ok(Tables {
            stacks: [maps.stacks_a()?, maps.stacks_b()?],
            totals: maps.totals()?,
            waits: maps.waits()?,
            active: loaded.0.variable("active")?,
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
