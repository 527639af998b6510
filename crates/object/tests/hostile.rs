//! Damaged and foreign files: a clear error each, no panic, bounded time and memory.

mod common;

use std::time::Duration;

use common::{Headers, check_indexes, compile};
use ringfence_object::{Error, Object};
use ringfence_testing::all_objects;

fn error(bytes: &[u8]) -> Error {
    Object::parse("some.o", bytes).expect_err("it is refused")
}

#[test]
fn foreign_files_are_named_with_what_to_do() {
    let elf = |class: u8, order: u8, kind: u16, machine: u16| {
        let mut bytes = vec![0; 64];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order, 1]);
        bytes[16..18].copy_from_slice(&kind.to_le_bytes());
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes
    };
    let cases: &[(&[u8], &str, &str)] = &[
        (b"", "is empty", "clang -target bpf -O2 -g -c"),
        (b"int main(void) { return 0; }\n", "is text", "clang -target bpf -O2 -g -c"),
        (b"\x00\x01\x02\x03", "is no ELF file", "clang"),
        (b"BC\xc0\xde....", "LLVM bitcode", "-emit-llvm"),
        (b"!<arch>\n", "an archive", "ar x"),
        (b"\x9f\xeb\x01\x00....", "raw BTF", "object"),
        (b"\x1f\x8b\x08\x00", "compressed", "gunzip"),
        (b"\x7fELF", "ends inside the ELF header", "clang"),
        (&elf(1, 1, 1, 247), "32-bit", "clang"),
        (&elf(2, 9, 1, 247), "byte order", "clang"),
        (&elf(2, 1, 1, 62), "an object for x86-64", "clang -target bpf"),
        (&elf(2, 1, 3, 183), "a shared library or executable for arm64", "clang -target bpf"),
        (&elf(2, 1, 2, 247), "an executable for BPF", "bpftool gen object"),
        (&elf(2, 1, 1, 247), "damaged or cut off", "clang"),
    ];
    for (bytes, what, advice) in cases {
        let text = error(bytes).to_string();
        assert!(text.contains("some.o") && text.contains(what) && text.contains(advice), "{text}");
    }
    let own = std::fs::read(std::env::current_exe().expect("this is a program")).expect("it can be read");
    assert!(matches!(error(&own), Error::NotAnObject { .. }));
}

#[test]
fn an_object_without_symbols_is_said_to_be_stripped() {
    let Some(mut bytes) = compile("relocs.c", &[]) else { return };
    let mut headers = Headers::of(&bytes);
    let symbols = headers.list.iter().position(|at| headers.kind(&bytes, *at) == 2).expect("it has symbols");
    let at = headers.list.swap_remove(symbols);
    bytes[at + 4..at + 8].copy_from_slice(&3u32.to_le_bytes());
    assert!(error(&bytes).to_string().contains("stripped"), "{}", error(&bytes));
}

#[test]
fn every_truncation_is_an_error_or_an_object() {
    let Some(bytes) = compile("maps.c", &[]) else { return };
    for len in 0..bytes.len() {
        if let Err(error) = Object::parse("some.o", &bytes[..len]) {
            assert!(error.to_string().contains("some.o"), "{error}");
        } else {
            panic!("{len} of {} bytes pass for the whole", bytes.len());
        }
    }
}

/// Ever more zeros, names and sections from ever the same bytes must not cost more and more.
#[test]
fn sections_that_share_bytes_cost_no_more_than_the_file() {
    let Some(bytes) = compile("relocs.c", &[]) else { return };
    let headers = Headers::of(&bytes);
    let mut big = bytes.clone();
    let data = headers.list.iter().find(|at| headers.named(&bytes, **at, b".data.custom\0"));
    let data = *data.expect("it has a custom section");
    // The section as large as the file, four thousand times.
    let mut header = bytes[data..data + 64].to_vec();
    header[24..32].copy_from_slice(&0u64.to_le_bytes());
    header[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    let table = bytes[headers.start..headers.start + 64 * headers.list.len()].to_vec();
    let start = big.len() as u64;
    big.extend(&table);
    for _ in 0..60_000 - headers.list.len() {
        big.extend(&header);
    }
    big[40..48].copy_from_slice(&start.to_le_bytes());
    big[60..62].copy_from_slice(&60_000u16.to_le_bytes());
    let text = error(&big).to_string();
    assert!(text.contains("overlap"), "{text}");

    let mut zeros = bytes.clone();
    let bss = headers.list.iter().find(|at| headers.named(&bytes, **at, b".bss.custom\0"));
    let bss = *bss.expect("it has zeros");
    for size in [1u64 << 30, 1 << 40, u64::MAX] {
        zeros[bss + 32..bss + 40].copy_from_slice(&size.to_le_bytes());
        let text = error(&zeros).to_string();
        assert!(text.contains("section .bss.custom") && text.contains("limit"), "{text}");
    }
}

/// xorshift64: the same mutations each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    fn word(&mut self) -> u64 {
        const ODD: [u64; 10] = [0, 1, 7, 8, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX];
        match self.below(3) {
            0 => ODD[self.below(ODD.len())],
            1 => self.below(1 << 20) as u64,
            _ => self.0,
        }
    }
}

/// Changes a sound object; says how.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) -> &'static str {
    let headers = Headers::of(bytes);
    match random.below(6) {
        0 => {
            for _ in 0..=random.below(16) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            "bits"
        }
        1 => {
            bytes.truncate(random.below(bytes.len()));
            "truncated"
        }
        2 => {
            let at = headers.list[random.below(headers.list.len())];
            let field = at + [0, 4, 8, 24, 32, 40, 44, 56][random.below(8)];
            let width = if [24, 32, 8, 56].contains(&(field - at)) { 8 } else { 4 };
            let value = random.word().to_le_bytes();
            bytes[field..field + width].copy_from_slice(&value[..width]);
            "section header"
        }
        // A part that is read record by record: symbols, relocations, types, lines.
        3 | 4 => {
            let at = headers.list[random.below(headers.list.len())];
            let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
            let (start, size) = (word(at + 24), word(at + 32));
            if headers.kind(bytes, at) != 8 && size >= 16 {
                for _ in 0..=random.below(4) {
                    let at = start + random.below(size / 4) * 4;
                    let value = random.word().to_le_bytes();
                    bytes[at..at + 4].copy_from_slice(&value[..4]);
                }
            }
            "section contents"
        }
        _ => {
            let (from, to, len) = (random.below(bytes.len()), random.below(bytes.len()), random.below(256));
            let len = len.min(bytes.len() - from).min(bytes.len() - to);
            bytes.copy_within(from..from + len, to);
            "moved"
        }
    }
}

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel counts it");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") * 1024
}

#[test]
fn five_thousand_mutations_do_no_harm() {
    const ROUNDS: usize = 5_000;
    let mut sources: Vec<Vec<u8>> = ["relocs.c", "maps.c", "externs.c", "struct_ops.c", "core.c", "legacy.c"]
        .into_iter()
        .filter_map(|source| compile(source, &[]))
        .collect();
    let real = all_objects();
    sources.extend(real.iter().step_by(real.len() / 200 + 1).map(|path| std::fs::read(path).expect("it can be read")));
    sources.retain(|bytes| bytes.len() < 2 << 20);
    if sources.is_empty() {
        return;
    }
    let before = peak();
    let (mut random, mut refused, mut slowest) = (Random(0x5eed_0b9f), 0, (Duration::ZERO, 0));
    for round in 0..ROUNDS {
        let mut bytes = sources[random.below(sources.len())].clone();
        let mut how = vec![mutate(&mut bytes, &mut random)];
        while random.below(3) == 0 && how.last() != Some(&"truncated") && intact(&bytes) {
            how.push(mutate(&mut bytes, &mut random));
        }
        let started = ringfence_testing::worked();
        let result = std::panic::catch_unwind(|| Object::parse("some.o", &bytes));
        let took = ringfence_testing::worked() - started;
        slowest = slowest.max((took, round));
        assert!(took < Duration::from_secs(1), "round {round} ({how:?}) took {took:?}");
        match result {
            Ok(Ok(object)) => check_indexes(&object),
            Ok(Err(error)) => {
                assert!(error.to_string().contains("some.o"), "round {round} ({how:?}): {error}");
                refused += 1;
            }
            Err(_) => panic!("round {round} ({how:?}) panicked"),
        }
    }
    let grown = peak() - before;
    println!("{refused} of {ROUNDS} refused; slowest {slowest:?}; {grown} bytes more than before");
    assert!(refused > ROUNDS / 10, "the mutations hardly change anything");
    assert!(grown < 100 << 20, "{grown} bytes");
}

/// Whether the section headers are still where [`Headers`] looks for them.
fn intact(bytes: &[u8]) -> bool {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let half = |at: usize| u64::from(u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes")));
    let len = bytes.len() as u64;
    let inside = |start: u64, size: u64| start.checked_add(size).is_some_and(|end| end <= len);
    if !(len >= 64 && inside(word(40), half(60) * 64) && half(62) < half(60)) {
        return false;
    }
    (0..half(60)).all(|n| {
        let at = (word(40) + n * 64) as usize;
        inside(word(at + 24), word(at + 32)) || u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("4")) == 8
    })
}
