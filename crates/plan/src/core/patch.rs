//! Writing an answer into an instruction (libbpf `bpf_core_patch_insn`).

use ringfence_uapi::Insn;

use super::Answer;

/// Why an answer does not fit the instruction that asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misfit {
    /// The relocation names an instruction that the function does not have.
    #[error("the function has no such instruction")]
    NoInsn,
    /// Neither an immediate nor a memory access.
    #[error("`{0}` is no instruction that takes a constant or accesses memory")]
    Kind(Insn),
    /// A 64-bit load that refers to something else already, or is cut off.
    #[error("`{0}` is no plain 64-bit constant")]
    Pseudo(Insn),
    /// The compiler wrote something else than what the local type says.
    #[error("`{insn}` holds {found} where its own types say {expected}")]
    Unexpected {
        /// The instruction.
        insn: Insn,
        /// Its value.
        found: i64,
        /// The value of the local type.
        expected: i64,
    },
    /// The answer is larger than the instruction can hold.
    #[error("`{insn}` cannot hold {value}")]
    TooLarge {
        /// The instruction.
        insn: Insn,
        /// The answer.
        value: u64,
    },
    /// The field is not loaded or stored by its size.
    #[error("`{insn}` does not access the {expected} bytes that the field has in the object")]
    Width {
        /// The instruction.
        insn: Insn,
        /// Bytes of the field.
        expected: u64,
    },
    /// No instruction loads or stores this many bytes.
    #[error("the kernel's field has {0} bytes, and no instruction loads or stores that many")]
    NoWidth(u64),
}

/// What the verifier reports as `invalid func unknown#195896080`: "bad relo" in hex letters. libbpf's number, so that
/// whoever knows it from there knows it here.
const POISON: Insn = Insn { code: Insn::CALL, dst: 0, src: 0, off: 0, imm: 0x0bad_2310 };

/// `BPF_X`: the second operand is a register.
const SOURCE_REGISTER: u8 = 0x08;
const SIZE_MASK: u8 = 0x18;
/// `BPF_SIZE` bits by width in bytes.
const WIDTHS: [(u64, u8); 4] = [(1, 0x10), (2, 0x08), (4, 0x00), (8, 0x18)];

/// Replaces the instruction by one that no verifier accepts where it can be reached.
fn poison(insns: &mut [Insn]) {
    // Both halves, or the verifier would complain about the second one's opcode 0 and not about the first.
    let slots = if insns.first().is_some_and(|insn| insn.is_ld_imm64()) { 2 } else { 1 };
    insns.iter_mut().take(slots).for_each(|insn| *insn = POISON);
}

/// Writes the answer into the first of these instructions.
pub(super) fn patch(insns: &mut [Insn], answer: &Answer) -> Result<(), Misfit> {
    let [insn, rest @ ..] = insns else { return Err(Misfit::NoInsn) };
    let Some(new) = answer.target else {
        poison(insns);
        return Ok(());
    };
    let was = *insn;
    let expect = |found: i64| {
        let expected = answer.local.value.cast_signed();
        let agrees = !answer.local.certain || found == expected;
        agrees.then_some(()).ok_or(Misfit::Unexpected { insn: was, found, expected })
    };
    match insn.class() {
        Insn::ALU | Insn::ALU64 if insn.code & SOURCE_REGISTER == 0 => {
            expect(i64::from(insn.imm))?;
            insn.imm = low_word(new.value).ok_or(Misfit::TooLarge { insn: was, value: new.value })?;
        }
        Insn::LDX | Insn::ST | Insn::STX => {
            expect(i64::from(insn.off))?;
            let off = i16::try_from(new.value).map_err(|_| Misfit::TooLarge { insn: was, value: new.value })?;
            if !new.access.may_replace(answer.local.access) {
                poison(insns);
                return Ok(());
            }
            if new.access.size != answer.local.access.size {
                insn.code = resized(was, answer.local.access.size, new.access.size)?;
            }
            insn.off = off;
        }
        Insn::LD => {
            let second = rest.first_mut().ok_or(Misfit::Pseudo(was))?;
            let plain = was.is_ld_imm64() && was.src == 0 && was.off == 0;
            if !plain || *second != (Insn { imm: second.imm, ..Insn::default() }) {
                return Err(Misfit::Pseudo(was));
            }
            let found = i64::from(second.imm) << 32 | i64::from(insn.imm.cast_unsigned());
            let mut value = new.value;
            // Compilers before clang 15 do not record that an enum is signed, but extend its values accordingly.
            if answer.local.unsigned_word && found == i64::from(low_word_of(answer.local.value)) {
                if new.unsigned_word {
                    value = i64::from(low_word_of(value)).cast_unsigned();
                }
            } else {
                expect(found)?;
            }
            insn.imm = low_word_of(value);
            second.imm = low_word_of(value >> 32);
        }
        _ => return Err(Misfit::Kind(was)),
    }
    Ok(())
}

fn low_word_of(value: u64) -> i32 {
    (value as u32).cast_signed()
}

/// The low 32 bits, when the rest is only their sign or zero.
fn low_word(value: u64) -> Option<i32> {
    let signed = i32::try_from(value.cast_signed()).ok();
    signed.or_else(|| u32::try_from(value).ok().map(u32::cast_signed))
}

fn resized(insn: Insn, from: u64, to: u64) -> Result<u8, Misfit> {
    let width = WIDTHS.iter().find(|(_, bits)| insn.code & SIZE_MASK == *bits).map(|(bytes, _)| *bytes);
    if width != Some(from) {
        return Err(Misfit::Width { insn, expected: from });
    }
    let (_, bits) = WIDTHS.iter().find(|(bytes, _)| *bytes == to).ok_or(Misfit::NoWidth(to))?;
    Ok(insn.code & !SIZE_MASK | bits)
}
