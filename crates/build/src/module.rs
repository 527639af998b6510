//! One object as one Rust module.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ringfence_btf::{Btf, TypeId};
use ringfence_flow::{Types, event_types};
use ringfence_object::{Map, MapId, Object, Role};
use ringfence_uapi::MapType;

use crate::types::{Shape, Writer, camel, ident};

/// The module's text. `bytes`: an expression for the object's bytes; `len`: how many those are.
pub(crate) fn write(object: &Object, btf: &Btf, name: &str, bytes: &str, len: usize) -> String {
    let mut types = Writer::new(btf);
    let main = types.take(&camel(name));
    types.main.clone_from(&main);
    let mut events: BTreeMap<usize, Vec<TypeId>> = BTreeMap::new();
    for choice in event_types(object, None) {
        if let Some(chosen) = choice.chosen.filter(|chosen| chosen.types == Types::Object) {
            let there = events.entry(choice.map.0).or_default();
            if !there.contains(&chosen.ty) {
                there.push(chosen.ty);
            }
        }
    }
    let (mut maps, mut programs, mut setters, mut variables) =
        (String::new(), String::new(), String::new(), String::new());
    let mut expected = String::new();
    for (at, map) in object.maps.iter().enumerate() {
        // An arena's variables are in its memory, which is reached as a whole.
        let arena = map.kind == MapType::ARENA;
        if let Role::Data(data) = &map.role
            && !arena
        {
            section(object, MapId(at), map, data.read_only, &mut types, (&mut setters, &mut variables), &mut expected);
        } else if arena || matches!(map.role, Role::Declared | Role::Legacy) {
            let of = events.get(&at).map(Vec::as_slice).unwrap_or_default();
            one_map(map, of, &mut types, &mut maps);
            let _ = writeln!(expected, "        Expected::Map({:?}, {}, {}),", map.name, map.key_size, map.value_size);
        }
    }
    for program in &object.programs {
        let (name, method) = (&program.name, ident(&program.name));
        let _ = write!(
            programs,
            "        /// `{name}`, in the section `{}`.
        pub fn {method}(&self) -> Result<&'l Program> {{
            self.0.program({name:?})
        }}
",
            program.section
        );
        let _ = writeln!(expected, "        Expected::Program({name:?}),");
    }
    // Types first: a member that has moved says more than the map whose values are longer for it.
    let of_types: String = types.expected.values().map(|text| format!("        {text},\n")).collect();
    expected.insert_str(0, &of_types);
    let endian = if object.big_endian { "big" } else { "little" };
    let place = if object.big_endian { "7 - bit % 8" } else { "bit % 8" };
    let weight = if object.big_endian { "width - 1 - n" } else { "n" };
    let module = types_module(name);
    let types = &types.out;
    format!(
        "/// The eBPF programs of `{name}`, written by `ringfence-build`.
#[allow(dead_code, unused_imports, missing_docs, unreachable_pub, non_camel_case_types, non_upper_case_globals, non_snake_case)]
#[allow(clippy::all, clippy::pedantic, clippy::nursery)]
pub mod {module} {{
    use ::ringfence::typed::{{EventMap, Expected}};
    use ::ringfence::zerocopy::{{self, FromBytes, Immutable, IntoBytes}};
    use ::ringfence::{{Kernel, Links, Map, Object, Program, Result, Settings}};

    const _: () = assert!(cfg!(target_endian = \"{endian}\"), \"the object is for machines of the other byte order\");
    static BYTES: &[u8] = {bytes};
    const _: () = assert!(BYTES.len() == {len}, \"the object is not the one that this module was made from\");

    /// What this module relies on.
    pub const EXPECTED: &[Expected] = &[
{expected}    ];

    /// The object, and what is chosen before it is loaded.
    #[derive(Clone, Debug)]
    pub struct {main} {{
        object: Object,
        settings: Settings,
    }}
    impl {main} {{
        /// The object that is a part of this program.
        pub fn open() -> Result<Self> {{
            Self::from_object(::ringfence::parse({name:?}, BYTES)?)
        }}
        /// Another object, which must have the layout of this module.
        pub fn from_object(object: Object) -> Result<Self> {{
            ::ringfence::typed::check(&object, EXPECTED)?;
            Ok(Self {{ object, settings: Settings::new() }})
        }}
        /// What the file says.
        pub fn object(&self) -> &Object {{
            &self.object
        }}
        /// Everything else that can be chosen.
        pub fn settings(&mut self) -> &mut Settings {{
            &mut self.settings
        }}
        /// Loads it into the running kernel.
        pub fn load(self) -> Result<Loaded> {{
            let kernel = Kernel::running();
            let plan = ::ringfence::plan(&self.object, &kernel, &self.settings)?;
            Ok(Loaded(::ringfence::load(&plan, &kernel)?))
        }}
        fn set(&mut self, name: &str, value: &[u8]) {{
            self.settings = ::core::mem::take(&mut self.settings).global(name, value);
        }}
    }}
{setters}
    /// Programs and maps, loaded; gone when dropped.
    #[derive(Debug)]
    pub struct Loaded(pub ::ringfence::Loaded);
    impl Loaded {{
        /// Attaches every program whose section says where.
        pub fn attach(&self) -> Result<Links> {{
            self.0.attach_all()
        }}
        /// The maps.
        pub fn maps(&self) -> Maps<'_> {{
            Maps(&self.0)
        }}
        /// The programs.
        pub fn programs(&self) -> Programs<'_> {{
            Programs(&self.0)
        }}
    }}
{variables}
    /// The maps.
    #[derive(Clone, Copy, Debug)]
    pub struct Maps<'l>(&'l ::ringfence::Loaded);
    impl<'l> Maps<'l> {{
{maps}    }}

    /// The programs.
    #[derive(Clone, Copy, Debug)]
    pub struct Programs<'l>(&'l ::ringfence::Loaded);
    impl<'l> Programs<'l> {{
{programs}    }}
{types}
    fn read<T: FromBytes>(bytes: &[u8]) -> T {{
        T::read_from_bytes(bytes).unwrap_or_else(|_| zerocopy::FromZeros::new_zeroed())
    }}
    fn text(bytes: &[u8]) -> ::std::borrow::Cow<'_, str> {{
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        ::std::string::String::from_utf8_lossy(&bytes[..len])
    }}
    /// `width` bits from bit `first` on, counted as the compiler does.
    fn bits(bytes: &[u8], first: usize, width: usize) -> u64 {{
        (0..width).fold(0, |value, n| {{
            let bit = first + n;
            value | u64::from(bytes[bit / 8] >> ({place}) & 1) << ({weight})
        }})
    }}
    fn set_bits(bytes: &mut [u8], first: usize, width: usize, value: u64) {{
        for n in 0..width {{
            let bit = first + n;
            let mask = 1 << ({place});
            if value >> ({weight}) & 1 == 1 {{
                bytes[bit / 8] |= mask;
            }} else {{
                bytes[bit / 8] &= !mask;
            }}
        }}
    }}
}}
#[allow(unused_imports, unreachable_pub)]
pub use {module}::{main};
"
    )
}

fn types_module(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    ident(&plain)
}

/// A data section: setters before the load, getters after it.
fn section(
    object: &Object,
    id: MapId,
    map: &Map,
    read_only: bool,
    types: &mut Writer<'_>,
    (setters, variables): (&mut String, &mut String),
    expected: &mut String,
) {
    let globals: Vec<_> = object
        .globals
        .iter()
        .filter(|global| global.map == id && global.ty.is_some() && !global.name.contains('.'))
        // Literals and formats are no variables of anybody's.
        .filter(|global| !global.name.starts_with("__") && !global.name.starts_with("unused_"))
        .collect();
    if globals.is_empty() {
        return;
    }
    let method = ident(&map.section.trim_start_matches('.').replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    let before = types.take(&camel(&format!("{method}_settings")));
    let after = types.take(&camel(&method));
    let (mut set, mut get) = (String::new(), String::new());
    let setters_of: BTreeSet<String> = globals.iter().map(|global| format!("set_{}", global.name)).collect();
    for global in globals {
        let Some(ty) = global.ty else { continue };
        let name = &global.name;
        let shape = types.shape(ty, name);
        let shape = if shape.size == u64::from(global.size) { shape } else { Shape::bytes(u64::from(global.size)) };
        let (ty, bytes, of, wrap) = match shape.bool {
            true => ("bool", "&[u8::from(value)]", "u8", ".map(|value| value != 0)"),
            false => (shape.name.as_str(), "value.as_bytes()", shape.name.as_str(), ""),
        };
        let _ = write!(
            set,
            "        /// Sets `{name}`.
        pub fn set_{name}(&mut self, value: {ty}) -> &mut Self {{
            self.0.set({name:?}, {bytes});
            self
        }}
"
        );
        let _ = write!(
            get,
            "        /// `{name}` now.
        pub fn {}(&self) -> Result<{ty}> {{
            self.0.variable({name:?})?.get::<{of}>(){wrap}
        }}
",
            if setters_of.contains(name) { format!("{name}_") } else { ident(name) }
        );
        if !read_only {
            let value = if shape.bool { "u8::from(value)" } else { "value" };
            let _ = write!(
                get,
                "        /// Writes `{name}`.
        pub fn set_{name}(&self, value: {ty}) -> Result<()> {{
            self.0.variable({name:?})?.set::<{of}>(&{value})
        }}
"
            );
        }
        let _ = writeln!(expected, "        Expected::Global({name:?}, {}),", global.size);
    }
    let main = types.main.clone();
    let _ = write!(
        setters,
        "
    impl {main} {{
        /// The variables of `{section}`, before they are loaded.
        pub fn {method}(&mut self) -> {before}<'_> {{
            {before}(self)
        }}
    }}
    /// The variables of `{section}`, before they are loaded.
    #[derive(Debug)]
    pub struct {before}<'o>(&'o mut {main});
    impl {before}<'_> {{
{set}    }}
",
        section = map.section
    );
    let _ = write!(
        variables,
        "
    impl Loaded {{
        /// The variables of `{section}`.
        pub fn {method}(&self) -> {after}<'_> {{
            {after}(&self.0)
        }}
    }}
    /// The variables of `{section}`, loaded.
    #[derive(Clone, Copy, Debug)]
    pub struct {after}<'l>(&'l ::ringfence::Loaded);
    impl {after}<'_> {{
{get}    }}
",
        section = map.section
    );
}

/// The typed view of a map kind: its name, the sides that are its parameters, the method of `Map` that makes it.
fn view(kind: MapType) -> Option<(&'static str, &'static [Side], &'static str)> {
    use MapType as M;
    Some(match kind {
        M::HASH | M::ARRAY | M::LRU_HASH | M::LPM_TRIE => ("Table", &[Side::Key, Side::Value], "table"),
        M::PERCPU_HASH | M::PERCPU_ARRAY | M::LRU_PERCPU_HASH => ("PerCpuTable", &[Side::Key, Side::Value], "per_cpu"),
        M::ARRAY_OF_MAPS | M::HASH_OF_MAPS => ("MapOfMaps", &[Side::Key], "of_maps"),
        M::QUEUE | M::STACK => ("Queue", &[Side::Value], "queue"),
        M::BLOOM_FILTER => ("Bloom", &[Side::Value], "bloom"),
        M::SK_STORAGE | M::INODE_STORAGE | M::TASK_STORAGE | M::CGRP_STORAGE => ("Storage", &[Side::Value], "storage"),
        M::USER_RINGBUF => ("UserRing", &[], "user_ring"),
        M::ARENA => ("Arena", &[], "arena"),
        M::DEVMAP | M::DEVMAP_HASH => ("Devices", &[], "devices"),
        M::CPUMAP => ("Cpus", &[], "cpus"),
        _ => return None,
    })
}

#[derive(Clone, Copy)]
enum Side {
    Key,
    Value,
}

/// The Rust type of a map's keys or values.
fn side(map: &Map, side: Side, types: &mut Writer<'_>) -> String {
    let (ty, size, what) = match side {
        Side::Key => (map.key_type, map.key_size, "key"),
        Side::Value => (map.value_type, map.value_size, "value"),
    };
    let shape = ty.map(|ty| types.shape(ty, &format!("{}_{what}", map.name)));
    let untyped = || match side {
        // An array's keys are numbers, also where the source gives nothing but their size.
        Side::Key if matches!(map.kind, MapType::ARRAY | MapType::PERCPU_ARRAY | MapType::ARRAY_OF_MAPS) => {
            "u32".into()
        }
        _ => Shape::bytes(u64::from(size)).name,
    };
    shape.filter(|shape| shape.size == u64::from(size)).map_or_else(untyped, |shape| shape.name)
}

fn one_map(map: &Map, events: &[TypeId], types: &mut Writer<'_>, out: &mut String) {
    let (name, method) = (&map.name, ident(&map.name));
    let untyped = || ("Result<&'l Map>".to_owned(), format!("self.0.map({name:?})"));
    let (result, body) = if matches!(map.kind, MapType::RINGBUF | MapType::PERF_EVENT_ARRAY) {
        let of = match (map.value_type, events) {
            (Some(ty), _) if types.shape(ty, name).size > 4 => Some(ty),
            (_, [one]) => Some(*one),
            _ => None,
        };
        match of {
            Some(ty) => {
                let event = types.shape(ty, &format!("{name}_event")).name;
                (format!("Result<EventMap<'l, {event}>>"), format!("self.0.map({name:?}).map(EventMap::new)"))
            }
            None => {
                // Of several types, or of none that is known: all of them are there, the choice is the reader's.
                events.iter().for_each(|ty| drop(types.shape(*ty, &format!("{name}_event"))));
                untyped()
            }
        }
    } else if let Some((view, sides, open)) = view(map.kind) {
        let sides: Vec<_> = sides.iter().map(|of| side(map, *of, types)).collect();
        let of = if sides.is_empty() { String::new() } else { format!("<{}>", sides.join(", ")) };
        (format!("Result<::ringfence::{view}{of}>"), format!("self.0.map({name:?})?.{open}()"))
    } else {
        untyped()
    };
    let kind = map.kind;
    let _ = write!(
        out,
        "        /// `{name}`, a map of the kind {kind}.
        pub fn {method}(&self) -> {result} {{
            {body}
        }}
"
    );
}
