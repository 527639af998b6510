//! The `maps` section of old objects and of those that other languages make: arrays of integers.

use object::elf::STT_SECTION;
use ringfence_btf::{Btf, Def, TypeId};
use ringfence_uapi::MapType;

use crate::elf::{Elf, Home};
use crate::types::bad;
use crate::{Error, Map, Role};

/// Bytes of the smallest `struct bpf_map_def`: type, key, value, entries; flags came later.
const SMALLEST: usize = 16;

/// A map and where it is in its section.
pub(crate) struct Legacy {
    pub(crate) map: Map,
    pub(crate) offset: u64,
}

/// Reads every map of the `maps` section, in the order of its offset.
///
/// Known layouts are `struct bpf_map_def` of old libbpf (16 to 20 bytes) and that of Rust's aya (28 bytes:
/// an unused number and the pinning follow). What else follows must be zero.
pub(crate) fn read(elf: &Elf<'_>, btf: Option<&Btf>, at: usize) -> Result<Vec<Legacy>, Error> {
    let Some(section) = elf.sections.get(at) else { return Ok(Vec::new()) };
    let bytes = elf.bytes(section)?;
    let mut symbols: Vec<_> = elf
        .symbols()
        .filter(|symbol| symbol.home == Home::Section(at) && symbol.kind != STT_SECTION && !symbol.name.is_empty())
        .collect();
    symbols.sort_by_key(|symbol| symbol.value);
    symbols.dedup_by_key(|symbol| symbol.value);
    let nexts: Vec<u64> = symbols.iter().skip(1).map(|next| next.value).chain([bytes.len() as u64]).collect();
    let mut maps = Vec::with_capacity(symbols.len());
    for (symbol, next) in symbols.into_iter().zip(nexts) {
        let fail = |what: String| Error::Map { object: elf.file.into(), map: symbol.name.into(), what };
        let end = if symbol.size == 0 { next } else { symbol.value.saturating_add(symbol.size) };
        let range = usize::try_from(symbol.value).ok().zip(usize::try_from(end).ok());
        let def = range.and_then(|(start, end)| bytes.get(start..end));
        let def = def.ok_or_else(|| fail("it ends outside section maps: the file is damaged".into()))?;
        if def.len() < SMALLEST || def.len() % 4 != 0 {
            let what = format!("a definition of {} bytes is no `struct bpf_map_def`; declare it in .maps", def.len());
            return Err(fail(what));
        }
        let words = def.chunks_exact(4).filter_map(|word| word.first_chunk::<4>());
        let words = words.map(|w| if elf.big_endian() { u32::from_be_bytes(*w) } else { u32::from_le_bytes(*w) });
        let mut words = words.enumerate();
        let mut next = || words.next().map_or(0, |(_, word)| word);
        let (kind, key_size, value_size, max_entries, flags) = (next(), next(), next(), next(), next());
        let mut pin_by_name = false;
        for (at, word) in words.filter(|(_, word)| *word != 0) {
            if def.len() == 28 && at == 6 && word == 1 {
                pin_by_name = true;
                continue;
            }
            return Err(fail(format!(
                "its definition has {word} in word {at}, which only the loader for which it was written can read; \
                 declare the map in .maps"
            )));
        }
        let (key_type, value_type) = match btf {
            Some(btf) => key_and_value(elf, btf, symbol.name, key_size, value_size)?,
            None => (None, None),
        };
        elf.spend(symbol.name.len().saturating_add(size_of::<Map>()))?;
        let map = Map {
            key_size,
            value_size,
            max_entries,
            flags,
            key_type,
            value_type,
            pin_by_name,
            ..Map::new(symbol.name, section.name, MapType(kind), Role::Legacy)
        };
        maps.push(Legacy { map, offset: symbol.value });
    }
    Ok(maps)
}

/// The types that `BPF_ANNOTATE_KV_PAIR(NAME, KEY, VALUE)` leaves as the members of a struct.
fn key_and_value(
    elf: &Elf<'_>,
    btf: &Btf,
    name: &str,
    key_size: u32,
    value_size: u32,
) -> Result<(Option<TypeId>, Option<TypeId>), Error> {
    let id = btf.find(&format!("____btf_map_{name}"), ringfence_btf::Kind::Struct);
    let Some(id) = id else { return Ok((None, None)) };
    let (mut key, mut value) = (None, None);
    if let Def::Struct(pair) = btf.get(id).map_err(|e| bad(elf, e))?.def {
        for member in pair.members().take(2) {
            let member = member.map_err(|e| bad(elf, e))?;
            let size = btf.size_of(member.ty).map_err(|e| bad(elf, e))?;
            match member.name {
                "key" if size == u64::from(key_size) => key = Some(member.ty),
                "value" if size == u64::from(value_size) => value = Some(member.ty),
                _ => {}
            }
        }
    }
    // One without the other says nothing to the kernel.
    Ok(key.zip(value).map_or((None, None), |(key, value)| (Some(key), Some(value))))
}
