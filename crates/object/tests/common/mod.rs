//! Objects for tests: compiled from `tests/c`, or given by environment.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::path::Path;

use ringfence_object::{Error, Function, FunctionId, Map, MapId, Object, Role, SlotTarget, Target};

/// Compiles a file of `tests/c`.
pub fn compile(source: &str, flags: &[&str]) -> Option<Vec<u8>> {
    ringfence_testing::compile(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(source), flags)
}

/// Compiles and reads a file of `tests/c` that is sound.
pub fn object(source: &str, flags: &[&str]) -> Option<Object> {
    let name = source.replace(".c", ".o");
    Some(Object::parse(&name, &compile(source, flags)?).unwrap_or_else(|error| panic!("{error}")))
}

/// Compiles and reads a file of `tests/c` that is not.
pub fn refused(source: &str, flags: &[&str]) -> Option<Error> {
    Some(Object::parse("bad.o", &compile(source, flags)?).expect_err("it is refused"))
}

pub fn map<'a>(object: &'a Object, name: &str) -> (MapId, &'a Map) {
    let at = object.maps.iter().position(|map| map.name == name);
    let at = at.unwrap_or_else(|| panic!("no map {name} among {:?}", names(&object.maps, |m| &m.name)));
    (MapId(at), &object.maps[at])
}

pub fn function<'a>(object: &'a Object, name: &str) -> &'a Function {
    let found = object.functions.iter().find(|function| function.name == name);
    found.unwrap_or_else(|| panic!("no function {name} among {:?}", names(&object.functions, |f| &f.name)))
}

pub fn names<T>(list: &[T], name: impl Fn(&T) -> &str) -> Vec<&str> {
    list.iter().map(name).collect()
}

/// What a function refers to, as text: `map first`, `data .bss+8`, `call sub`, `address sub`, `extern NAME`.
pub fn targets(object: &Object, name: &str) -> Vec<String> {
    let text = |target: Target| match target {
        Target::Map(id) => format!("map {}", object.maps[id.0].name),
        Target::Data { map, offset } => format!("data {}+{offset}", object.maps[map.0].section),
        Target::Call(id) => format!("call {}", object.functions[id.0].name),
        Target::Address(id) => format!("address {}", object.functions[id.0].name),
        Target::Extern(id) => format!("extern {}", object.externs[id.0].name),
        Target::JumpTable { offset, size } => format!("table {offset}+{size}"),
    };
    function(object, name).relocs.iter().map(|reloc| text(reloc.target)).collect()
}

/// Where the section headers of a little-endian file are.
pub struct Headers {
    pub start: usize,
    pub list: Vec<usize>,
    names: usize,
}

impl Headers {
    pub fn of(bytes: &[u8]) -> Headers {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
        let half = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes")));
        let start = word(40);
        let list: Vec<_> = (0..half(60)).map(|n| start + n * 64).collect();
        let names = word(list[half(62)] + 24);
        Headers { start, list, names }
    }

    pub fn kind(&self, bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("4 bytes"))
    }

    pub fn named(&self, bytes: &[u8], at: usize, name: &[u8]) -> bool {
        let offset = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) as usize;
        bytes[self.names + offset..].starts_with(name)
    }
}

/// Whatever refers to something refers to something that is there: users of an object rely on it.
pub fn check_indexes(object: &Object) {
    let function_is_there = |id: FunctionId| assert!(id.0 < object.functions.len(), "{id:?}");
    let map_is_there = |id: MapId| assert!(id.0 < object.maps.len(), "{id:?}");
    for function in &object.functions {
        for reloc in &function.relocs {
            let insn = function.insns.get(reloc.insn).expect("a relocation's instruction is there");
            assert!(insn.code == 0x85 || function.insns.get(reloc.insn + 1).is_some(), "{insn}");
            match reloc.target {
                Target::Map(id) | Target::Data { map: id, .. } => map_is_there(id),
                Target::Call(id) | Target::Address(id) => function_is_there(id),
                Target::Extern(id) => assert!(id.0 < object.externs.len()),
                Target::JumpTable { offset, size } => assert!((offset + size) as usize <= object.jump_tables.len()),
            }
        }
        assert!(function.relocs.is_sorted_by_key(|reloc| reloc.insn));
        assert!(function.core.iter().all(|core| core.insn < function.insns.len()));
        assert!(function.lines.iter().all(|line| line.insn < function.insns.len()));
        assert!(!function.insns.is_empty() || function.problem.is_some(), "{} is empty", function.name);
    }
    for program in &object.programs {
        function_is_there(program.function);
        program.exception_callback.into_iter().for_each(function_is_there);
    }
    for map in &object.maps {
        for slot in &map.slots {
            match slot.target {
                SlotTarget::Map(id) => map_is_there(id),
                SlotTarget::Function(id) => function_is_there(id),
            }
        }
        match &map.role {
            Role::Data(data) => data.functions.iter().for_each(|(_, id)| function_is_there(*id)),
            Role::StructOps(ops) => {
                assert_eq!(ops.bytes.len(), map.value_size as usize);
                ops.functions.iter().for_each(|(_, id)| function_is_there(*id));
            }
            Role::Declared | Role::Legacy | Role::Kconfig => {}
        }
    }
    for global in &object.globals {
        map_is_there(global.map);
    }
}
