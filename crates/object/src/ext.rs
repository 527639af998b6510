//! `.BTF.ext`: which type a function has, which source line an instruction comes from, what CO-RE fills in.

use ringfence_btf::{Btf, TypeId};
use ringfence_uapi::Insn;

use crate::elf::Elf;
use crate::functions::Functions;
use crate::{CoreKind, CoreReloc, Error, FunctionId, Line};

const MAGIC: u16 = 0xeb9f;
/// Longest access string; libbpf follows at most 64 steps (`BPF_CORE_SPEC_MAX_LEN`).
const MAX_ACCESS: usize = 1024;

/// Reads numbers of the section's byte order.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl<'a> Reader<'a> {
    fn word(&self, n: usize) -> Option<u32> {
        let bytes = self.bytes.get(n.checked_mul(4)?..)?.first_chunk::<4>()?;
        Some(if self.big_endian { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) })
    }

    fn slice(&self, start: usize, len: usize) -> Option<Reader<'a>> {
        let bytes = self.bytes.get(start..start.checked_add(len)?)?;
        Some(Reader { bytes, ..*self })
    }

    fn rest(&self, start: usize) -> Option<Reader<'a>> {
        Some(Reader { bytes: self.bytes.get(start..)?, ..*self })
    }
}

/// Gives the functions what the section says about them.
pub(crate) fn read(elf: &Elf<'_>, btf: &Btf, bytes: &[u8], functions: &mut Functions) -> Result<(), Error> {
    let damaged = |what: &str| elf.damaged(format!("section .BTF.ext: {what}"));
    let cut = || damaged("it is cut off");
    let all = Reader { bytes, big_endian: elf.big_endian() };
    let magic = bytes.first_chunk::<2>().ok_or_else(cut)?;
    let magic = if elf.big_endian() { u16::from_be_bytes(*magic) } else { u16::from_le_bytes(*magic) };
    if magic != MAGIC || bytes.get(2) != Some(&1) {
        return Err(damaged("it is of an unknown version"));
    }
    let header = all.word(1).ok_or_else(cut)? as usize;
    let part = |n: usize| -> Result<Option<Reader<'_>>, Error> {
        let at = n.saturating_mul(2).saturating_add(2);
        // A shorter header is an older one, without the later parts.
        if at.saturating_add(2).saturating_mul(4) > header {
            return Ok(None);
        }
        let (offset, len) = (all.word(at).ok_or_else(cut)?, all.word(at.saturating_add(1)).ok_or_else(cut)?);
        let part = header.checked_add(offset as usize).and_then(|start| all.slice(start, len as usize));
        Ok(Some(part.ok_or_else(|| damaged("a part of it is outside"))?))
    };
    for (n, (what, smallest)) in [("function", 8), ("line", 16), ("CO-RE", 16)].into_iter().enumerate() {
        let Some(part) = part(n)?.filter(|part| !part.bytes.is_empty()) else { continue };
        let size = part.word(0).ok_or_else(cut)? as usize;
        if size < smallest || !size.is_multiple_of(4) {
            return Err(damaged(&format!("{what} records of {size} bytes are unknown")));
        }
        let mut rest = part.rest(4).ok_or_else(cut)?;
        while !rest.bytes.is_empty() {
            let (name, count) = (rest.word(0).ok_or_else(cut)?, rest.word(1).ok_or_else(cut)? as usize);
            let len = count.checked_mul(size).ok_or_else(cut)?;
            let records = rest.slice(8, len).ok_or_else(cut)?;
            rest = rest.rest(len.saturating_add(8)).ok_or_else(cut)?;
            let name = btf.string(name).map_err(|e| bad(elf, e))?;
            let Some(section) = elf.find(name) else { continue };
            for record in records.bytes.chunks_exact(size) {
                let record = Reader { bytes: record, ..records };
                let word = |n| record.word(n).unwrap_or(0);
                let Some((id, start)) = functions.find(section, u64::from(word(0))) else { continue };
                let insn = u64::from(word(0)).saturating_sub(start).checked_div(Insn::SIZE as u64).unwrap_or(0);
                let place = Place { id, insn: usize::try_from(insn).unwrap_or(usize::MAX) };
                match n {
                    0 => function_type(functions, place, TypeId(word(1))),
                    1 => line(elf, functions, place, [word(1), word(2), word(3)])?,
                    _ => core(elf, btf, functions, place, [word(1), word(2), word(3)])?,
                }
            }
        }
    }
    for function in &mut functions.list {
        function.lines.sort_by_key(|line| line.insn);
        function.core.sort_by_key(|core| core.insn);
    }
    Ok(())
}

struct Place {
    id: FunctionId,
    insn: usize,
}

fn function_type(functions: &mut Functions, place: Place, ty: TypeId) {
    if let Some(function) = functions.get_mut(place.id).filter(|_| place.insn == 0) {
        function.btf = Some(ty);
    }
}

fn line(elf: &Elf<'_>, functions: &mut Functions, place: Place, [file, text, at]: [u32; 3]) -> Result<(), Error> {
    elf.spend(size_of::<Line>() / 4)?;
    if let Some(function) = functions.get_mut(place.id) {
        // BPF_LINE_INFO_LINE_NUM and BPF_LINE_INFO_LINE_COL of include/uapi/linux/bpf.h.
        let (line, column) = (at >> 10, (at & 0x3ff) as u16);
        function.lines.push(Line { insn: place.insn, file, text, line, column });
    }
    Ok(())
}

fn core(
    elf: &Elf<'_>,
    btf: &Btf,
    functions: &mut Functions,
    place: Place,
    [ty, access, kind]: [u32; 3],
) -> Result<(), Error> {
    let access = btf.string(access).map_err(|e| bad(elf, e))?;
    let Some(function) = functions.get_mut(place.id) else { return Ok(()) };
    let Some(known) = CoreKind::from_number(kind) else {
        let what = format!("its CO-RE relocation is of kind {kind}, which this loader does not know; a newer one may");
        function.set_problem_at(elf, place.insn, what);
        return Ok(());
    };
    if access.len() > MAX_ACCESS {
        function.set_problem_at(elf, place.insn, "its CO-RE relocation is damaged: too many steps".into());
        return Ok(());
    }
    elf.spend(access.len().saturating_add(size_of::<CoreReloc>()))?;
    function.core.push(CoreReloc { insn: place.insn, ty: TypeId(ty), access: access.into(), kind: known });
    Ok(())
}

fn bad(elf: &Elf<'_>, source: ringfence_btf::Error) -> Error {
    Error::Btf { object: elf.file.into(), section: ".BTF.ext", source }
}
