//! Kernel functions by a pattern: each by itself, with its own arguments, while they are few; else all of them by one program.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use ringfence::Kernel;
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
    let Matching { names, twice } = matching(spec, pattern, kernel)?;
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

fn matching(spec: &Spec, pattern: &str, kernel: &Kernel) -> Result<Matching> {
    let fail = |why: String| Error::Spec { spec: spec.text.clone(), why };
    let (module, pattern) = match pattern.split_once(':') {
        Some((module, pattern)) => (Some(module).filter(|module| *module != "vmlinux"), pattern),
        None => (None, pattern),
    };
    let list = Path::new(kernel.tracefs().map_err(|error| fail(error.to_string()))?).join("available_filter_functions");
    let text = fs::read_to_string(&list).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            Error::MayNotRead { path: list.clone(), how: "root, or CAP_DAC_READ_SEARCH".into() }
        }
        ErrorKind::NotFound => {
            fail("this kernel does not list the functions that can be traced (CONFIG_DYNAMIC_FTRACE); name each".into())
        }
        _ => fail(format!("{}: {error}", list.display())),
    })?;
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut names: Vec<&str> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        let of = words.next().and_then(|word| word.strip_prefix('[')?.strip_suffix(']'));
        let fits = module.is_none_or(|module| of == Some(module)) && matches(pattern, name);
        // `.cold` parts and clones are no functions of the source, and places of discarded code are none at all.
        if fits && !name.contains('.') && !name.starts_with("__ftrace_invalid_address__") {
            let count = counts.entry(name).or_default();
            *count += 1;
            if *count == 1 {
                names.push(name);
            }
        }
    }
    let alone = |name: &&str| counts.get(name) == Some(&1);
    let twice = names.iter().filter(|name| !alone(name)).count();
    Ok(Matching { names: names.into_iter().filter(alone).map(str::to_owned).collect(), twice })
}
