//! Where a static probe has an argument, as the assembler writes it: the one place that knows a machine's registers.

/// A machine, as far as its operands and its `struct pt_regs` go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arch {
    X86,
    Arm64,
}

impl Arch {
    /// This one; `None`: it is not known here.
    pub(crate) fn own() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::X86),
            "aarch64" => Some(Arch::Arm64),
            _ => None,
        }
    }
}

/// Registers are given by their offset in `struct pt_regs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Constant(i64),
    Register(u16),
    Memory {
        base: u16,
        offset: i64,
    },
    /// At `base + (index << shift) + offset`.
    Indexed {
        base: u16,
        index: u16,
        shift: u8,
        offset: i64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Argument {
    pub(super) place: Place,
    /// 1, 2, 4 or 8 bytes.
    pub(super) size: u8,
    pub(super) signed: bool,
}

/// `struct pt_regs` of x86-64 in its order, with the names for 8, 4, 2 and 1 byte.
const X86: [(&str, [&str; 4]); 17] = [
    ("r15", ["r15", "r15d", "r15w", "r15b"]),
    ("r14", ["r14", "r14d", "r14w", "r14b"]),
    ("r13", ["r13", "r13d", "r13w", "r13b"]),
    ("r12", ["r12", "r12d", "r12w", "r12b"]),
    ("bp", ["rbp", "ebp", "bp", "bpl"]),
    ("bx", ["rbx", "ebx", "bx", "bl"]),
    ("r11", ["r11", "r11d", "r11w", "r11b"]),
    ("r10", ["r10", "r10d", "r10w", "r10b"]),
    ("r9", ["r9", "r9d", "r9w", "r9b"]),
    ("r8", ["r8", "r8d", "r8w", "r8b"]),
    ("ax", ["rax", "eax", "ax", "al"]),
    ("cx", ["rcx", "ecx", "cx", "cl"]),
    ("dx", ["rdx", "edx", "dx", "dl"]),
    ("si", ["rsi", "esi", "si", "sil"]),
    ("di", ["rdi", "edi", "di", "dil"]),
    ("orig_ax", [""; 4]),
    ("ip", ["rip", "eip", "", ""]),
];
/// Behind `ip`: `cs`, `flags`, `sp`.
const X86_SP: u16 = 19 * 8;
/// The second bytes of registers, which have names of their own.
const X86_HIGH: [(&str, &str); 4] = [("ah", "rax"), ("bh", "rbx"), ("ch", "rcx"), ("dh", "rdx")];
/// `struct user_pt_regs`: x0 to x30, sp, pc.
const ARM64_SP: u16 = 31 * 8;

impl Arch {
    fn register(self, name: &str) -> Option<u16> {
        match self {
            Arch::X86 => {
                if matches!(name, "rsp" | "esp" | "sp" | "spl") {
                    return Some(X86_SP);
                }
                if let Some((_, whole)) = X86_HIGH.iter().find(|(high, _)| *high == name) {
                    return self.register(whole).map(|at| at + 1);
                }
                let at = X86.iter().position(|(_, names)| !name.is_empty() && names.contains(&name))?;
                u16::try_from(at * 8).ok()
            }
            Arch::Arm64 => match name {
                "sp" => Some(ARM64_SP),
                _ => {
                    let number = name.strip_prefix(['x', 'w'])?;
                    let plain = number.bytes().all(|digit| digit.is_ascii_digit());
                    number.parse::<u16>().ok().filter(|number| plain && *number <= 30).map(|number| number * 8)
                }
            },
        }
    }
}

/// Operands of a note: blanks stand between them, and within brackets.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, None);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        if c.is_ascii_whitespace() && depth <= 0 {
            parts.extend(start.take().and_then(|start| text.get(start..at)));
        } else if start.is_none() {
            start = Some(at);
        }
    }
    parts.extend(start.and_then(|start| text.get(start..)));
    parts
}

/// `SIZE@PLACE`; `None`: it is where no program can read (a vector register), or not understood.
pub(super) fn parse(arch: Arch, text: &str) -> Option<Argument> {
    let (size, place) = text.split_once('@')?;
    // A floating point number (`8f`) is told as its bits.
    let size = size.trim();
    let size: i8 = size.strip_suffix('f').unwrap_or(size).parse().ok()?;
    let (bytes, signed) = (size.unsigned_abs(), size < 0);
    let place = match arch {
        Arch::X86 => x86(place.trim())?,
        Arch::Arm64 => arm64(place.trim())?,
    };
    matches!(bytes, 1 | 2 | 4 | 8).then_some(Argument { place, size: bytes, signed })
}

/// `$-9`, `%eax`, `-20(%rbp)`, `-96(%rbp,%rax,8)`.
fn x86(text: &str) -> Option<Place> {
    let register = |name: &str| Arch::X86.register(name.trim().strip_prefix('%')?);
    if let Some(constant) = text.strip_prefix('$') {
        return number(constant).map(Place::Constant);
    }
    if text.starts_with('%') {
        return register(text).map(Place::Register);
    }
    let (offset, inside) = text.strip_suffix(')')?.split_once('(')?;
    let offset = if offset.trim().is_empty() { 0 } else { number(offset.trim())? };
    let mut parts = inside.split(',');
    let base = register(parts.next()?)?;
    let place = match parts.next() {
        None => Place::Memory { base, offset },
        Some(index) => {
            let shift = match parts.next().map_or("1", str::trim) {
                "1" => 0,
                "2" => 1,
                "4" => 2,
                "8" => 3,
                _ => return None,
            };
            Place::Indexed { base, index: register(index)?, shift, offset }
        }
    };
    parts.next().is_none().then_some(place)
}

/// `5`, `x4`, `[sp, 96]`, `[x0, x1, lsl 3]`.
fn arm64(text: &str) -> Option<Place> {
    let register = |name: &str| Arch::Arm64.register(name);
    if let Some(inside) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let mut parts = inside.split(',').map(str::trim);
        let base = register(parts.next()?)?;
        let Some(second) = parts.next() else { return Some(Place::Memory { base, offset: 0 }) };
        let place = match register(second) {
            None => Place::Memory { base, offset: number(second)? },
            // A 32-bit index would have to be cut off and extended.
            Some(_) if second.starts_with('w') => return None,
            Some(index) => {
                let shift = match parts.next() {
                    None => 0,
                    Some(shift) => u8::try_from(number(shift.strip_prefix("lsl")?.trim())?).ok()?,
                };
                (shift < 16).then_some(Place::Indexed { base, index, shift, offset: 0 })?
            }
        };
        return parts.next().is_none().then_some(place);
    }
    match text {
        "xzr" | "wzr" => Some(Place::Constant(0)),
        _ => register(text).map(Place::Register).or_else(|| number(text).map(Place::Constant)),
    }
}

/// Decimal or hexadecimal; a number of 64 bits without a sign too.
fn number(text: &str) -> Option<i64> {
    let text = text.strip_prefix('#').unwrap_or(text);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<u64>().ok()?,
    };
    Some(if negative { value.cast_signed().wrapping_neg() } else { value.cast_signed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(arch: Arch, text: &str) -> Option<Place> {
        parse(arch, text).map(|argument| argument.place)
    }

    #[test]
    fn operands_of_x86() {
        let at = |text| place(Arch::X86, text);
        let (rax, rbp) = (80, 32);
        let argument = parse(Arch::X86, "-4@-1204(%rbp)").unwrap();
        assert_eq!((argument.size, argument.signed), (4, true));
        assert_eq!(argument.place, Place::Memory { base: rbp, offset: -1204 });
        assert_eq!(at("8@(%rsp)"), Some(Place::Memory { base: 152, offset: 0 }));
        assert_eq!(at("4@$-9"), Some(Place::Constant(-9)));
        assert_eq!(at("8@$18446744073709551615"), Some(Place::Constant(-1)));
        assert_eq!(at("-1@%sil"), Some(Place::Register(104)));
        assert_eq!(at("1@%ah"), Some(Place::Register(rax + 1)));
        assert_eq!(at("8f@%rax"), Some(Place::Register(rax)));
        assert_eq!(at("8@%r15"), Some(Place::Register(0)));
        assert_eq!(at("8@%rip"), Some(Place::Register(128)));
        let indexed = |shift, offset| Some(Place::Indexed { base: rbp, index: rax, shift, offset });
        assert_eq!(at("1@-96(%rbp,%rax,8)"), indexed(3, -96));
        assert_eq!(at("1@(%rbp,%rax)"), indexed(0, 0));
        for text in ["8@%xmm0", "3@%rax", "8@", "8@(%rbp,%rax,3)", "8@x(%rip)", "@%rax", "8@%", "8@(%rbp,%rax,8,1)"] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn operands_of_arm64() {
        let at = |text| place(Arch::Arm64, text);
        assert_eq!(at("-4@[sp, 96]"), Some(Place::Memory { base: 248, offset: 96 }));
        assert_eq!(at("-4@[x29]"), Some(Place::Memory { base: 232, offset: 0 }));
        assert_eq!(at("8@x4"), Some(Place::Register(32)));
        assert_eq!(at("4@w4"), Some(Place::Register(32)));
        assert_eq!(at("4@5"), Some(Place::Constant(5)));
        assert_eq!(at("8@[x0, x1, lsl 3]"), Some(Place::Indexed { base: 0, index: 8, shift: 3, offset: 0 }));
        for text in ["8@x31", "8@d0", "8@[x0, w1, sxtw 3]", "8@[x0, x1, lsl 3, 4]", "8@x+1"] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn operands_are_split() {
        assert_eq!(split("-4@%esi  8@-24( %rbp , %rax ,8) 2@%ax"), ["-4@%esi", "8@-24( %rbp , %rax ,8)", "2@%ax"]);
        assert_eq!(split("-4@[sp, 12] 8@x0"), ["-4@[sp, 12]", "8@x0"]);
        assert!(split("  ").is_empty());
    }
}
