//! Maps that hold programs and maps.

use std::os::fd::AsFd;

use ringfence_btf::{Def, TypeId};
use ringfence_kernel::Kernel;
use ringfence_sys::{self as sys, MapFd};
use ringfence_uapi::{AttachType, MapType};

use super::{Id, Machine, Map};

/// Most entries of one map that are looked at.
const MOST: usize = 65_536;

/// What a map holds.
#[derive(Default)]
pub(super) struct Held {
    pub(super) objects: Vec<Id>,
    /// struct_ops: the kernel uses it.
    pub(super) registered: bool,
}

pub(super) fn of(map: &Map, machine: &Machine, kernel: &Kernel) -> Held {
    use MapType as M;
    let entry: fn(&[u8]) -> Option<Id> = match map.info.kind {
        M::PROG_ARRAY => |value| word(value, 0).map(Id::Program),
        M::ARRAY_OF_MAPS | M::HASH_OF_MAPS => |value| word(value, 0).map(Id::Map),
        // `struct bpf_devmap_val`, `struct bpf_cpumap_val`: a program may stand behind the number of the device or the size
        // of the queue.
        M::DEVMAP | M::DEVMAP_HASH | M::CPUMAP if map.info.value_size >= 8 => |value| word(value, 4).map(Id::Program),
        M::SOCKMAP | M::SOCKHASH => return Held { objects: of_sockets(map), registered: false },
        M::STRUCT_OPS => return struct_ops(map, machine, kernel),
        _ => return Held::default(),
    };
    let mut objects = Vec::new();
    let Ok(fd) = sys::open_map(map.info.id, sys::flags::BPF_F_RDONLY) else { return Held::default() };
    each(&fd, |value| objects.extend(entry(value)));
    objects.sort_unstable();
    objects.dedup();
    Held { objects, registered: false }
}

fn each(map: &MapFd, mut see: impl FnMut(&[u8])) {
    let mut key = vec![0; map.shape().key_size as usize];
    let mut value = vec![0; map.shape().value_bytes().unwrap_or(0)];
    let mut next = key.clone();
    let mut first = true;
    for _ in 0..MOST {
        if !matches!(map.next_key((!first).then_some(&key), &mut next), Ok(true)) {
            break;
        }
        first = false;
        key.copy_from_slice(&next);
        // Slots of arrays may be empty.
        if map.lookup(&key, &mut value, 0).is_ok() {
            see(&value);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?);
    (word != 0).then_some(word)
}

/// Programs that run on the sockets of a map (5.17).
fn of_sockets(map: &Map) -> Vec<Id> {
    use AttachType as A;
    let Ok(fd) = sys::open_map(map.info.id, 0) else { return Vec::new() };
    let hooks = [A::SK_SKB_STREAM_PARSER, A::SK_SKB_STREAM_VERDICT, A::SK_SKB_VERDICT, A::SK_MSG_VERDICT];
    let queried =
        hooks.map(|hook| sys::program_query(sys::AttachTo::Fd(fd.as_fd()), hook, 0, false).unwrap_or_default());
    queried.into_iter().flat_map(|queried| queried.programs).map(Id::Program).collect()
}

/// `struct bpf_struct_ops_common_value`: a counter, then the state; where functions are, user space reads the programs' ids.
fn struct_ops(map: &Map, machine: &Machine, kernel: &Kernel) -> Held {
    const INUSE: u32 = 1;
    let Ok(fd) = sys::open_map(map.info.id, sys::flags::BPF_F_RDONLY) else { return Held::default() };
    let mut value = vec![0; fd.shape().value_bytes().unwrap_or(0)];
    if fd.lookup(&0u32.to_ne_bytes(), &mut value, 0).is_err() {
        return Held::default();
    }
    let known = |id: &u32| machine.program(*id).is_some();
    let functions = functions(TypeId(map.info.btf_vmlinux_value), kernel).unwrap_or_default();
    let programs = functions.into_iter().filter_map(|at| word(&value, at)).filter(known);
    Held { objects: programs.map(Id::Program).collect(), registered: word(&value, 4) == Some(INUSE) }
}

/// Offsets of the function pointers in the value of a struct_ops map.
fn functions(value: TypeId, kernel: &Kernel) -> Option<Vec<usize>> {
    let btf = kernel.btf().ok()??;
    let Def::Struct(value) = btf.get(value).ok()?.def else { return None };
    let data = value.members().flatten().find(|member| member.name == "data")?;
    let Def::Struct(operations) = btf.resolve(data.ty).ok()?.def else { return None };
    let start = data.bit_offset / 8;
    let is_function = |ty: TypeId| match btf.resolve(ty).map(|ty| ty.def) {
        Ok(Def::Ptr(to)) => btf.resolve(to).is_ok_and(|to| matches!(to.def, Def::FuncProto(_))),
        _ => false,
    };
    let members = operations.members().flatten().filter(|member| is_function(member.ty));
    Some(members.map(|member| (start + member.bit_offset / 8) as usize).collect())
}
