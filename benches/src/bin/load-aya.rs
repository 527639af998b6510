//! Loads objects with aya. It loads programs one by one, and wants to be told what libbpf reads in section names.

use anyhow::{Result, bail};
use aya::programs::Program;
use aya::{Btf, Ebpf, EbpfLoader};
use std::time::Duration;

fn main() -> Result<()> {
    let mut kernel = None;
    ringfence_benches::load_each(|object| {
        let btf = match &kernel {
            Some(btf) => btf,
            None => kernel.insert(Btf::from_sys_fs()?),
        };
        let mut object: Ebpf = EbpfLoader::new().btf(Some(btf)).load_file(object)?;
        for (name, program) in object.programs_mut() {
            // The programs of libbpf-tools that exist in two forms are named so.
            let tracepoint = name.trim_end_matches("_btf");
            match program {
                Program::TracePoint(program) => program.load()?,
                Program::RawTracePoint(program) => program.load()?,
                Program::KProbe(program) => program.load()?,
                Program::PerfEvent(program) => program.load()?,
                Program::BtfTracePoint(program) => program.load(tracepoint, btf)?,
                _ => bail!("{name}: a kind that is not in the comparison"),
            }
        }
        Ok((object, Duration::ZERO))
    })
}
