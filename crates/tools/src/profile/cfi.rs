//! `.eh_frame` of a file as a table that the kernel side walks by (`bpf/unwind.h`): how the caller of each instruction is found.

use std::fs::File;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, LittleEndian, Operation, Register, RegisterRule,
    UnwindContext, UnwindExpression, UnwindSection, X86_64,
};
use object::elf::PF_X;
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSegment, ReadCache, SegmentFlags};

/// Rows of one file; 8 bytes each.
const MOST_ROWS: usize = 4 << 20;
/// Bytes of its `.eh_frame`.
const MOST_BYTES: u64 = 128 << 20;
/// Gaps between functions up to this are padding.
const PADDING: u32 = 16;
/// The bits of a row's CFA.
const CFA: u32 = (1 << 20) - 1;
/// Rows of one chunk (`UNWIND_ROWS`).
pub(super) const CHUNK: usize = 512;

/// `ROW_*`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
enum Kind {
    None,
    Sp,
    Bp,
    Plt,
    BpDeref,
    End,
    Signal,
}

/// A row, as `bpf/unwind.h` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Row {
    pc: u32,
    kind: Kind,
    /// In units of 8, of 20 bits.
    cfa: i32,
    bp: i8,
}

/// Rows of a file, and where they are in memory.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Row>,
    /// Address in the file of the first row's section, from which rows count.
    base: u64,
    /// Offset in the file, size, address.
    segments: Vec<(u64, u64, u64)>,
    /// Of all code that it covers, the part of functions with frame pointers.
    with_pointers: f64,
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

impl Table {
    /// `None`: it is no x86-64 ELF file with an `.eh_frame`, or too big.
    pub(super) fn read(file: &File) -> Option<Table> {
        let cache = ReadCache::new(file);
        let elf: ElfFile64<'_, object::LittleEndian, _> = ElfFile64::parse(&cache).ok()?;
        if elf.architecture() != object::Architecture::X86_64 {
            return None;
        }
        // Only code: a page of the file that holds the end of one segment and the beginning of the next is mapped twice.
        let runs = |flags| matches!(flags, SegmentFlags::Elf { p_flags, .. } if p_flags.0 & PF_X.0 != 0);
        let segments = elf.segments().filter(|segment| runs(segment.flags()));
        let segments: Vec<_> = segments.map(|segment| (segment.file_range(), segment.address())).collect();
        let base = segments.iter().map(|(_, address)| *address).min()?;
        let section = elf.section_by_name(".eh_frame").filter(|section| section.size() <= MOST_BYTES)?;
        let address = |name| elf.section_by_name(name).map_or(0, |section| section.address());
        let bases = BaseAddresses::default()
            .set_eh_frame(section.address())
            .set_text(address(".text"))
            .set_got(address(".got"));
        let frames = EhFrame::new(section.data().ok()?, LittleEndian);
        let mut maker = Maker { base, rows: Vec::new(), bytes: [0; 2] };
        maker.all(&frames, &bases)?;
        let [with, without] = maker.bytes.map(|bytes| bytes as f64);
        Some(Table {
            rows: tidy(maker.rows),
            base,
            segments: segments.into_iter().map(|((offset, size), address)| (offset, size, address)).collect(),
            with_pointers: with / (with + without).max(1.0),
        })
        .filter(|table| !table.rows.is_empty())
    }

    /// Of all code that it covers, the part of functions with frame pointers, 0 to 1.
    pub(super) fn with_pointers(&self) -> f64 {
        self.with_pointers
    }

    /// How many rows it has.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// As the kernel side reads them; the last one is filled up with rows behind everything.
    pub(super) fn chunks(&self) -> impl ExactSizeIterator<Item = [u64; CHUNK]> {
        self.rows.chunks(CHUNK).map(|rows| {
            let mut chunk = [u64::from(u32::MAX); CHUNK];
            for (place, row) in chunk.iter_mut().zip(rows) {
                *place = row.word();
            }
            chunk
        })
    }

    pub(super) fn place(self) -> Place {
        Place { base: self.base, segments: self.segments }
    }
}

/// Where a table's rows are in memory, when its file is mapped somewhere.
#[derive(Clone, Debug)]
pub(super) struct Place {
    base: u64,
    segments: Vec<(u64, u64, u64)>,
}

impl Place {
    /// What is to be taken from an address in memory, where `start` is what lies at `offset` of the file.
    pub(super) fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        let holds = |(from, size, _): &&(u64, u64, u64)| {
            // A mapping begins at a page, a segment anywhere in it.
            offset >= from & !0xfff && offset < from.saturating_add(*size)
        };
        let (from, _, address) = self.segments.iter().find(holds)?;
        let in_file = address.wrapping_add(offset).wrapping_sub(*from);
        Some(start.wrapping_sub(in_file).wrapping_add(self.base))
    }
}

impl Row {
    fn word(self) -> u64 {
        u64::from(self.pc)
            | u64::from(self.cfa.cast_unsigned() & CFA) << 32
            | u64::from(self.kind as u8) << 52
            | u64::from(self.bp.cast_unsigned()) << 56
    }

    fn same_rule(&self, other: &Row) -> bool {
        (self.kind, self.cfa, self.bp) == (other.kind, other.cfa, other.bp)
    }
}

/// Sorted; of several rows for one address the one that says something; without those that change nothing.
fn tidy(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| (row.pc, row.kind != Kind::None));
    let mut tidied: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        while let Some(last) = tidied.last() {
            let padding = last.kind == Kind::None && row.pc - last.pc < PADDING && row.kind != Kind::None;
            if last.pc != row.pc && !padding {
                break;
            }
            tidied.pop();
        }
        if tidied.last().is_none_or(|last| !last.same_rule(&row)) {
            tidied.push(row);
        }
    }
    tidied.shrink_to_fit();
    tidied
}

struct Maker {
    base: u64,
    rows: Vec<Row>,
    /// Of code with and without frame pointers.
    bytes: [u64; 2],
}

impl Maker {
    fn all(&mut self, frames: &EhFrame<Slice<'_>>, bases: &BaseAddresses) -> Option<()> {
        let mut context = UnwindContext::new();
        let mut entries = frames.entries(bases);
        // What is damaged ends the table; what was read before is right.
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let Ok(fde) = partial.parse(EhFrame::cie_from_offset) else { continue };
            let (start, end) = (fde.initial_address(), fde.end_address());
            // Those of functions that the linker left out begin at 0.
            if start < self.base || start == 0 || end <= start {
                continue;
            }
            if fde.is_signal_trampoline() {
                // A return address is looked up one byte before itself, and nobody calls this one.
                self.add(start.saturating_sub(1), Row { pc: 0, kind: Kind::Signal, cfa: 0, bp: 0 })?;
                self.add(end, NOTHING)?;
                continue;
            }
            let (mut pointer, mut frame) = (false, false);
            if let Ok(mut table) = fde.rows(frames, bases, &mut context) {
                while let Ok(Some(row)) = table.next_row() {
                    let rule = rule(row.cfa(), |register| row.register(register), frames);
                    pointer |= matches!(rule.kind, Kind::Bp | Kind::BpDeref);
                    // Nothing but the return address: a function that calls none needs no more.
                    frame |= rule.cfa > 1;
                    self.add(row.start_address(), rule)?;
                }
            }
            let [with, without] = &mut self.bytes;
            match (pointer, frame) {
                (true, _) => *with += end - start,
                (false, true) => *without += end - start,
                (false, false) => {}
            }
            self.add(end, NOTHING)?;
        }
        Some(())
    }

    fn add(&mut self, address: u64, row: Row) -> Option<()> {
        if self.rows.len() >= MOST_ROWS {
            return None;
        }
        // What does not fit is not known.
        if let Ok(pc) = u32::try_from(address.wrapping_sub(self.base)) {
            self.rows.push(Row { pc, ..row });
        }
        Some(())
    }
}

const NOTHING: Row = Row { pc: 0, kind: Kind::None, cfa: 0, bp: 0 };
/// `BP_AT_BP`.
const AT_BP: i8 = 1;

/// What the kernel side can do; all else is nothing, and ends a stack.
fn rule(
    cfa: &CfaRule<usize>,
    register: impl Fn(Register) -> Option<RegisterRule<usize>>,
    frames: &EhFrame<Slice<'_>>,
) -> Row {
    let words = |bytes: i64| (bytes % 8 == 0).then_some(bytes / 8);
    let (kind, offset) = match cfa {
        CfaRule::RegisterAndOffset { register: X86_64::RSP, offset } => (Kind::Sp, *offset),
        CfaRule::RegisterAndOffset { register: X86_64::RBP, offset } => (Kind::Bp, *offset),
        CfaRule::RegisterAndOffset { .. } => return NOTHING,
        CfaRule::Expression(expression) => match operations(expression, frames).as_deref() {
            // DW_OP_breg7 8, breg16 0, lit15, and, lit11, ge, lit3, shl, plus: what linkers write for the PLT.
            Some([Operation::RegisterOffset { register: X86_64::RSP, offset: 8, .. }, rest @ ..])
                if rest.len() == 8 =>
            {
                (Kind::Plt, 0)
            }
            // Functions that align their stack keep the old stack pointer below the frame pointer.
            Some([Operation::RegisterOffset { register: X86_64::RBP, offset, .. }, Operation::Deref { .. }]) => {
                (Kind::BpDeref, *offset)
            }
            _ => return NOTHING,
        },
    };
    let fits = |words: &i32| words.unsigned_abs() <= CFA / 2;
    let cfa = words(offset).and_then(|words| i32::try_from(words).ok()).filter(fits);
    let Some(cfa) = cfa else { return NOTHING };
    match register(X86_64::RA) {
        Some(RegisterRule::Offset(-8)) => {}
        Some(RegisterRule::Undefined) | None => return Row { kind: Kind::End, ..NOTHING },
        Some(_) => return NOTHING,
    }
    let bp = match register(X86_64::RBP) {
        None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => Some(0),
        Some(RegisterRule::Offset(offset)) => {
            words(offset).and_then(|words| i8::try_from(words).ok()).filter(|words| *words < 0)
        }
        Some(RegisterRule::Expression(expression)) => match operations(&expression, frames).as_deref() {
            Some([Operation::RegisterOffset { register: X86_64::RBP, offset: 0, .. }]) => Some(AT_BP),
            _ => None,
        },
        Some(_) => None,
    };
    bp.map_or(NOTHING, |bp| Row { pc: 0, kind, cfa, bp })
}

fn operations<'a>(
    expression: &UnwindExpression<usize>,
    frames: &EhFrame<Slice<'a>>,
) -> Option<Vec<Operation<Slice<'a>>>> {
    /// More than any that is known here.
    const MOST: usize = 16;
    let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
    let mut all = expression.get(frames).ok()?.operations(encoding);
    let mut operations = Vec::new();
    while let Some(operation) = all.next().ok()? {
        operations.push(operation);
        if operations.len() > MOST {
            return None;
        }
    }
    Some(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pc: u32, kind: Kind, cfa: i32) -> Row {
        Row { pc, kind, cfa, bp: 0 }
    }

    #[test]
    fn rows_are_as_few_as_possible() {
        let rows = vec![
            row(0x40, Kind::Sp, 1),
            row(0x48, Kind::None, 0),
            row(0x10, Kind::Sp, 1),
            row(0x18, Kind::Sp, 1),
            row(0x20, Kind::None, 0),
            row(0x50, Kind::Sp, 2),
            // The next function begins where the one before ends.
            row(0x60, Kind::None, 0),
            row(0x60, Kind::End, 0),
        ];
        let left = [
            row(0x10, Kind::Sp, 1),
            row(0x20, Kind::None, 0),
            row(0x40, Kind::Sp, 1),
            row(0x50, Kind::Sp, 2),
            row(0x60, Kind::End, 0),
        ];
        assert_eq!(tidy(rows), left);
    }

    #[test]
    fn words_are_rows_in_memory() {
        let word = Row { pc: 0x1234_5678, kind: Kind::Bp, cfa: -2, bp: -3 }.word();
        assert_eq!(word.to_le_bytes(), [0x78, 0x56, 0x34, 0x12, 0xfe, 0xff, 0x2f, 0xfd]);
    }

    #[test]
    fn an_address_is_found_in_its_file() {
        let place = Place { base: 0, segments: vec![(0, 0x1000, 0), (0x1040, 0x2000, 0x2040)] };
        // The segment at 0x1040 is mapped from the page that it begins in.
        assert_eq!(place.bias(0x7f00_0000_2000, 0x1000), Some(0x7f00_0000_0000));
        assert_eq!(place.bias(0x7f00_0000_2000, 0x9000), None);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn own_code_has_rows() {
        let table = Table::read(&File::open("/proc/self/exe").expect("this program")).expect("a table");
        assert!(table.len() > 1000 && table.chunks().len() == table.len().div_ceil(CHUNK), "{}", table.len());
        assert!((0.0..=1.0).contains(&table.with_pointers()));
        let nothing = table.rows.iter().filter(|row| row.kind == Kind::None).count();
        assert!(nothing * 4 < table.len(), "{nothing} of {}", table.len());
        assert!(table.rows.iter().any(|row| row.kind == Kind::End), "the beginning of a program");
        assert!(table.rows.is_sorted_by_key(|row| row.pc));
    }
}
