//! Functions and static probes of programs.

use super::record::{From, Record};
use super::spec::{Reading, Spec};
use super::target::{Hook, Target, given, value};
use crate::error::Result;

/// Registers that are shown of a function of which nobody says what it takes.
const REGISTERS: u8 = 3;
/// Arguments of a static probe that are shown.
const PROBE_ARGUMENTS: u8 = 6;

pub(super) fn function(spec: &Spec, file: &str, function: &str, ret: bool) -> Result<Target> {
    let mut record = Record::new(None);
    let arguments = arguments(&mut record, &spec.arguments, if ret { 0 } else { REGISTERS });
    let name = format!("{}:{file}:{function}", if ret { "uretprobe" } else { "uprobe" });
    let go = is_go(file);
    if !ret {
        let hook = Hook::Uprobe { file: file.to_owned(), function: function.to_owned(), go };
        return Target::of(
            name,
            if go { "a uprobe, arguments as Go passes them" } else { "a uprobe" },
            record,
            hook,
            arguments,
        );
    }
    returned(&mut record, spec.ret);
    record.lasts();
    let hook = Hook::UprobePair { file: file.to_owned(), function: function.to_owned() };
    Target::of(name, "a uprobe and a uretprobe", record, hook, arguments)
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
        return given(record, said);
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
