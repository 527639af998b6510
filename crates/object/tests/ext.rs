//! `.BTF.ext` as newer compilers may write it: longer records, more kinds, fewer parts.

mod common;

use common::{Headers, compile, function};
use ringfence_object::Object;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// Puts another `.BTF.ext` into an object, behind its end.
fn with_ext(object: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let headers = Headers::of(object);
    let at = headers.list.iter().find(|at| headers.named(object, **at, b".BTF.ext\0"));
    let at = *at.expect("it has a .BTF.ext section");
    let long = |at: usize| u64::from_le_bytes(object[at..at + 8].try_into().expect("8 bytes")) as usize;
    let (start, size) = (long(at + 24), long(at + 32));
    let new = change(&object[start..start + size]);
    let mut changed = object.to_vec();
    changed[at + 24..at + 32].copy_from_slice(&(object.len() as u64).to_le_bytes());
    changed[at + 32..at + 40].copy_from_slice(&(new.len() as u64).to_le_bytes());
    changed.extend(new);
    changed
}

/// Each record longer by these bytes.
fn longer(ext: &[u8], by: usize) -> Vec<u8> {
    let header = word(ext, 4) as usize;
    let mut new = ext[..header].to_vec();
    for part in 0..3 {
        let at = 8 + part * 8;
        let (start, len) = (header + word(ext, at) as usize, word(ext, at + 4) as usize);
        let old = &ext[start..start + len];
        let size = word(old, 0) as usize;
        let offset = new.len() - header;
        new.extend(((size + by) as u32).to_le_bytes());
        let mut at_section = 4;
        while at_section < old.len() {
            let count = word(old, at_section + 4) as usize;
            new.extend(&old[at_section..at_section + 8]);
            for record in old[at_section + 8..at_section + 8 + count * size].chunks(size) {
                new.extend(record);
                new.extend(vec![0xee; by]);
            }
            at_section += 8 + count * size;
        }
        let len = new.len() - header - offset;
        new[at..at + 4].copy_from_slice(&(offset as u32).to_le_bytes());
        new[at + 4..at + 8].copy_from_slice(&(len as u32).to_le_bytes());
    }
    new
}

#[test]
fn longer_records_read_the_same() {
    let Some(bytes) = compile("core.c", &[]) else { return };
    let object = Object::parse("core.o", &bytes).expect("it is sound");
    let longer = Object::parse("core.o", &with_ext(&bytes, |ext| longer(ext, 8))).expect("it is sound");
    for (longer, function) in longer.functions.iter().zip(&object.functions) {
        assert!(!function.lines.is_empty() && !function.core.is_empty() && function.btf.is_some());
        assert_eq!(longer.lines, function.lines);
        assert_eq!(longer.core, function.core);
        assert_eq!(longer.btf, function.btf);
    }
}

#[test]
fn an_older_header_has_no_core_relocations() {
    let Some(bytes) = compile("core.c", &[]) else { return };
    let older = with_ext(&bytes, |ext| {
        let header = word(ext, 4) as usize;
        let mut new = ext[..24].to_vec();
        new[4..8].copy_from_slice(&24u32.to_le_bytes());
        new.extend(&ext[header..]);
        new
    });
    let object = Object::parse("core.o", &older).expect("it is sound");
    assert!(object.functions.iter().all(|f| f.core.is_empty() && !f.lines.is_empty() && f.btf.is_some()));
}

#[test]
fn an_unknown_core_kind_is_its_functions_problem() {
    let Some(bytes) = compile("core.c", &[]) else { return };
    let changed = with_ext(&bytes, |ext| {
        let mut new = ext.to_vec();
        // The first record of the first section: .text, where `sub` is.
        let record = word(ext, 4) as usize + word(ext, 24) as usize + 4 + 8;
        assert_eq!(word(ext, record + 12), 2);
        new[record + 12] = 77;
        new
    });
    let object = Object::parse("core.o", &changed).expect("the rest of it is sound");
    let problem = function(&object, "sub").problem.as_ref().expect("it cannot be loaded").to_string();
    assert!(problem.contains("function sub") && problem.contains("kind 77"), "{problem}");
    assert_eq!(function(&object, "kinds").problem, None);
}

#[test]
fn damage_is_an_error_of_the_object() {
    let Some(bytes) = compile("core.c", &[]) else { return };
    type Change = fn(&[u8]) -> Vec<u8>;
    let changes: [(&str, Change); 4] = [
        ("cut off", |ext| ext[..7].to_vec()),
        ("outside", |ext| ext[..ext.len() - 4].to_vec()),
        ("version", |ext| [&[0x9f, 0xeb, 9], &ext[3..]].concat()),
        ("records of 4 bytes", |ext| {
            let mut new = ext.to_vec();
            let header = word(ext, 4) as usize;
            new[header..header + 4].copy_from_slice(&4u32.to_le_bytes());
            new
        }),
    ];
    for (cause, change) in changes {
        let error = Object::parse("core.o", &with_ext(&bytes, change)).expect_err("it is damaged").to_string();
        assert!(error.contains(".BTF.ext") && error.contains(cause), "{error}");
    }
}

#[test]
fn a_missing_section_is_noticed() {
    let Some(bytes) = compile("core.c", &[]) else { return };
    let headers = Headers::of(&bytes);
    let at = headers.list.iter().find(|at| headers.named(&bytes, **at, b".BTF.ext\0"));
    let mut without = bytes.clone();
    let at = *at.expect("it has a .BTF.ext section") + 4;
    without[at..at + 4].copy_from_slice(&0u32.to_le_bytes());
    let object = Object::parse("core.o", &without).expect("the rest of it is sound");
    assert!(object.notices.iter().any(|n| n.contains(".BTF.ext") && n.contains("-g")), "{:?}", object.notices);
    assert!(object.functions.iter().all(|f| f.btf.is_none() && f.problem.is_none()));
}
