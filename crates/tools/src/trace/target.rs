//! From what is written to what is loaded: places, and for each the record that its events are.

use std::fs;
use std::path::Path;

use ringfence::Kernel;
use ringfence_btf::{Btf, TypeId};

use super::format::{self, Field, Where};
use super::function;
use super::record::{Done, From, LIST, Read, Record};
use super::spec::{By, Place, Reading, Spec, TEXT};
use super::{Options, functions, user};
use crate::error::{Error, Result};

/// Places that one run watches.
const MOST_TARGETS: usize = 256;
/// Bytes of an array whose length is said elsewhere.
const ARRAY: u32 = 64;

/// A place that is watched, and what its events are.
#[derive(Clone, Debug)]
pub struct Target {
    /// As it is named: `sched:sched_switch`.
    pub name: String,
    /// By what it is watched.
    pub how: &'static str,
    /// What the user should know of it.
    pub notes: Vec<String>,
    /// Where the type of its events is.
    pub types: Btf,
    /// The type: a struct that begins with `ts_ns`, `pid`, `tid`, `uid`, `cpu`, `comm`.
    pub ty: TypeId,
    /// The names of its own fields.
    pub fields: Vec<String>,
    pub(super) done: Done,
    pub(super) hook: Hook,
    /// Registers or arguments that are looked at.
    pub(super) arguments: u8,
    /// Its program may wait for memory.
    pub(super) sleeps: bool,
}

/// What is attached where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Hook {
    Tracepoint {
        category: String,
        name: String,
    },
    /// Both ends of a system call.
    Syscall {
        name: String,
    },
    /// The start of a system call that does not come back.
    SyscallStart {
        name: String,
    },
    Kprobe {
        function: String,
    },
    /// Both ends of a kernel function.
    KprobePair {
        function: String,
    },
    /// Several kernel functions by one program; the order numbers them.
    Functions {
        functions: Vec<String>,
    },
    /// Both ends of several.
    FunctionPairs {
        functions: Vec<String>,
    },
    Fentry {
        function: String,
    },
    Fexit {
        function: String,
    },
    Uprobe {
        file: String,
        function: String,
        go: bool,
    },
    UprobePair {
        file: String,
        function: String,
    },
    Usdt {
        file: String,
        provider: String,
        name: String,
    },
}

impl Target {
    pub(super) fn of(name: String, how: &'static str, record: Record, hook: Hook, arguments: u8) -> Result<Target> {
        let fields = record.fields();
        let mut notes = Vec::new();
        if !record.left_out.is_empty() {
            notes.push(format!("there is no room for {}", record.left_out.join(", ")));
        }
        let done = record.done().map_err(|error| Error::Spec { spec: name.clone(), why: error.to_string() })?;
        let in_user = matches!(hook, Hook::Uprobe { .. } | Hook::UprobePair { .. } | Hook::Usdt { .. });
        // Only text is likely to lie where nobody has read it before.
        let sleeps = in_user && done.steps.iter().any(|step| step.kind > 0);
        Ok(Target { name, how, notes, types: done.types.clone(), ty: done.ty, fields, done, hook, arguments, sleeps })
    }

    /// Whether it has a beginning and an end.
    fn lasts(&self) -> bool {
        match self.hook {
            Hook::Syscall { .. } | Hook::KprobePair { .. } | Hook::FunctionPairs { .. } | Hook::UprobePair { .. } => {
                true
            }
            Hook::Tracepoint { .. }
            | Hook::SyscallStart { .. }
            | Hook::Kprobe { .. }
            | Hook::Functions { .. }
            | Hook::Fentry { .. }
            | Hook::Fexit { .. }
            | Hook::Uprobe { .. }
            | Hook::Usdt { .. } => false,
        }
    }

    /// In another way, where the kernel refuses this one.
    pub(super) fn otherwise(&self) -> Option<Target> {
        let mut other = self.clone();
        if self.sleeps {
            other.sleeps = false;
            return Some(other);
        }
        let asked = ["fentry:", "fexit:"].iter().any(|kind| self.name.starts_with(kind));
        (other.hook, other.how) = match &self.hook {
            Hook::Fentry { function } if !asked => (Hook::Kprobe { function: function.clone() }, "a kprobe"),
            Hook::Fexit { function } if !asked => {
                (Hook::KprobePair { function: function.clone() }, "a kprobe and a kretprobe")
            }
            _ => return None,
        };
        other.notes.push(format!("{} is cheaper, but the kernel refuses it here", self.how));
        Some(other)
    }
}

/// The places of all that is written.
pub(super) fn all(options: &Options, kernel: &Kernel) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    for spec in &options.specs {
        let mut found = of(spec, options, kernel)?;
        if options.histogram {
            found.retain(Target::lasts);
            if found.is_empty() {
                let why =
                    "this happens at one moment, and takes no time: durations are those of system calls and functions";
                return Err(Error::Spec { spec: spec.text.clone(), why: why.into() });
            }
        }
        for target in found {
            if !targets.iter().any(|other| other.hook == target.hook) {
                targets.push(target);
            }
            if targets.len() > MOST_TARGETS {
                let why = format!("these are more than {MOST_TARGETS} places; say which ones");
                return Err(Error::Spec { spec: spec.text.clone(), why });
            }
        }
    }
    function::all_asked_for(options, &targets)?;
    Ok(targets)
}

fn of(spec: &Spec, options: &Options, kernel: &Kernel) -> Result<Vec<Target>> {
    let fail = |why: String| Error::Spec { spec: spec.text.clone(), why };
    let types = || kernel.btf().ok().flatten();
    match &spec.place {
        Place::Syscall { name } => {
            let tracefs = kernel.tracefs().map_err(|error| fail(error.to_string()))?;
            let names = names(spec, tracefs, "syscalls", &format!("sys_enter_{name}"))?;
            names
                .iter()
                .map(|full| {
                    let fields = format::read(tracefs, "syscalls", full).map_err(|error| fail(error.to_string()))?;
                    syscall(full.strip_prefix("sys_enter_").unwrap_or(full), &fields, types())
                })
                .collect()
        }
        Place::Tracepoint { category, name } => {
            let tracefs = kernel.tracefs().map_err(|error| fail(error.to_string()))?;
            let names = names(spec, tracefs, category, name)?;
            names
                .iter()
                .map(|name| {
                    let fields = format::read(tracefs, category, name).map_err(|error| fail(error.to_string()))?;
                    tracepoint(category, name, &fields, types())
                })
                .collect()
        }
        Place::Function { name, ret, by } => {
            let (ret, trampoline) = (*ret || options.histogram, *by == By::Trampoline);
            if name.contains('*') {
                return functions::targets(spec, name, ret, trampoline, options, kernel);
            }
            function::target(spec, name, ret, trampoline, options, kernel).map(|target| vec![target])
        }
        Place::User { file, function, ret } => {
            user::function(spec, file, function, *ret || options.histogram).map(|target| vec![target])
        }
        Place::Usdt { file, provider, name } => user::usdt(spec, file, provider, name).map(|target| vec![target]),
    }
}

/// Tracepoints of a category that a pattern names.
fn names(spec: &Spec, tracefs: &str, category: &str, pattern: &str) -> Result<Vec<String>> {
    let fail = |why: String| Error::Spec { spec: spec.text.clone(), why };
    let list = |dir: &Path| -> std::io::Result<Vec<String>> {
        let mut names: Vec<String> = fs::read_dir(dir)?
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        Ok(names)
    };
    let events = Path::new(tracefs).join("events");
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Error::MayNotRead { path: events.clone(), how: format!("`mount -o remount,mode=755 {tracefs}`") }
        }
        _ => fail(format!("{}: {error}", events.display())),
    };
    let all = match list(&events.join(category)) {
        Ok(all) => all,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let categories = list(&events).map_err(unreadable)?;
            let near = ringfence_plan::near::nearest(category, categories.iter().map(String::as_str));
            let near = if near.is_empty() { String::new() } else { format!("; there is {}", near.join(", ")) };
            return Err(fail(format!("this kernel has no tracepoints of the category `{category}`{near}")));
        }
        Err(error) => return Err(unreadable(error)),
    };
    let found: Vec<String> = all.iter().filter(|name| matches(pattern, name)).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    // Of system calls both ends have the name.
    let start = "sys_enter_";
    let calls = pattern.starts_with(start);
    let short = |name: &str| if calls { name.strip_prefix(start).unwrap_or(name).to_owned() } else { name.to_owned() };
    let known: Vec<String> =
        all.iter().filter(|name| !calls || name.starts_with(start)).map(|name| short(name)).collect();
    let near = ringfence_plan::near::nearest(&short(pattern), known.iter().map(String::as_str));
    let near: Vec<String> = near.iter().map(|name| format!("{category}:{name}")).collect();
    let near = if near.is_empty() { String::new() } else { format!("; it has {}", near.join(", ")) };
    Err(fail(format!("this kernel has no such tracepoint{near}")))
}

/// `*` stands for anything.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = pattern.contains('*').then(|| pattern.rsplit('*').next().unwrap_or_default()) else {
        return rest.is_empty();
    };
    let middle: Vec<&str> = parts.collect();
    for part in middle.iter().take(middle.len().saturating_sub(1)) {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Calls that end the program that makes them: they are shown as they begin.
const NO_RETURN: &[&str] = &["execve", "execveat", "exit", "exit_group", "rt_sigreturn"];
/// Names of the argument behind a buffer that tell its length.
const LENGTHS: &[&str] = &["count", "len", "size", "length"];

fn syscall(name: &str, fields: &[Field], kernel: Option<&Btf>) -> Result<Target> {
    let mut record = Record::new(kernel);
    let arguments: Vec<&Field> = fields.iter().filter(|field| field.name != "__syscall_nr").take(6).collect();
    let returns = !NO_RETURN.contains(&name);
    for (index, field) in (0u8..).zip(&arguments) {
        let from = if returns { From::Argument(index) } else { From::Context(field.offset) };
        let next = arguments.get(usize::from(index) + 1);
        let length = next.filter(|next| LENGTHS.contains(&&*next.name)).map(|_| index + 1).filter(|_| returns);
        let names = called(name, &field.name);
        if names.is_empty() {
            argument(&mut record, field, from, length);
        } else if let Some(at) = record.read(&field.name, from, Read::Bytes, &[], 4) {
            let ty = record.names(4, true, &names);
            record.show(&field.name, ty, at);
        }
    }
    if returns {
        let ty = record.number(8, true);
        record.returns(ty);
        record.lasts();
    }
    let (hook, how) = match returns {
        true => (Hook::Syscall { name: name.to_owned() }, "tracepoints at call and return"),
        false => (Hook::SyscallStart { name: name.to_owned() }, "a tracepoint at the call, which does not return"),
    };
    Target::of(format!("syscalls:{name}"), how, record, hook, arguments.len() as u8)
}

/// What the values of an argument are called, where the kernel's types do not say it.
fn called(call: &str, argument: &str) -> Vec<(i64, String)> {
    use rustix::fs::OFlags;
    match argument {
        "dfd" | "olddfd" | "newdfd" => vec![(-100, "AT_FDCWD".to_owned())],
        "flags" if matches!(call, "open" | "openat") => {
            // Single bits: O_TMPFILE is two of them, and O_SYNC is left to its number.
            let named = [
                (OFlags::WRONLY, "O_WRONLY"),
                (OFlags::RDWR, "O_RDWR"),
                (OFlags::CREATE, "O_CREAT"),
                (OFlags::EXCL, "O_EXCL"),
                (OFlags::NOCTTY, "O_NOCTTY"),
                (OFlags::TRUNC, "O_TRUNC"),
                (OFlags::APPEND, "O_APPEND"),
                (OFlags::NONBLOCK, "O_NONBLOCK"),
                (OFlags::DIRECT, "O_DIRECT"),
                (OFlags::DIRECTORY, "O_DIRECTORY"),
                (OFlags::NOFOLLOW, "O_NOFOLLOW"),
                (OFlags::NOATIME, "O_NOATIME"),
                (OFlags::CLOEXEC, "O_CLOEXEC"),
                (OFlags::PATH, "O_PATH"),
                (OFlags::TMPFILE - OFlags::DIRECTORY, "O_TMPFILE"),
            ];
            let named = named.iter().map(|(flag, name)| (i64::from(flag.bits()), (*name).to_owned()));
            std::iter::once((0, "O_RDONLY".to_owned())).chain(named).collect()
        }
        _ => Vec::new(),
    }
}

/// An argument of a system call, by its type in C.
fn argument(record: &mut Record, field: &Field, from: From, length: Option<u8>) {
    let name = &field.name;
    let text = u32::from(TEXT);
    if field.ty == "char *" && field.is_const {
        let read = length.map_or(Read::Text, Read::Sized);
        if let Some(at) = record.read(name, from, read, &[0], text) {
            let ty = record.text(text);
            record.show(name, ty, at);
        }
        return;
    }
    // `const char *const * argv`: the texts that it leads to.
    if field.ty.replace("const", "").replace(' ', "") == "char**" && name == "argv" {
        if let Some(at) = record.read(name, from, Read::List, &[0], LIST) {
            let ty = record.text(LIST);
            record.show(name, ty, at);
        }
        return;
    }
    let Some(at) = record.read(name, from, Read::Bytes, &[], 8) else { return };
    let ty = match field.ty.as_str() {
        ty if ty.ends_with('*') => record.pointer(),
        ty => number(record, ty),
    };
    record.show(name, ty, at);
}

/// A number in a register, by its type in C.
fn number(record: &mut Record, ty: &str) -> TypeId {
    let bytes = match ty {
        "int" | "unsigned int" | "unsigned" | "u32" | "__u32" | "pid_t" | "uid_t" | "gid_t" | "key_t" | "clockid_t"
        | "qid_t" | "mqd_t" | "rwf_t" | "timer_t" | "key_serial_t" | "__s32" => 4,
        "umode_t" | "mode_t" | "short" | "unsigned short" | "old_uid_t" | "old_gid_t" => 2,
        "char" | "unsigned char" => 1,
        _ => 8,
    };
    let named = record.named(ty, u64::from(bytes));
    named.unwrap_or_else(|| record.number(bytes, matches!(ty, "int" | "long" | "off_t" | "loff_t" | "ssize_t")))
}

fn tracepoint(category: &str, name: &str, fields: &[Field], kernel: Option<&Btf>) -> Result<Target> {
    let mut record = Record::new(kernel);
    // What lies in the event itself is copied at once, as it lies.
    let here = |field: &&Field| field.place == Where::Here && field.size > 0;
    let end = fields.iter().filter(here).map(|field| field.offset + field.size).max().unwrap_or(8);
    let start = 8;
    let at =
        if end > start { record.read("its fields", From::Context(start), Read::Bytes, &[], end - start) } else { None };
    for field in fields {
        match (field.place, at) {
            (Where::Here, Some(at)) if field.size > 0 => {
                let ty = plain(&mut record, field);
                record.show(&field.name, ty, at + field.offset - start);
            }
            (Where::Here, _) => {}
            (Where::Location | Where::Relative, _) => {
                let from = match field.place {
                    Where::Relative => From::Relative(field.offset),
                    _ => From::Location(field.offset),
                };
                elsewhere(&mut record, field, from);
            }
        }
    }
    let hook = Hook::Tracepoint { category: category.to_owned(), name: name.to_owned() };
    Target::of(format!("{category}:{name}"), "a tracepoint", record, hook, 0)
}

/// The type of a field that lies in the event.
fn plain(record: &mut Record, field: &Field) -> TypeId {
    let bytes = u64::from(field.size);
    if let Some(len) = field.len.filter(|len| *len > 0) {
        if field.ty == "char" {
            return record.text(field.size);
        }
        let each = field.size / len;
        let element = element(record, &field.ty, each, field.signed);
        return record.array(element, field.size / each.max(1));
    }
    let width = u16::try_from(field.size).unwrap_or(8);
    if field.ty.ends_with('*') {
        return record.pointer();
    }
    if !field.names.is_empty() && matches!(width, 1 | 2 | 4 | 8) {
        return record.names(width, field.signed, &field.names);
    }
    if field.ty == "bool" && width == 1 {
        return record.boolean();
    }
    if let Some(ty) = record.named(&field.ty, bytes) {
        return ty;
    }
    match width {
        1 | 2 | 4 | 8 => record.number(width, field.signed),
        _ => {
            let byte = record.number(1, false);
            record.array(byte, field.size)
        }
    }
}

fn element(record: &mut Record, ty: &str, bytes: u32, signed: bool) -> TypeId {
    if let Some(ty) = record.named(ty, u64::from(bytes)) {
        return ty;
    }
    record.number(u16::try_from(bytes).ok().filter(|bytes| matches!(bytes, 1 | 2 | 4 | 8)).unwrap_or(1), signed)
}

/// A field whose place is said in the event.
fn elsewhere(record: &mut Record, field: &Field, from: From) {
    let is_text = field.ty == "char";
    let (read, bytes) = if is_text { (Read::Text, u32::from(TEXT)) } else { (Read::Bytes, ARRAY) };
    let Some(at) = record.read(&field.name, from, read, &[], bytes) else { return };
    let ty = if is_text {
        record.text(bytes)
    } else {
        let byte = record.number(1, false);
        record.array(byte, bytes)
    };
    record.show(&field.name, ty, at);
}

/// Arguments that the user names, from this register or argument on.
pub(super) fn given(record: &mut Record, arguments: &[(String, Reading)], first: u8) -> u8 {
    let mut next = first;
    for (name, reading) in arguments {
        value(record, name, *reading, From::Argument(next), next + 1);
        next += reading.registers();
    }
    next
}

/// Reads a value as the user says; the place in the record and the type.
pub(super) fn value(record: &mut Record, name: &str, reading: Reading, from: From, length: u8) {
    let (read, offsets, bytes): (_, &[i32], u32) = match reading {
        Reading::Number { bytes, .. } => (Read::Bytes, &[], bytes.into()),
        Reading::Bool => (Read::Bytes, &[], 1),
        Reading::Pointer => (Read::Bytes, &[], 8),
        Reading::Text(bytes) => (Read::Text, &[0], bytes.into()),
        Reading::Sized(bytes) => (Read::Sized(length), &[0], bytes.into()),
    };
    let Some(at) = record.read(name, from, read, offsets, bytes) else { return };
    let ty = match reading {
        Reading::Number { bytes, signed } => record.number(bytes, signed),
        Reading::Bool => record.boolean(),
        Reading::Pointer => record.pointer(),
        Reading::Text(bytes) | Reading::Sized(bytes) => record.text(bytes.into()),
    };
    record.show(name, ty, at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(matches("*", "a") && matches("sched_*", "sched_switch") && matches("*s*t*h", "sched_switch"));
        assert!(!matches("sched", "sched_switch") && !matches("*x*", "sched_switch") && matches("a", "a"));
    }
}
