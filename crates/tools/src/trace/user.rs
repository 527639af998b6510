//! Functions and static probes of programs.

use super::dwarf;
use super::raw::REGISTERS;
use super::record::{From, Record};
use super::spec::{Reading, Spec};
use super::target::{Hook, Target, given, value};
use crate::error::Result;

/// Registers that are shown of a function of which nobody says what it takes.
const SHOWN: u8 = 3;
/// Arguments of a static probe that are shown.
const PROBE_ARGUMENTS: u8 = 6;

pub(super) fn function(spec: &Spec, file: &str, function: &str, ret: bool) -> Result<Target> {
    let mut record = Record::new(None);
    let nothing_said = spec.arguments.is_empty() && spec.ret.is_none();
    let told = if nothing_said { dwarf::signature(file, function) } else { None };
    let go = is_go(file);
    let room = if go && !ret { REGISTERS.go } else { REGISTERS.arguments }.len();
    let (first, all) = told.as_ref().map_or((0, &spec.arguments), |told| (told.first, &told.arguments));
    let in_registers = fitting(all, first, room);
    let arguments = match in_registers {
        [] if told.is_none() => arguments(&mut record, &[], if ret { 0 } else { SHOWN }),
        some => given(&mut record, some, first),
    };
    let ret_reading = told.as_ref().map_or(spec.ret, |told| told.ret);
    let name = format!("{}:{file}:{function}", if ret { "uretprobe" } else { "uprobe" });
    let (hook, how) = if ret {
        returned(&mut record, ret_reading);
        record.lasts();
        (Hook::UprobePair { file: file.to_owned(), function: function.to_owned() }, "a uprobe and a uretprobe")
    } else {
        let how = if go { "a uprobe, arguments as Go passes them" } else { "a uprobe" };
        (Hook::Uprobe { file: file.to_owned(), function: function.to_owned(), go }, how)
    };
    let mut target = Target::of(name, how, record, hook, arguments)?;
    if in_registers.len() < all.len() {
        target.notes.push(format!(
            "{} of {} arguments are in registers and can be read",
            in_registers.len(),
            all.len()
        ));
    }
    if let Some(told) = &told {
        target.notes.push(format!("as its debug information says: {}", written(function, told, ret)));
    }
    Ok(target)
}

/// The first arguments, as far as registers go.
fn fitting(arguments: &[(String, Reading)], first: u8, room: usize) -> &[(String, Reading)] {
    let mut next = usize::from(first);
    let fits = arguments.iter().take_while(|(_, reading)| {
        next = next.saturating_add(reading.registers().into());
        next <= room
    });
    arguments.get(..fits.count()).unwrap_or_default()
}

/// As a user would write it.
fn written(function: &str, told: &dwarf::Signature, ret: bool) -> String {
    let arguments: Vec<String> =
        told.arguments.iter().map(|(name, reading)| format!("{name}:{}", reading.name())).collect();
    let gives = told.ret.filter(|_| ret).map(|reading| format!("={}", reading.name())).unwrap_or_default();
    format!("{function}({}){gives}", arguments.join(","))
}

pub(super) fn usdt(spec: &Spec, file: &str, provider: &str, name: &str) -> Result<Target> {
    let mut record = Record::new(None);
    let arguments = arguments(&mut record, &spec.arguments, PROBE_ARGUMENTS);
    let hook = Hook::Usdt { file: file.to_owned(), provider: provider.to_owned(), name: name.to_owned() };
    Target::of(format!("usdt:{file}:{provider}:{name}"), "a static probe", record, hook, arguments)
}

/// What is said, or so many numbers as they are.
pub(super) fn arguments(record: &mut Record, said: &[(String, Reading)], otherwise: u8) -> u8 {
    if !said.is_empty() {
        return given(record, said, 0);
    }
    for n in 0..otherwise {
        value(record, &format!("arg{n}"), Reading::Pointer, From::Argument(n), n);
    }
    otherwise
}

/// What a function gave: a number that stands in every record, or what it leads to.
pub(super) fn returned(record: &mut Record, reading: Option<Reading>) {
    match reading {
        Some(reading @ (Reading::Text(_) | Reading::Sized(_))) => value(record, "returned", reading, From::Return, 0),
        Some(Reading::Pointer) => {
            let ty = record.pointer();
            record.returns(ty);
        }
        Some(Reading::Bool) => {
            let ty = record.boolean();
            record.returns(ty);
        }
        Some(Reading::Number { bytes, signed }) => {
            let ty = record.number(bytes, signed);
            record.returns(ty);
        }
        None => {
            let ty = record.number(8, true);
            record.returns(ty);
        }
    }
}

/// Whether a program was made by Go, whose functions take their arguments in registers of their own.
fn is_go(file: &str) -> bool {
    let Ok(bytes) = std::fs::read(file) else { return false };
    // The section's name, in the table of names.
    bytes.windows(13).any(|window| window == b".go.buildinfo")
}
