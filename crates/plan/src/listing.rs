//! A program's instructions as text: the form in which loaders are compared.

use std::fmt::Write;

use ringfence_uapi::Insn;

use crate::model::{FixupWith, Plan, ProgramPlan};

impl ProgramPlan {
    /// One instruction slot a line: opcode (hex), destination, source, offset, immediate.
    ///
    /// In place of what only the executor can fill in stands `map:NAME` (the fd of a map) or `btf:MODULE` (the fd of
    /// a module's BTF); `?` is a map that the object does not name, as only hand-written instructions have it.
    pub fn listing(&self, plan: &Plan) -> String {
        let mut text = String::with_capacity(self.insns.len().saturating_mul(16));
        let mut fixups = self.fixups.iter().peekable();
        let mut module: Option<(usize, &str)> = None;
        for (at, insn) in self.insns.iter().enumerate() {
            let Insn { code, dst, src, off, imm } = insn;
            let names_map = insn.is_ld_imm64() && matches!(*src, Insn::PSEUDO_MAP_FD | Insn::PSEUDO_MAP_VALUE);
            let mut what = if names_map { "?".to_owned() } else { imm.to_string() };
            while let Some(fixup) = fixups.next_if(|fixup| fixup.insn <= at) {
                match &fixup.with {
                    FixupWith::Map(map) => {
                        let map = plan.maps.get(map.0).map_or("?", |map| map.name.as_str());
                        what = format!("map:{map}");
                    }
                    FixupWith::ModuleBtf(name) => module = Some((at.saturating_add(1), name)),
                }
            }
            if let Some((slot, name)) = module
                && slot == at
            {
                what = format!("btf:{name}");
            }
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{code:02x} {dst} {src} {off} {what}");
        }
        text
    }
}
