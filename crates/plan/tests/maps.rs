//! Maps: sizes, flags, contents, and what happens to those that cannot be created.

mod common;

use std::path::Path;

use common::{left_out, map, planned, problem, small_kernel};
use ringfence_kernel::Kernel;
use ringfence_plan::{Error, InnerMap, PlanMap, Settings, SlotTo, plan};
use ringfence_uapi::MapType;

const RDONLY_PROG: u32 = 1 << 7;
const MMAPABLE: u32 = 1 << 10;

#[test]
fn sizes_in_the_kernel_s_terms() {
    let Some(object) = common::object("maps.c", &[]) else { return };
    let kernel = Kernel::running();
    let plan = planned(&object, &kernel, &Settings::new());
    assert_eq!(map(&plan, "ring").max_entries, 2 * kernel.page_size());
    assert_eq!(map(&plan, "perf").max_entries, kernel.possible_cpus().unwrap());
    assert_eq!(map(&plan, "table").max_entries, 64);
    let plan = planned(&object, &kernel, &Settings::new().map_entries("ring", 1).map_entries("table", 5));
    assert_eq!((map(&plan, "ring").max_entries, map(&plan, "table").max_entries), (kernel.page_size(), 5));
}

#[test]
fn data_sections() {
    let Some(object) = common::object("maps.c", &[]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new());
    let rodata = map(&plan, "maps.rodata");
    assert_eq!(rodata.contents.as_ref().unwrap()[..4], [3, 0, 0, 0]);
    assert!(rodata.freeze);
    assert_eq!(rodata.flags & (RDONLY_PROG | MMAPABLE), RDONLY_PROG | MMAPABLE);
    let bss = map(&plan, "maps.bss");
    assert!(!bss.freeze);
    assert_eq!(bss.contents, None, "a new map is zero anyway");
    let counting = planned(&object, &Kernel::running(), &Settings::new().global("counter", 7u32));
    assert_eq!(map(&counting, "maps.bss").contents.as_ref().map(Vec::len), Some(bss.value_size as usize));
    assert_eq!(bss.flags, MMAPABLE);
    assert_eq!(map(&plan, ".data.alone").contents.as_ref().unwrap()[..], [9, 0, 0, 0]);
    assert_eq!(rodata.kernel_name, "maps.rodata");
    let at = plan.maps.iter().position(|map| map.name == "maps.rodata").unwrap();
    assert!(plan.programs.iter().all(|program| program.bind == [PlanMap(at)]));
}

#[test]
fn data_sections_of_old_kernels() {
    let Some(object) = common::object("maps.c", &[]) else { return };
    let (Some(old), Some(new)) = (small_kernel(&[]), small_kernel(&["-DMMAP"])) else { return };
    assert_eq!(map(&planned(&object, &old, &Settings::new()), "maps.bss").flags, 0);
    assert_eq!(map(&planned(&object, &new, &Settings::new()), "maps.bss").flags, MMAPABLE);
}

#[test]
fn types_only_where_the_kernel_takes_them() {
    let Some(object) = common::object("maps.c", &[]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new().fill_sizes(true));
    let types = |name: &str| (map(&plan, name).btf_key.0 != 0, map(&plan, name).btf_value.0 != 0);
    assert_eq!(types("table"), (true, true));
    assert_eq!(types("maps.rodata"), (false, true));
    for name in ["ring", "perf", "stacks", "outer", "filled"] {
        assert_eq!(types(name), (false, false), "{name}");
    }
    let plan = planned(&object, &Kernel::running(), &Settings::new().map_value_size("table", 24));
    assert_eq!((map(&plan, "table").btf_key.0, map(&plan, "table").btf_value.0), (0, 0));
}

#[test]
fn what_is_missing_stops_its_users_only() {
    let Some(object) = common::object("maps.c", &[]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new());
    let Error::Map { map: name, problem: text } = problem(&plan, "uses_unsized") else { panic!() };
    assert_eq!(name, "unsized");
    assert!(text.contains("max_entries is 0"), "{text}");
    assert_eq!(plan.problems.len(), 1);
    assert!(left_out(&plan, "stacks").contains("value_size is 0"));
    assert!(left_out(&plan, "outer").contains("inner maps"));
    assert!(left_out(&plan, "empty_ring").contains("max_entries is 0"));
}

#[test]
fn sizes_can_be_filled_in_and_it_is_said() {
    let Some(object) = common::object("maps.c", &[]) else { return };
    let kernel = Kernel::running();
    let plan = planned(&object, &kernel, &Settings::new().fill_sizes(true));
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    let filled = |name: &str| map(&plan, name).filled.join("; ");
    assert_eq!((map(&plan, "unsized").max_entries, filled("unsized")), (1, "max_entries 1".to_owned()));
    let bare = map(&plan, "bare");
    assert_eq!((bare.key_size, bare.value_size, bare.max_entries), (4, 8, 1));
    assert_eq!(filled("bare"), "key_size 4; value_size 8; max_entries 1");
    assert_eq!(map(&plan, "empty_ring").max_entries, kernel.page_size());
    assert_eq!(map(&plan, "stacks").value_size, 127 * 8);
    assert!(filled("stacks").contains("127 frames"));
    let inner = map(&plan, "outer").inner.as_ref().expect("it has a shape now");
    assert_eq!((inner.kind, inner.max_entries), (MapType::HASH, 16));
    assert!(filled("outer").contains("inner maps: hash"));
    assert_eq!((filled("table"), filled("perf"), filled("filled")), (String::new(), String::new(), String::new()));
}

#[test]
fn maps_in_maps() {
    let Some(object) = common::object("maps.c", &[]) else { return };
    let ring = InnerMap { kind: MapType::RINGBUF, key_size: 0, value_size: 0, max_entries: 5000, flags: 0 };
    let plan = planned(&object, &Kernel::running(), &Settings::new().map_inner("outer", ring));
    let rounded = 2 * Kernel::running().page_size();
    assert_eq!(map(&plan, "outer").inner.as_ref().unwrap().max_entries, rounded);
    let shape = InnerMap { kind: MapType::ARRAY, key_size: 4, value_size: 8, max_entries: 3, flags: 0 };
    let plan = planned(&object, &Kernel::running(), &Settings::new().map_inner("outer", shape));
    let inner = map(&plan, "outer").inner.as_ref().unwrap();
    assert_eq!((inner.kind, inner.value_size, inner.max_entries), (MapType::ARRAY, 8, 3));
    let at = plan.maps.iter().position(|map| map.name == "inner").unwrap();
    let slots = &map(&plan, "filled").slots;
    assert_eq!(slots.len(), 1);
    assert_eq!((slots[0].index, slots[0].target), (1, SlotTo::Map(PlanMap(at))));
}

#[test]
fn program_arrays_hold_what_is_loaded() {
    let Some(object) = common::object("maps.c", &[]) else { return };
    let slots = |settings: &Settings| {
        let plan = planned(&object, &Kernel::running(), settings);
        map(&plan, "jumps").slots.iter().map(|slot| (slot.index, slot.target)).collect::<Vec<_>>()
    };
    let program = |name| SlotTo::Program(common::function(&object, name));
    assert_eq!(slots(&Settings::new()), [(0, program("uses_table")), (1, program("uses_ring"))]);
    let only = Settings::new().only(["uses_ring"]);
    assert_eq!(slots(&only), [(1, program("uses_ring"))]);
    let plan = planned(&object, &Kernel::running(), &only);
    assert!(left_out(&plan, "jumps[0]").contains("uses_table"));
}

#[test]
fn pins() {
    let Some(object) = common::object("maps.c", &[]) else { return };
    let kernel = Kernel::running();
    let plan = planned(&object, &kernel, &Settings::new());
    assert_eq!(map(&plan, "pinned").pin.as_deref(), Some(Path::new("/sys/fs/bpf/pinned")));
    assert_eq!(map(&plan, "table").pin, None);
    let settings = Settings::new().pins("/run/pins").map_pin("table", "/run/t").map_reuse("ring", "/run/r");
    let plan = planned(&object, &kernel, &settings);
    assert_eq!(map(&plan, "pinned").pin.as_deref(), Some(Path::new("/run/pins/pinned")));
    assert!(!map(&plan, "pinned").must_exist && !map(&plan, "table").must_exist);
    assert_eq!(map(&plan, "ring").pin.as_deref(), Some(Path::new("/run/r")));
    assert!(map(&plan, "ring").must_exist);
}

#[test]
fn kinds_that_the_kernel_lacks() {
    let Some(object) = common::object("maps.c", &[]) else { return };
    let Some(kernel) = small_kernel(&[]) else { return };
    // The small kernel's enumeration ends at arrays.
    let plan = planned(&object, &kernel, &Settings::new());
    let text = problem(&plan, "uses_ring").to_string();
    assert!(text.contains("no maps of type ringbuf") && text.contains("5.8"), "{text}");
    assert!(left_out(&plan, "ring").contains("ringbuf"));
    map(&plan, "table");
}

#[test]
fn settings_that_do_not_go_with_a_map() {
    let Some(object) = common::object("maps.c", &[]) else { return };
    let refused = |settings: Settings| plan(&object, &Kernel::running(), &settings).expect_err("refused").to_string();
    let text = refused(Settings::new().map_entries("tabel", 1));
    assert!(text.contains("no map tabel") && text.contains("did you mean table"), "{text}");
    let shape = InnerMap { kind: MapType::ARRAY, key_size: 4, value_size: 8, max_entries: 3, flags: 0 };
    assert!(refused(Settings::new().map_inner("table", shape)).contains("holds no maps"));
    assert!(refused(Settings::new().map_entries("maps.bss", 2)).contains("one entry"));
    let text = refused(Settings::new().map("maps.rodata", false).global("limit", 1u32));
    assert!(text.contains("left out"), "{text}");
}
