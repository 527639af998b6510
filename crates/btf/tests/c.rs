//! C as a compiler understands it: sizes and offsets equal those of BTF.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects, missing_docs)]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{kernels, read};
use ringfence_btf::{Btf, Def, Kind, TypeId, essential_name};

/// Gives this C to clang; `None` when there is no clang.
fn compile(source: &str) -> Option<Result<(), String>> {
    let mut child = Command::new("clang-19")
        .args(["-target", "bpf", "-fsyntax-only", "-std=gnu17", "-ferror-limit=20", "-w", "-x", "c", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .inspect_err(|error| eprintln!("skipped: clang-19: {error}"))
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let source = source.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(source.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(if output.status.success() { Ok(()) } else { Err(errors) })
}

/// The named structs and unions whose name is theirs alone.
fn composites(btf: &Btf) -> Vec<TypeId> {
    let named = btf.own_types().map(Result::unwrap).filter(|ty| {
        let tag = |kind| matches!(kind, Kind::Struct | Kind::Union | Kind::Fwd | Kind::Enum | Kind::Enum64);
        matches!(ty.def, Def::Struct(_) | Def::Union(_))
            && !ty.name.is_empty()
            && ty.name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
            && btf
                .candidates(essential_name(ty.name))
                .iter()
                .filter(|id| tag(btf.get(**id).unwrap().def.kind()))
                .count()
                == 1
    });
    named.map(|ty| ty.id).collect()
}

fn assertions(btf: &Btf, ids: &[TypeId]) -> (String, usize) {
    let (mut text, mut offsets) = (String::new(), 0);
    for id in ids {
        let ty = btf.get(*id).unwrap();
        let (word, body) = match ty.def {
            Def::Struct(body) => ("struct", body),
            Def::Union(body) => ("union", body),
            _ => unreachable!(),
        };
        let name = format!("{word} {}", ty.name);
        text += &format!("_Static_assert(sizeof({name}) == {}, \"\");\n", body.size);
        for member in body.members().map(Result::unwrap) {
            if member.bit_size == 0 && !member.name.is_empty() {
                let offset = member.bit_offset / 8;
                text += &format!("_Static_assert(__builtin_offsetof({name}, {}) == {offset}, \"\");\n", member.name);
                offsets += 1;
            }
        }
    }
    (text, offsets)
}

#[test]
fn kernel_structs_have_the_same_layout_to_clang() {
    for path in kernels() {
        let btf = read(&path);
        // All of the running kernel, and of the others as many as the compiler takes in a second.
        let step = if path.starts_with("/sys") { 1 } else { 10 };
        let ids: Vec<TypeId> = composites(&btf).into_iter().step_by(step).collect();
        let (asserted, offsets) = assertions(&btf, &ids);
        assert!(ids.len() * step > 5000 && offsets * step > 30_000, "{} structs, {offsets} members", ids.len());
        let header = btf.c_header(&ids);
        if let Some(Err(errors)) = compile(&format!("{header}{asserted}")) {
            panic!("{}: {errors}", path.display());
        }
    }
}
