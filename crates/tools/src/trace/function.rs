//! Functions of the kernel: their arguments by the kernel's own types.

use ringfence::Kernel;
use ringfence_btf::{Btf, Def, Kind, TypeId};

use super::record::{From, MOST_DEREFS, Read, Record, is_char};
use super::spec::{Spec, TEXT};
use super::target::{Hook, Target, given};
use super::{Options, user};
use crate::error::{Error, Result};

/// Arguments that come in registers: what a kprobe sees.
const IN_REGISTERS: usize = 6;
/// Arguments that a trampoline hands on (`ARGUMENTS`).
const MOST_ARGUMENTS: usize = 12;
/// Structs that are read whole.
const MOST_STRUCT: u64 = 256;
/// Arrays of characters that are copied; longer ones are read as text.
const MOST_CHARS: u64 = 64;

/// What tells most of a struct that a pointer leads to: name in the event, and path.
const TELLING: &[(&str, &[(&str, &str)])] = &[
    (
        "sock",
        &[
            ("family", "__sk_common.skc_family"),
            ("saddr", "__sk_common.skc_rcv_saddr"),
            ("sport", "__sk_common.skc_num"),
            ("daddr", "__sk_common.skc_daddr"),
            ("dport", "__sk_common.skc_dport"),
        ],
    ),
    ("file", &[("name", "f_path.dentry->d_name.name"), ("flags", "f_flags")]),
    ("path", &[("name", "dentry->d_name.name")]),
    ("dentry", &[("name", "d_name.name")]),
    ("filename", &[("name", "name")]),
    ("inode", &[("ino", "i_ino"), ("mode", "i_mode")]),
    ("task_struct", &[("pid", "pid"), ("comm", "comm")]),
    ("sk_buff", &[("len", "len"), ("protocol", "protocol")]),
    ("net_device", &[("name", "name")]),
    ("linux_binprm", &[("filename", "filename")]),
    ("bio", &[("sector", "bi_iter.bi_sector"), ("size", "bi_iter.bi_size")]),
    ("super_block", &[("id", "s_id")]),
    ("kiocb", &[("name", "ki_filp->f_path.dentry->d_name.name"), ("pos", "ki_pos")]),
    ("iov_iter", &[("count", "count")]),
    ("msghdr", &[("count", "msg_iter.count"), ("flags", "msg_flags")]),
    ("sockaddr", &[("family", "sa_family")]),
    ("request", &[("sector", "__sector"), ("size", "__data_len")]),
    ("block_device", &[("dev", "bd_dev")]),
    ("vm_area_struct", &[("start", "vm_start"), ("end", "vm_end")]),
    ("cred", &[("uid", "uid.val"), ("gid", "gid.val")]),
    ("cgroup", &[("name", "kn->name")]),
    ("module", &[("name", "name")]),
    ("net", &[("inum", "ns.inum")]),
    ("bpf_map", &[("name", "name")]),
    ("bpf_prog", &[("name", "aux->name")]),
];

/// Where a path from a value leads.
struct Found {
    offsets: Vec<i32>,
    ty: TypeId,
    /// Bits of a bit-field: first one in the bytes that are read, and how many.
    bits: Option<(u32, u8)>,
    size: u64,
}

/// Types that hold a function.
fn find(name: &str, kernel: &Kernel) -> std::result::Result<Option<(Btf, TypeId)>, String> {
    let (module, bare) = name.split_once(':').map_or((None, name), |(module, bare)| (Some(module), bare));
    let own = kernel.btf().map_err(|error| error.to_string())?;
    if let Some(btf) = own.filter(|_| module.is_none_or(|module| module == "vmlinux"))
        && let Some(function) = btf.find(bare, Kind::Func)
    {
        return Ok(Some((btf.clone(), function)));
    }
    for other in kernel.modules().unwrap_or_default() {
        if module.is_none_or(|module| module == other.name)
            && let Some(function) = other.btf.find_own(bare, Kind::Func)
        {
            return Ok(Some((other.btf.clone(), function)));
        }
    }
    Ok(None)
}

pub(super) fn target(
    spec: &Spec,
    name: &str,
    ret: bool,
    trampoline: bool,
    options: &Options,
    kernel: &Kernel,
) -> Result<Target> {
    let fail = |why: String| Error::Spec { spec: spec.text.clone(), why };
    let found = find(name, kernel).map_err(fail)?;
    let bare = name.split_once(':').map_or(name, |(_, bare)| bare);
    let Some((btf, function)) = found else {
        let known = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        let names = known.lines().filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            words.next().filter(|kind| matches!(*kind, "t" | "T"))?;
            words.next()
        });
        let near = ringfence_plan::near::nearest(bare, names.clone());
        let there = bare.contains('+') || names.clone().any(|other| other == bare);
        if !there || trampoline {
            let near: Vec<String> = near.into_iter().filter(|near| near != bare).collect();
            let near = if near.is_empty() { String::new() } else { format!("; it has {}", near.join(", ")) };
            let what = if there {
                "its types do not describe it, so kprobe: alone reaches it"
            } else {
                "this kernel has no such function, or it was inlined everywhere"
            };
            return Err(fail(format!("{what}{near}")));
        }
        return untyped(spec, name, ret);
    };
    let mut record = Record::new(Some(&btf));
    let proto = match btf.get(function).and_then(|ty| match ty.def {
        Def::Func { proto, .. } => btf.get(proto),
        _ => Ok(ty),
    }) {
        Ok(ringfence_btf::Type { def: Def::FuncProto(proto), .. }) => proto,
        _ => return untyped(spec, name, ret),
    };
    let parameters: Vec<(String, TypeId)> = proto
        .params()
        .flatten()
        .enumerate()
        .map(|(n, param)| (if param.name.is_empty() { format!("arg{n}") } else { param.name.to_owned() }, param.ty))
        .collect();
    // A struct that is handed over as it is takes registers in ways of its own.
    let plain = |ty: TypeId| btf.size_of(ty).is_ok_and(|size| size <= 8);
    let simple = parameters.iter().take_while(|(_, ty)| plain(*ty)).count();
    let pair = ret && (options.durations || options.histogram);
    let most = if trampoline { MOST_ARGUMENTS } else { IN_REGISTERS };
    for (n, (name, ty)) in parameters.iter().take(simple.min(most)).enumerate() {
        let from = From::Argument(n as u8);
        let mine: Vec<&str> = asked(options, name).collect();
        if mine.is_empty() {
            show(&mut record, &btf, name, *ty, from);
        }
        for path in mine {
            let found = follow(&btf, *ty, path).map_err(|why| fail(format!("--arg {name}->{path}: {why}")))?;
            let short = path.rsplit(['.', '>']).next().unwrap_or(path).replace(['[', ']'], "_");
            reach(&mut record, &btf, short.trim_end_matches('_'), from, &found);
        }
    }
    let void = matches!(btf.resolve(proto.ret).map(|ty| ty.def), Ok(Def::Void));
    if ret && !void {
        let ty = if spec.ret.is_none() { returned(&mut record, &btf, proto.ret) } else { None };
        match ty {
            Some(ty) => record.returns(ty),
            None => user::returned(&mut record, spec.ret),
        }
    }
    if pair {
        record.lasts();
    }
    let count = simple.min(most) as u8;
    let works = kernel.btf().is_ok_and(|btf| btf.is_some()) && !pair && !name.contains(['+', ':']);
    let (hook, how) = match (ret, works) {
        (false, true) => (Hook::Fentry { function: name.to_owned() }, "fentry"),
        (true, true) => (Hook::Fexit { function: name.to_owned() }, "fexit"),
        (false, false) => (Hook::Kprobe { function: name.to_owned() }, "a kprobe"),
        (true, false) => (Hook::KprobePair { function: name.to_owned() }, "a kprobe and a kretprobe"),
    };
    let place = match (trampoline, ret) {
        (false, false) => "kprobe",
        (false, true) => "kretprobe",
        (true, false) => "fentry",
        (true, true) => "fexit",
    };
    let mut target = Target::of(format!("{place}:{name}"), how, record, hook, count)?;
    if simple.min(most) < parameters.len() {
        target.notes.push(format!("{} of {} arguments can be read", simple.min(most), parameters.len()));
    }
    Ok(target)
}

/// A function that the kernel's types do not describe.
fn untyped(spec: &Spec, name: &str, ret: bool) -> Result<Target> {
    let mut record = Record::new(None);
    let arguments =
        if ret { given(&mut record, &spec.arguments, 0) } else { user::arguments(&mut record, &spec.arguments, 3) };
    let (hook, how) = match ret {
        false => (Hook::Kprobe { function: name.to_owned() }, "a kprobe"),
        true => (Hook::KprobePair { function: name.to_owned() }, "a kprobe and a kretprobe"),
    };
    if ret {
        user::returned(&mut record, spec.ret);
        record.lasts();
    }
    let mut target =
        Target::of(format!("{}:{name}", if ret { "kretprobe" } else { "kprobe" }), how, record, hook, arguments)?;
    target.notes.push("the kernel's types do not describe this function: its arguments are shown as they are".into());
    Ok(target)
}

/// The paths that are asked for from this argument.
fn asked<'a>(options: &'a Options, argument: &'a str) -> impl Iterator<Item = &'a str> {
    options.paths.iter().filter_map(move |path| {
        let (name, rest) = path.split_once("->")?;
        (name == argument).then_some(rest)
    })
}

/// Each path that is asked for begins at an argument of some place.
pub(super) fn all_asked_for(options: &Options, targets: &[Target]) -> Result<()> {
    for path in &options.paths {
        let short = path.rsplit(['.', '>']).next().unwrap_or(path).replace(['[', ']'], "_");
        let short = short.trim_end_matches('_');
        let has = |target: &Target| target.fields.iter().any(|field| field.trim_start_matches("arg_") == short);
        if !path.contains("->") || !targets.iter().any(has) {
            let why = "no kernel function that is watched has an argument of that name; the form is ARGUMENT->MEMBER.MEMBER->MEMBER";
            return Err(Error::Spec { spec: format!("--arg {path}"), why: why.into() });
        }
    }
    Ok(())
}

/// An argument as its type says.
fn show(record: &mut Record, btf: &Btf, name: &str, ty: TypeId, from: From) {
    let def = btf.resolve(ty).map(|ty| ty.def);
    if let Ok(Def::Ptr(to)) = def {
        if is_char(btf, to) {
            let found = Found { offsets: vec![0], ty, bits: None, size: 8 };
            return text(record, name, from, &found.offsets);
        }
        if let Ok(inner) = btf.resolve(to)
            && let Def::Struct(_) = inner.def
            && let Some((_, members)) = TELLING.iter().find(|(known, _)| *known == inner.name)
        {
            return group(record, btf, name, ty, from, members);
        }
    }
    let size = btf.size_of(ty).unwrap_or(8);
    reach(record, btf, name, from, &Found { offsets: Vec::new(), ty, bits: None, size });
}

/// Some members of what a pointer leads to, as a struct.
fn group(record: &mut Record, btf: &Btf, name: &str, ty: TypeId, from: From, members: &[(&str, &str)]) {
    let mut read = Vec::new();
    for (member, path) in members {
        let Ok(found) = follow(btf, ty, path) else { continue };
        let is_text = matches!(btf.resolve(found.ty).map(|ty| ty.def), Ok(Def::Ptr(to)) if is_text(btf, to));
        if is_text {
            let mut offsets = found.offsets.clone();
            offsets.push(0);
            if offsets.len() > MOST_DEREFS {
                continue;
            }
            if let Some(at) = record.read(member, from, Read::Text, &offsets, 64) {
                let ty = record.text(64);
                read.push(((*member).to_owned(), ty, at));
            }
        } else if let Some(at) = record.read(member, from, Read::Bytes, &found.offsets, found.size.min(64) as u32) {
            read.push(((*member).to_owned(), found.ty, at));
        }
    }
    let Some(first) = read.iter().map(|(.., at)| *at).min() else { return };
    let end = read.iter().map(|(.., at)| *at).max().unwrap_or(first) + 64;
    let members: Vec<_> = read.into_iter().map(|(name, ty, at)| (name, ty, at - first)).collect();
    let ty = record.group(end - first, &members);
    record.reserve(first + (end - first));
    record.show(name, ty, first);
}

/// `unsigned char *` is text in a file's name.
fn is_text(btf: &Btf, ty: TypeId) -> bool {
    is_char(btf, ty) || matches!(btf.strip_modifiers(ty).map(|ty| ty.name), Ok("unsigned char"))
}

fn text(record: &mut Record, name: &str, from: From, offsets: &[i32]) {
    let bytes = u32::from(TEXT);
    if let Some(at) = record.read(name, from, Read::Text, offsets, bytes) {
        let ty = record.text(bytes);
        record.show(name, ty, at);
    }
}

/// What a path leads to.
fn reach(record: &mut Record, btf: &Btf, name: &str, from: From, found: &Found) {
    let Found { offsets, ty, bits, size } = found;
    match btf.resolve(*ty).map(|ty| ty.def) {
        Ok(Def::Ptr(to)) if is_text(btf, to) && offsets.len() < MOST_DEREFS && !offsets.is_empty() => {
            let mut offsets = offsets.clone();
            offsets.push(0);
            return text(record, name, from, &offsets);
        }
        Ok(Def::Array(array)) if is_text(btf, array.element) && *size > MOST_CHARS => {
            return text(record, name, from, offsets);
        }
        _ => {}
    }
    let bytes = if *size > MOST_STRUCT || *size == 0 { 8 } else { *size as u32 };
    let Some(at) = record.read(name, from, Read::Bytes, offsets, bytes) else { return };
    match bits {
        Some((first, count)) => record.show_bits(name, *ty, at * 8 + first, *count),
        None if *size > MOST_STRUCT || *size == 0 => {
            let ty = record.number(8, false);
            record.show(name, ty, at);
        }
        None => record.show(name, *ty, at),
    }
}

/// What a function gives, where it fits a register.
fn returned(record: &mut Record, btf: &Btf, ty: TypeId) -> Option<TypeId> {
    match btf.resolve(ty).ok()?.def {
        Def::Int(_) | Def::Enum(_) => Some(ty),
        Def::Ptr(_) => Some(record.pointer()),
        _ => None,
    }
}

/// `__sk_common.skc_daddr`, `f_path.dentry->d_name.name`: from a pointer to a struct.
fn follow(btf: &Btf, start: TypeId, path: &str) -> std::result::Result<Found, String> {
    let (mut ty, mut offsets, mut bits, mut size) = (start, Vec::new(), None, 0);
    for step in path.split("->") {
        let Ok(Def::Ptr(to)) = btf.resolve(ty).map(|ty| ty.def) else {
            return Err(format!("what is in front of `{step}` is no pointer"));
        };
        let field = btf.find_member(to, step).map_err(|_| {
            let known = btf.c_declaration(to, "");
            let near = near(btf, to, step);
            format!("{known} has no member `{step}`{near}")
        })?;
        let byte = if field.bitfield { field.bit_offset / 8 } else { field.bit_offset.div_ceil(8) };
        offsets.push(i32::try_from(byte).map_err(|_| "it is too far in the struct".to_owned())?);
        let first = field.bit_offset - byte * 8;
        bits = field.bitfield.then_some((first as u32, field.bit_size as u8));
        size = if field.bitfield { (first + field.bit_size).div_ceil(8) } else { field.bit_size / 8 };
        ty = field.ty;
    }
    if offsets.len() > MOST_DEREFS {
        return Err(format!("it follows more than {MOST_DEREFS} pointers"));
    }
    Ok(Found { offsets, ty, bits, size })
}

fn near(btf: &Btf, ty: TypeId, name: &str) -> String {
    let Ok(Def::Struct(body) | Def::Union(body)) = btf.resolve(ty).map(|ty| ty.def) else { return String::new() };
    let names: Vec<&str> = body.members().flatten().map(|member| member.name).filter(|name| !name.is_empty()).collect();
    let first = name.split(['.', '[']).next().unwrap_or(name);
    let near = ringfence_plan::near::nearest(first, names.iter().copied());
    let near = if near.is_empty() { names.iter().take(8).map(|name| (*name).to_owned()).collect() } else { near };
    format!("; it has {}", near.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_tell_are_there() {
        let kernel = Kernel::running();
        let Ok(Some(btf)) = kernel.btf() else { return println!("skipped: this kernel has no types") };
        for (name, members) in TELLING {
            let Some(ty) = btf.find(name, Kind::Struct) else { continue };
            for (_, path) in *members {
                let (first, rest) = path.split_once("->").unwrap_or((path, ""));
                let field = btf.find_member(ty, first).unwrap_or_else(|error| panic!("{name}: {path}: {error}"));
                assert!(rest.is_empty() || follow(btf, field.ty, rest).is_ok(), "{name}: {path}");
            }
        }
    }
}
