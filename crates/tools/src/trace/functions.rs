//! Kernel functions by a pattern: each by itself, with its own arguments, while they are few; else all of them by one program.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use ringfence::Kernel;
use ringfence_btf::Def;
use ringfence_kernel::Feature;

use super::record::{INDEX, Record};
use super::spec::Spec;
use super::target::{Hook, Target, matches};
use super::{Options, function, user};
use crate::error::{Error, Result};

/// Functions that are watched each by itself, where the kernel has links to many and where it has not: an object is loaded for each.
const MOST_ALONE: usize = 16;
const MOST_WITHOUT_MULTI: usize = 64;
/// Functions that one link watches here: the kernel would take more, and then do little else.
const MOST_TOGETHER: usize = 2048;
/// Registers that are shown of each.
const REGISTERS: u8 = 3;
/// Names that an error shows.
const SHOWN: usize = 5;

/// The places that a pattern stands for.
pub(super) fn targets(
    spec: &Spec,
    pattern: &str,
    ret: bool,
    trampoline: bool,
    options: &Options,
    kernel: &Kernel,
) -> Result<Vec<Target>> {
    let fail = |why: String| Error::Spec { spec: spec.text.clone(), why };
    let Matching { names, twice } = matching(pattern, kernel);
    if names.is_empty() {
        let twice = if twice > 0 { " of a name that no other has" } else { "" };
        return Err(fail(format!("this kernel has no such functions{twice} that can be traced")));
    }
    let multi = !trampoline && kernel.has(Feature::KprobeMulti);
    let alone = if multi { MOST_ALONE } else { MOST_WITHOUT_MULTI };
    let mut targets = if names.len() <= alone {
        let each = |name: &String| function::target(spec, name, ret, trampoline, options, kernel);
        names.iter().map(each).collect::<Result<Vec<_>>>()?
    } else if !multi {
        let some = names.get(..SHOWN).unwrap_or_default().join(", ");
        let why = match trampoline {
            true => "trampolines are made one by one; kprobe: takes more",
            false => "this kernel watches functions one by one (many at once: Linux 5.18 with CONFIG_FPROBE)",
        };
        return Err(fail(format!("{} functions fit ({some}, ...), and {alone} can be watched: {why}", names.len())));
    } else if names.len() > MOST_TOGETHER {
        let why = format!("{} functions fit, and {MOST_TOGETHER} can be watched; give a narrower pattern", names.len());
        return Err(fail(why));
    } else {
        vec![together(spec, pattern, names, ret)?]
    };
    if let Some(first) = targets.first_mut().filter(|_| twice > 0) {
        first.notes.push(format!("{twice} names that fit are left out: several functions have each of them"));
    }
    Ok(targets)
}

/// All of them as one place.
fn together(spec: &Spec, pattern: &str, functions: Vec<String>, ret: bool) -> Result<Target> {
    let mut record = Record::new(None);
    let names: Vec<(i64, String)> = (0..).zip(functions.iter().cloned()).collect();
    let ty = record.names(4, false, &names);
    record.show("function", ty, INDEX);
    let arguments = user::arguments(&mut record, &spec.arguments, REGISTERS);
    if ret {
        user::returned(&mut record, spec.ret);
        record.lasts();
    }
    let note = format!("{} functions, too many for types: arguments are shown as they are", functions.len());
    let (kind, how, hook) = match ret {
        false => ("kprobe", "one link to all functions (kprobe.multi)", Hook::Functions { functions }),
        true => ("kretprobe", "two links to all functions (kprobe.multi)", Hook::FunctionPairs { functions }),
    };
    let mut target = Target::of(format!("{kind}:{pattern}"), how, record, hook, arguments)?;
    target.notes.push(note);
    Ok(target)
}

/// Functions that a pattern names, and how many names were left out because several functions have them.
struct Matching {
    names: Vec<String>,
    twice: usize,
}

fn matching(pattern: &str, kernel: &Kernel) -> Matching {
    let (module, pattern) = match pattern.split_once(':') {
        Some((module, pattern)) => (Some(module).filter(|module| *module != "vmlinux"), pattern),
        None => (None, pattern),
    };
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        // `.cold` parts and clones are no functions of the source, and places of discarded code are none at all.
        if matches(pattern, name) && !name.contains('.') && !name.starts_with("__ftrace_invalid_address__") {
            let count = counts.entry(name.to_owned()).or_default();
            *count += 1;
            if *count == 1 {
                names.push(name.to_owned());
            }
        }
    };
    let list = kernel.tracefs().ok().and_then(|tracefs| {
        // Functions that can be traced, each with its module.
        fs::read_to_string(Path::new(tracefs).join("available_filter_functions")).ok()
    });
    match (list, kernel.btf()) {
        (Some(text), _) => text.lines().for_each(|line| {
            let mut words = line.split_ascii_whitespace();
            let Some(name) = words.next() else { return };
            let of = words.next().and_then(|word| word.strip_prefix('[')?.strip_suffix(']'));
            if module.is_none_or(|module| of == Some(module)) {
                add(name);
            }
        }),
        // Where that may not be read: all that the kernel's types describe.
        (None, Ok(Some(btf))) if module.is_none() => {
            btf.own_types().flatten().filter(|ty| matches!(ty.def, Def::Func { .. })).for_each(|ty| add(ty.name));
        }
        (None, _) => {}
    }
    let alone = |name: &String| counts.get(name) == Some(&1);
    let all = names.len();
    names.retain(alone);
    Matching { twice: all - names.len(), names }
}
