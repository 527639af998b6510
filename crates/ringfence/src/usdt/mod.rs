//! Static probes in user space (USDT): what a program reads to find their arguments.
//!
//! libbpf's `usdt.bpf.h` gives an object two maps. `__bpf_usdt_specs` says for each number where a place has its arguments; the
//! program learns the number from its cookie, or on kernels without cookies (before 5.15) by its address from
//! `__bpf_usdt_ip_to_spec_id`. The struct has grown with libbpf 1.7, so its layout is read from the object's own types.

mod operand;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ringfence_btf::{Btf, TypeId};

use crate::error::{Cause, Error, Kind};
use crate::map::{Map, Update};

pub(crate) use operand::Arch;
use operand::{Argument, Place};

const SPECS: &str = "__bpf_usdt_specs";
const PLACES: &str = "__bpf_usdt_ip_to_spec_id";
/// `BPF_USDT_MAX_ARG_CNT`.
const MAX_ARGUMENTS: usize = 12;

/// `enum __bpf_usdt_arg_type`; a program gets `-EINVAL` for a number that is none of these.
const CONSTANT: u64 = 0;
const REGISTER: u64 = 1;
const MEMORY: u64 = 2;
const INDEXED: u64 = 3;
const UNKNOWN: u64 = 0xff;

/// The maps of one object.
#[derive(Debug)]
pub(crate) struct Specs {
    specs: Map,
    places: Map,
    layout: Layout,
    ids: Mutex<Ids>,
}

/// Entries of the first map that nobody uses.
#[derive(Debug, Default)]
struct Ids {
    returned: Vec<u32>,
    next: u32,
}

/// A field: first bit and width.
type Bits = (u64, u64);

/// Where `struct __bpf_usdt_spec` has what.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Layout {
    size: usize,
    /// Bits from one argument to the next.
    stride: u64,
    value: Bits,
    kind: Bits,
    register: Bits,
    signed: Bits,
    shift: Bits,
    /// Register and shift of an index: since libbpf 1.7.
    index: Option<(Bits, Bits)>,
    cookie: Bits,
    count: Bits,
}

impl Layout {
    fn of(btf: &Btf, spec: TypeId, size: usize) -> Option<Layout> {
        let find = |path: &str| btf.find_member(spec, path).ok().map(|field| (field.bit_offset, field.bit_size));
        let first = |name: &str| find(&format!("args[0].{name}"));
        let last = find(&format!("args[{}].val_off", MAX_ARGUMENTS - 1))?;
        let value = first("val_off")?;
        let layout = Layout {
            size,
            stride: find("args[1].val_off")?.0.checked_sub(value.0)?,
            value,
            kind: first("arg_type")?,
            register: first("reg_off")?,
            signed: first("arg_signed")?,
            shift: first("arg_bitshift")?,
            index: first("idx_reg_off").zip(first("scale_bitshift")),
            cookie: find("usdt_cookie")?,
            count: find("arg_cnt")?,
        };
        // Whatever the types say, nothing is written beside the value.
        let inside =
            |(start, width): Bits| width <= 64 && start.checked_add(width).is_some_and(|end| end <= size as u64 * 8);
        [last, layout.cookie, layout.count, layout.kind, layout.register, layout.signed, layout.shift]
            .into_iter()
            .chain(layout.index.into_iter().flat_map(|(register, shift)| [register, shift]))
            .all(inside)
            .then_some(layout)
    }

    fn write(&self, arguments: &[Option<Argument>], cookie: u64) -> Result<Vec<u8>, Cause> {
        let mut bytes = vec![0; self.size];
        put(&mut bytes, self.cookie, 0, cookie);
        put(&mut bytes, self.count, 0, arguments.len() as u64);
        for (at, argument) in arguments.iter().enumerate() {
            let mut put = |field: Bits, value: u64| put(&mut bytes, field, self.stride * at as u64, value);
            let Some(Argument { place, size, signed }) = argument else {
                put(self.kind, UNKNOWN);
                continue;
            };
            let (kind, value, register) = match *place {
                Place::Constant(value) => (CONSTANT, value, 0),
                Place::Register(register) => (REGISTER, 0, register),
                Place::Memory { base, offset } => (MEMORY, offset, base),
                Place::Indexed { base, index, shift, offset } => {
                    let Some((index_field, shift_field)) = self.index else {
                        return Err(Cause::invalid(
                            "an argument is in an array, and the object was made with a usdt.bpf.h that knows no such (before libbpf 1.7)",
                        )
                        .action("compile it with a newer one"));
                    };
                    put(index_field, index.into());
                    put(shift_field, shift.into());
                    (INDEXED, offset, base)
                }
            };
            put(self.kind, kind);
            put(self.value, value.cast_unsigned());
            put(self.register, register.into());
            put(self.signed, u64::from(*signed));
            put(self.shift, 64 - u64::from(*size) * 8);
        }
        Ok(bytes)
    }
}

/// Writes a field, `base` bits further; what would be outside is left out.
///
/// In memory the bits of a field follow each other from the lowest on little-endian machines, from the highest on the others.
fn put(bytes: &mut [u8], (start, width): Bits, base: u64, value: u64) {
    for at in 0..width {
        let place = base + start + at;
        let (bit, within) = match cfg!(target_endian = "little") {
            true => (value >> at & 1, place % 8),
            false => (value >> (width - 1 - at) & 1, 7 - place % 8),
        };
        if let Some(byte) = usize::try_from(place / 8).ok().and_then(|place| bytes.get_mut(place)) {
            *byte = *byte & !(1 << within) | (bit as u8) << within;
        }
    }
}

/// One place at which a probe is to be attached.
pub(crate) struct Target<'a> {
    /// As the note has them.
    pub(crate) arguments: &'a str,
    /// Address in the process; `None`: not asked for, as the kernel has cookies.
    pub(crate) address: Option<u64>,
}

impl Specs {
    /// The maps that an object has for this; `None`: it has none, so its programs read no arguments.
    pub(crate) fn of<'m>(maps: impl Iterator<Item = &'m Map> + Clone) -> Option<Arc<Specs>> {
        let named = |name: &str| maps.clone().find(|map| map.name() == name).cloned();
        let (specs, places) = (named(SPECS)?, named(PLACES)?);
        let size = usize::try_from(specs.value_size()).ok()?;
        let (btf, _, value) = specs.btf_types()?;
        let layout = Layout::of(btf, value, size)?;
        Some(Arc::new(Specs { specs, places, layout, ids: Mutex::default() }))
    }

    /// Writes what the program needs to know of each place: the number of each, and what keeps the entries. Places with the
    /// same arguments share a number. With them, in words, what cannot be read there.
    pub(crate) fn claim(
        self: &Arc<Specs>,
        targets: &[Target<'_>],
        cookie: u64,
    ) -> Result<(Vec<u64>, Claim, Vec<String>), Cause> {
        let arch = Arch::own().ok_or_else(|| {
            Cause::new(Kind::Unsupported, "where static probes have their arguments is not known for this machine")
        })?;
        let mut claim =
            Claim { of: self.clone(), ids: Vec::new(), addresses: Vec::new(), kept: AtomicBool::new(false) };
        let (mut known, mut numbers, mut notices) = (HashMap::new(), Vec::new(), Vec::new());
        for target in targets {
            let id = match known.get(target.arguments) {
                Some(id) => *id,
                None => {
                    let arguments = arguments(arch, target.arguments, &mut notices)?;
                    let id = self.take()?;
                    claim.ids.push(id);
                    let spec = self.layout.write(&arguments, cookie)?;
                    self.specs.update(&id.to_ne_bytes(), &spec, Update::Any).map_err(because)?;
                    known.insert(target.arguments, id);
                    id
                }
            };
            if let Some(address) = target.address {
                let key = (address as usize).to_ne_bytes();
                self.places.update(&key, &id.to_ne_bytes(), Update::New).map_err(|error| {
                    because(error)
                        .action("without cookies (5.15) a place can be attached once, and a map must hold all places")
                })?;
                claim.addresses.push(address);
            }
            numbers.push(u64::from(id));
        }
        Ok((numbers, claim, notices))
    }

    fn take(&self) -> Result<u32, Cause> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = ids.returned.pop() {
            return Ok(id);
        }
        if ids.next >= self.specs.max_entries() {
            let why = format!("`{SPECS}` has room for {} different places", self.specs.max_entries());
            return Err(Cause::invalid(why).action("define BPF_USDT_MAX_SPEC_CNT larger, or give the map more entries"));
        }
        let id = ids.next;
        ids.next += 1;
        Ok(id)
    }
}

fn because(error: Error) -> Cause {
    let mut cause = Cause::new(error.kind(), error.to_string());
    cause.errno = error.errno();
    cause
}

/// The arguments of a note; `None` for one that is where no program can read.
fn arguments(arch: Arch, text: &str, notices: &mut Vec<String>) -> Result<Vec<Option<Argument>>, Cause> {
    let mut arguments = Vec::new();
    for (at, operand) in operand::split(text).into_iter().enumerate() {
        let argument = operand::parse(arch, operand);
        if argument.is_none() {
            let notice = format!("argument {at} cannot be read by a program: it is at `{operand}`");
            if !notices.contains(&notice) {
                notices.push(notice);
            }
        }
        arguments.push(argument);
    }
    match arguments.len() {
        0..=MAX_ARGUMENTS => Ok(arguments),
        more => Err(Cause::invalid(format!("it has {more} arguments, and programs can read {MAX_ARGUMENTS}"))),
    }
}

/// Entries that a link uses. Dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Claim {
    of: Arc<Specs>,
    ids: Vec<u32>,
    addresses: Vec<u64>,
    kept: AtomicBool,
}

impl Claim {
    /// Something outlives this process's hold: the entries are never given back.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        for address in &self.addresses {
            // A place that stays could not be attached again; there is nobody to tell.
            let _ = self.of.places.delete(&(*address as usize).to_ne_bytes());
        }
        let mut ids = self.of.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.returned.append(&mut self.ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libbpf before 1.7: 16 bytes an argument.
    fn old() -> Layout {
        Layout {
            size: 208,
            stride: 128,
            value: (0, 64),
            kind: (64, 32),
            register: (96, 16),
            signed: (112, 8),
            shift: (120, 8),
            index: None,
            cookie: (1536, 64),
            count: (1600, 16),
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn specs_are_laid_out() {
        let memory = Argument { place: Place::Memory { base: 32, offset: -8 }, size: 4, signed: true };
        let register = Argument { place: Place::Register(80), size: 8, signed: false };
        let bytes = old().write(&[Some(memory), Some(register), None], 77).unwrap();
        assert_eq!(bytes[..16], [0xf8, 255, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 32, 0, 1, 32]);
        assert_eq!(bytes[16..32], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 80, 0, 0, 0]);
        assert_eq!((bytes[40], bytes[192], bytes[200]), (255, 77, 3));
        let indexed =
            Argument { place: Place::Indexed { base: 1, index: 2, shift: 3, offset: 4 }, size: 1, signed: false };
        assert!(old().write(&[Some(indexed)], 0).is_err());
        // 1.7: bit-fields of 12 and 4 bits.
        let new = Layout { size: 304, stride: 192, kind: (64, 8), index: Some(((80, 12), (92, 4))), ..old() };
        let bytes = new.write(&[None, Some(indexed)], 0).unwrap();
        assert_eq!(bytes[24..36], [4, 0, 0, 0, 0, 0, 0, 0, 3, 0, 2, 0x30]);
    }

    #[test]
    fn too_many_arguments() {
        let mut notices = Vec::new();
        let twelve = ["8@%rax"; 12].join(" ");
        assert_eq!(arguments(Arch::X86, &twelve, &mut notices).unwrap().len(), 12);
        let error = arguments(Arch::X86, &(twelve + " 8@%rbx"), &mut notices).unwrap_err();
        assert!(error.why.contains("13 arguments") && notices.is_empty(), "{error}");
        assert_eq!(arguments(Arch::X86, "8@%xmm0 4@$1", &mut notices).unwrap()[0], None);
        assert_eq!(notices.len(), 1);
    }
}
