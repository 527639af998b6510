//! A second opinion: what libbpf does with an object.
//!
//! `oracle instructions [--kernel-btf BTF] DIR OBJECT` writes each program's instructions after relocation into
//! DIR/PROGRAM, one a line: opcode (hex), destination, source, offset, immediate; a reference to a map has `map:NAME`
//! in place of the immediate. With `--kernel-btf` libbpf takes that file for the running kernel's types.
//!
//! A program that libbpf refuses has its reason in DIR/PROGRAM.refused instead. That may be the object's fault and not
//! the program's: libbpf wants every symbol that any program uses, and a kernel that takes the struct_ops maps. So
//! DIR/PROGRAM.lenient has the instructions that come out when neither is asked for.
//!
//! `oracle verdicts OBJECT` loads the object, and then each program alone, and prints the verdicts as
//! `ringfence check -o json` does.

mod elf;
mod libbpf;

use anyhow::{Context, Result, bail};
use libbpf::{Object, ProgramInfo};
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = words.iter().position(|word| word == "--kernel-btf") {
        let btf = PathBuf::from(words.drain(at..=at + 1).nth(1).context("--kernel-btf needs a file")?);
        libbpf::pretend(&btf).with_context(|| format!("{}: mounting it needs root", btf.display()))?;
    }
    libbpf::prepare_process();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["instructions", dir, object] => instructions(Path::new(object), Path::new(dir)),
        ["verdicts", object] => verdicts(Path::new(object)),
        _ => bail!("usage: oracle instructions [--kernel-btf BTF] DIR OBJECT | oracle verdicts OBJECT"),
    }
}

fn instructions(file: &Path, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut object = match Object::open(file) {
        Ok(object) => object,
        Err(failure) => return Ok(fs::write(dir.join("object.refused"), failure.reason)?),
    };
    object.fill_in();
    let programs = object.programs();
    if object.prepare().is_ok() {
        for (index, program) in programs.iter().enumerate().filter(|(_, program)| program.autoload) {
            fs::write(dir.join(&program.name), object.instructions(index))?;
        }
    }
    drop(object);
    // One program that is refused, or is off by default, must not hide the others.
    for (index, program) in programs.iter().enumerate() {
        if dir.join(&program.name).exists() {
            continue;
        }
        let Ok(mut alone) = Object::open(file) else { continue };
        alone.only(index);
        alone.fill_in();
        match alone.prepare() {
            Ok(()) => fs::write(dir.join(&program.name), alone.instructions(index))?,
            Err(failure) => {
                fs::write(dir.join(format!("{}.refused", program.name)), failure.reason)?;
                if let Some(text) = lenient(file, index) {
                    fs::write(dir.join(format!("{}.lenient", program.name)), text)?;
                }
            }
        }
    }
    Ok(())
}

/// A program's instructions when the rest of its object does not matter.
fn lenient(file: &Path, index: usize) -> Option<String> {
    let mut bytes = fs::read(file).ok()?;
    elf::make_externs_weak(&mut bytes)?;
    let name = file.file_name()?.to_string_lossy().split('.').next()?.to_string();
    let mut object = Object::open_bytes(&name, &bytes).ok()?;
    object.only(index);
    object.fill_in();
    object.without_struct_ops();
    object.prepare().ok()?;
    Some(object.instructions(index))
}

/// How a program came out.
struct Verdict {
    program: ProgramInfo,
    ok: bool,
    errno: i32,
    reason: String,
}

fn verdicts(file: &Path) -> Result<()> {
    let mut object = match Object::open(file) {
        Ok(object) => object,
        Err(failure) => {
            let answer = json!({ "object": file, "errno": failure.errno, "reason": failure.reason, "programs": [] });
            println!("{answer}");
            return Ok(());
        }
    };
    let programs = object.programs();
    object.fill_in();
    // Some programs live only together with others: a tail call's target, a subprogram's replacement.
    let whole = object.load().is_ok();
    drop(object);
    let verdict = |(index, program): (usize, ProgramInfo)| match whole && program.autoload {
        true => Verdict { program, ok: true, errno: 0, reason: String::new() },
        false => alone(file, index, program),
    };
    let verdicts: Vec<Verdict> = programs.into_iter().enumerate().map(verdict).collect();
    let mut lines = String::new();
    for verdict in verdicts {
        let program = json!({
            "name": verdict.program.name,
            "section": verdict.program.section,
            "type": verdict.program.kind,
            "verdict": if verdict.ok { "ok" } else { "refused" },
            "errno": if verdict.ok { 0 } else { verdict.errno },
            "reason": if verdict.ok { String::new() } else { verdict.reason },
        });
        write!(lines, "{}{program}", if lines.is_empty() { "" } else { "," })?;
    }
    println!(r#"{{"object":{},"programs":[{lines}]}}"#, json!(file));
    Ok(())
}

fn alone(file: &Path, index: usize, program: ProgramInfo) -> Verdict {
    let mut first = None;
    for fill_in in [false, true] {
        let result = Object::open(file).and_then(|mut object| {
            object.only(index);
            if fill_in && !object.fill_in() {
                return Err(libbpf::Failure { errno: 0, reason: String::new() });
            }
            object.load()
        });
        match result {
            Ok(()) => return Verdict { program, ok: true, errno: 0, reason: String::new() },
            // Nothing to fill in: the first answer stands.
            Err(failure) if failure.errno == 0 => break,
            Err(failure) => first = Some(failure),
        }
    }
    let failure = first.unwrap_or(libbpf::Failure { errno: 0, reason: "no reason".into() });
    Verdict { program, ok: false, errno: failure.errno, reason: failure.reason }
}
