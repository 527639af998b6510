//! Maps and data sections, in objects compiled here.

mod common;

use common::{compile, function, map, names, object, refused, targets};
use ringfence_btf::Linkage;
use ringfence_object::{FunctionId, Map, Object, Role, SlotTarget};
use ringfence_uapi::MapType;

#[test]
fn every_attribute() {
    let Some(object) = object("maps.c", &[]) else { return };
    let btf = object.btf.as_ref().expect("it has types");
    // By their place in the section, which is the compiler's choice.
    let mut found = names(&object.maps, |m| &m.name);
    found.sort_unstable();
    assert_eq!(found, ["all", "arena", "bloom", "jumps", "one", "outer", "rings", "two"]);

    let (_, all) = map(&object, "all");
    assert_eq!((all.kind, all.max_entries, all.flags), (MapType::HASH, 1024, 1));
    assert_eq!((all.numa_node, all.pin_by_name), (Some(2), true));
    assert_eq!((all.key_size, all.value_size), (8, 48));
    let name = |id: Option<ringfence_btf::TypeId>| btf.get(id.expect("it is typed")).expect("the type is there").name;
    assert_eq!((name(all.key_type), name(all.value_type)), ("key", "value"));

    let (_, bloom) = map(&object, "bloom");
    assert_eq!((bloom.key_size, bloom.value_size, bloom.map_extra), (0, 8, 5));
    assert_eq!((bloom.key_type, bloom.value_type, bloom.numa_node), (None, None, None));

    let (one, _) = map(&object, "one");
    let (two, _) = map(&object, "two");
    let (_, outer) = map(&object, "outer");
    assert_eq!((outer.kind, outer.value_size), (MapType::ARRAY_OF_MAPS, 4));
    let inner = outer.inner.as_deref().expect("its inner maps have a shape");
    assert_eq!((inner.kind, inner.max_entries, inner.key_size, inner.value_size), (MapType::ARRAY, 4, 4, 8));
    assert_eq!(inner.name, "outer.inner");
    let slots: Vec<_> = outer.slots.iter().map(|slot| (slot.index, slot.target)).collect();
    assert_eq!(slots, [(1, SlotTarget::Map(two)), (6, SlotTarget::Map(one))]);

    let (_, rings) = map(&object, "rings");
    let inner = rings.inner.as_deref().expect("its inner maps have a shape");
    // Rounding to pages needs the machine, and is not done here.
    assert_eq!((inner.kind, inner.max_entries), (MapType::RINGBUF, 5000));

    let (_, jumps) = map(&object, "jumps");
    assert!(jumps.inner.is_none());
    let program =
        |name: &str| FunctionId(object.functions.iter().position(|f| f.name == name).expect("the function is there"));
    let slots: Vec<_> = jumps.slots.iter().map(|slot| (slot.index, slot.target)).collect();
    assert_eq!(slots, [(0, SlotTarget::Function(program("tail"))), (3, SlotTarget::Function(program("tail_two")))]);
}

#[test]
fn arena_variables_are_the_contents_of_the_arena() {
    let Some(object) = object("maps.c", &[]) else { return };
    let (id, arena) = map(&object, "arena");
    assert_eq!((arena.kind, arena.map_extra, arena.flags), (MapType::ARENA, 1 << 44, 1024));
    let Role::Data(data) = &arena.role else { panic!("{:?}", arena.role) };
    assert!(data.arena && data.datasec.is_some());
    assert_eq!(data.bytes[..16], [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let global = object.globals.iter().find(|global| global.name == "in_arena").expect("the variable is listed");
    assert_eq!((global.map, global.offset, global.size), (id, 0, 24));
    assert_eq!(targets(&object, "tail"), ["data .maps+0"]);
}

#[test]
fn a_map_that_cannot_be_understood_names_itself_and_the_attribute() {
    for (number, attribute, cause) in [
        (1, "maximum", "no such attribute"),
        (2, "", "__uint(type"),
        (3, "pinning", "neither"),
        (4, "key", "8"),
        (5, "max_entries", "__uint(max_entries"),
        (6, "values", "program array"),
        (7, "values", "cannot hold maps"),
        (8, "values", "struct of a map"),
        (9, "", "static"),
        (10, "values", "4 bytes"),
        (11, "pinning", "inside of a map"),
        (12, "", "bpftool gen object"),
        (13, "value", "no size"),
        (14, "", "declared as"),
    ] {
        let Some(error) = refused("bad_maps.c", &[&format!("-DBAD={number}")]) else { return };
        let text = error.to_string();
        let place = if attribute.is_empty() { "map bad".to_owned() } else { format!("attribute {attribute}") };
        assert!(text.contains("bad.o, map bad") && text.contains(&place) && text.contains(cause), "{number}: {text}");
    }
}

#[test]
fn data_sections_are_maps() {
    let Some(bytes) = compile("relocs.c", &[]) else { return };
    let object = Object::parse("/some/where/a-long-name.bpf.o", &bytes).expect("it is sound");
    assert_eq!(object.name, "a-long-name");
    // libbpf's names: 15 bytes with at least 7 for the section; custom sections by their own name.
    let mut found = names(&object.maps, |m| &m.name);
    found.sort_unstable();
    let mut expected = [
        "first",
        "second",
        "a_long_n.data",
        ".data.custom",
        "a_long_n.bss",
        ".bss.custom",
        "a_long_n.rodata",
        ".rodata.custom",
        ".rodata.str1.1",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);

    let data = |map: &Map| match &map.role {
        Role::Data(data) => data.clone(),
        other => panic!("{other:?}"),
    };
    let section = |name: &str| object.maps.iter().find(|m| m.section == name).expect("it has a map");
    let rodata = section(".rodata");
    assert_eq!((rodata.kind, rodata.key_size, rodata.value_size, rodata.max_entries), (MapType::ARRAY, 4, 4, 1));
    assert!(data(rodata).read_only && data(rodata).exported && !data(rodata).bss);
    assert_eq!(data(rodata).bytes, [10, 0, 0, 0]);
    assert_eq!(rodata.flags, 1 << 7);
    assert_eq!(rodata.value_type, data(rodata).datasec);
    let strings = data(section(".rodata.str1.1"));
    assert!(strings.read_only && !strings.exported && strings.datasec.is_none());
    assert_eq!(strings.bytes, b"opened %d\0");
    let bss = section(".bss");
    assert!(data(bss).bss && !data(bss).read_only && data(bss).bytes.iter().all(|byte| *byte == 0));
    assert_eq!(bss.value_size, 40);
    assert_eq!(data(section(".data.custom")).bytes, [11, 0, 0, 0]);

    let global = |name: &str| object.globals.iter().find(|global| global.name == name).expect("it is listed");
    for (name, section, size, is_static) in [
        ("in_data", ".data", 4, false),
        ("hidden_data", ".data", 4, true),
        ("of_us", ".data", 4, true),
        ("in_bss", ".bss", 8, false),
        ("static_bss", ".bss", 32, true),
        ("in_rodata", ".rodata", 4, false),
        ("custom_bss", ".bss.custom", 4, false),
    ] {
        let global = global(name);
        assert_eq!((object.maps[global.map.0].section.as_str(), global.size), (section, size), "{name}");
        assert_eq!(global.is_static, is_static, "{name}");
        assert!(global.ty.is_some(), "{name}");
    }
    let value = |name: &str| {
        let global = global(name);
        data(&object.maps[global.map.0]).bytes[global.offset as usize]
    };
    assert_eq!((value("in_data"), value("hidden_data"), value("of_us")), (7, 8, 9));
}

/// Compilers leave sizes and offsets of global variables at zero.
#[test]
fn datasec_layouts_are_complete() {
    let Some(object) = object("relocs.c", &[]) else { return };
    let layout = object.datasecs.iter().find(|datasec| datasec.name == ".data").expect("it has a layout");
    assert_eq!(layout.size, 12);
    let mut offsets: Vec<_> = layout.vars.iter().map(|var| (var.offset, var.size)).collect();
    assert_eq!(offsets.len(), 3);
    offsets.dedup();
    assert_eq!(offsets, [(0, 4), (4, 4), (8, 4)]);
    let btf = object.btf.as_ref().expect("it has types");
    let linkage = |name: &str| {
        layout.vars.iter().find(|var| btf.get(var.ty).is_ok_and(|ty| ty.name == name)).expect("it is listed").linkage
    };
    assert_eq!(linkage("in_data"), Linkage::Global);
    assert_eq!(linkage("hidden_data"), Linkage::Static);
    assert_eq!(linkage("of_us"), Linkage::Static);
}

#[test]
fn globals_without_types_are_known_by_their_symbols() {
    let Some(bytes) = compile("pointers.c", &["-g0"]) else { return };
    let object = Object::parse("pointers.o", &bytes).expect("it is sound");
    let pad = object.globals.iter().find(|global| global.name == "pad").expect("it is listed");
    assert_eq!((pad.ty, pad.size, pad.is_static), (None, 8, false));
    assert!(object.datasecs.is_empty());
}

#[test]
fn legacy_maps_of_three_lengths() {
    let Some(object) = object("legacy.c", &[]) else { return };
    let shape = |name: &str| {
        let (_, map) = map(&object, name);
        assert!(matches!(map.role, Role::Legacy));
        (map.kind, map.key_size, map.value_size, map.max_entries, map.flags, map.pin_by_name)
    };
    assert_eq!(shape("counts"), (MapType::HASH, 4, 8, 100, 1, false));
    assert_eq!(shape("oldest"), (MapType::ARRAY, 4, 4, 3, 0, false));
    assert_eq!(shape("rust"), (MapType::PERF_EVENT_ARRAY, 4, 4, 0, 0, false));
    assert_eq!(shape("pinned"), (MapType::HASH, 4, 4, 2, 0, true));
    assert_eq!(targets(&object, "program"), ["map counts", "map oldest", "map rust", "map pinned"]);
    let (_, counts) = map(&object, "counts");
    assert!(counts.key_type.is_some() && counts.value_type.is_some());
    let (_, oldest) = map(&object, "oldest");
    assert!(oldest.key_type.is_none() && oldest.value_type.is_none());

    let Some(error) = refused("legacy.c", &["-DUNKNOWN"]) else { return };
    assert!(error.to_string().contains("map unknown: its definition has 77 in word 5"), "{error}");
}

#[test]
fn legacy_maps_need_no_types() {
    let Some(object) = object("legacy.c", &["-g0"]) else { return };
    assert_eq!(names(&object.maps, |m| &m.name), ["counts", "oldest", "rust", "pinned"]);
    assert_eq!(function(&object, "program").btf, None);
}

#[test]
fn struct_ops_hold_programs() {
    let Some(object) = object("struct_ops.c", &[]) else { return };
    assert_eq!(names(&object.maps, |m| &m.name), ["plain", "linked", "off"]);
    let ops = |name: &str| {
        let (_, map) = map(&object, name);
        assert_eq!((map.kind, map.key_size, map.value_size, map.max_entries), (MapType::STRUCT_OPS, 4, 48, 1));
        let Role::StructOps(ops) = &map.role else { panic!("{:?}", map.role) };
        let functions = ops.functions.iter().map(|(at, id)| (*at, object.functions[id.0].name.as_str()));
        assert_eq!((ops.type_name.as_str(), map.flags), ("some_ops", if ops.link { 1 << 13 } else { 0 }));
        (functions.collect::<Vec<_>>(), ops.link, ops.autocreate, ops.bytes.clone())
    };
    let (functions, link, autocreate, bytes) = ops("plain");
    assert_eq!(functions, [(8, "first_init"), (16, "window")]);
    assert_eq!((link, autocreate), (false, true));
    assert_eq!((bytes[0], &bytes[32..37]), (5, &b"plain"[..]));
    let (functions, link, autocreate, _) = ops("linked");
    assert_eq!((&functions[..], link, autocreate), (&[(8, "second_init")][..], true, true));
    let (functions, link, autocreate, _) = ops("off");
    assert_eq!((&functions[..], link, autocreate), (&[(16, "window")][..], true, false));
}

#[test]
fn addresses_in_data_are_noticed() {
    let Some(object) = object("pointers.c", &[]) else { return };
    let data = object.maps.iter().find_map(|map| match &map.role {
        Role::Data(data) if !data.functions.is_empty() => Some(data),
        _ => None,
    });
    let [(_, function)] = data.expect("a function's address is in data").functions[..] else { panic!("one address") };
    assert_eq!(object.functions[function.0].name, "one");
    assert!(object.notices.iter().any(|notice| notice.contains("holds 3 addresses")), "{:?}", object.notices);
}

#[test]
fn maps_without_types_are_refused_with_the_command() {
    let Some(error) = refused("maps.c", &["-g0"]) else { return };
    let text = error.to_string();
    assert!(text.contains("section .maps") && text.contains("clang -target bpf -O2 -g -c"), "{text}");
}
