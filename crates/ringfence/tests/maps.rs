//! Maps on the real kernel: typed and untyped, every kind that has entries.

mod common;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{load, load_maps, plan, program, returns};
use ringfence::{Kind, LpmKey, Map, MapType, ProgramType, Update};
use ringfence_plan::{MapPlan, PlanMap, SlotPlan, SlotTo};

const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;

fn one(kind: MapType, key: u32, value: u32, max: u32, flags: u32) -> Map {
    let mut plan = MapPlan::new("m", kind, key, value, max);
    plan.flags = flags;
    load_maps(vec![plan]).maps()[0].clone()
}

#[test]
fn a_hash_map_by_types() {
    let table = one(MapType::HASH, 4, 8, 100, 0).table::<u32, u64>().unwrap();
    assert_eq!(table.get(&1).unwrap(), None);
    table.insert(&1, &10).unwrap();
    assert_eq!(table.get(&1).unwrap(), Some(10));
    let again = table.update(&1, &11, Update::New).unwrap_err();
    assert!(again.to_string().contains("there already"), "{again}");
    let missing = table.update(&2, &11, Update::Existing).unwrap_err();
    assert!(missing.to_string().contains("not there"), "{missing}");
    table.update(&1, &12, Update::Existing).unwrap();
    if ringfence::Kernel::running().version_code() >= 5 << 16 | 14 << 8 {
        assert_eq!(table.take(&1).unwrap(), Some(12));
        assert_eq!(table.take(&1).unwrap(), None);
    } else {
        assert_eq!(table.take(&1).unwrap_err().kind(), Kind::Unsupported);
        assert!(table.remove(&1).unwrap());
    }
    assert!(!table.remove(&1).unwrap());
    table.insert_all((0..100).map(|n| (n, u64::from(n) * 3))).unwrap();
    let full = table.insert(&100, &0).unwrap_err();
    assert!(full.to_string().contains("full") && full.to_string().contains("100"), "{full}");
    let all: BTreeMap<u32, u64> = table.iter().unwrap().map(Result::unwrap).collect();
    assert_eq!(all, (0..100).map(|n| (n, u64::from(n) * 3)).collect());
    assert!(table.remove(&99).unwrap());
    assert_eq!(table.iter().unwrap().count(), 99);
}

#[test]
fn sizes_are_compared_when_a_view_is_opened() {
    let map = one(MapType::HASH, 4, 8, 10, 0);
    let error = map.table::<u64, u64>().unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("key has 4 bytes, but u64 has 8"), "{error}");
    assert!(map.table::<u32, u32>().is_err());
    assert!(map.per_cpu::<u32, u64>().unwrap_err().to_string().contains("`table`"));
    assert!(map.queue::<u64>().is_err());
    let per_cpu = one(MapType::PERCPU_HASH, 4, 8, 10, 0);
    assert!(per_cpu.table::<u32, u64>().unwrap_err().to_string().contains("`per_cpu`"));
    let short = map.lookup(&[0; 3]).unwrap_err();
    assert!(short.to_string().contains("4 bytes"), "{short}");
}

#[test]
fn large_maps_are_read_in_few_calls() {
    const COUNT: u32 = 200_000;
    for (kind, flags) in [(MapType::HASH, 0), (MapType::HASH, NO_PREALLOC), (MapType::LRU_HASH, 0)] {
        let map = one(kind, 4, 4, 2 * COUNT, flags);
        let table = map.table::<u32, u32>().unwrap();
        table.insert_all((0..COUNT).map(|n| (n, !n))).unwrap();
        let mut entries = map.entries().unwrap();
        let mut seen = vec![false; COUNT as usize];
        while let Some((key, value)) = entries.next().unwrap() {
            let (key, value) =
                (u32::from_ne_bytes(key.try_into().unwrap()), u32::from_ne_bytes(value.try_into().unwrap()));
            assert_eq!(value, !key);
            assert!(!std::mem::replace(&mut seen[key as usize], true), "{key} came twice");
        }
        assert!(seen.iter().all(|seen| *seen), "{kind}: an entry is missing");
        assert!(entries.system_calls() <= 13, "{kind}: {} calls", entries.system_calls());
    }
}

#[test]
fn reading_ends_while_others_write() {
    for kind in [MapType::HASH, MapType::LRU_HASH, MapType::LPM_TRIE] {
        let trie = kind == MapType::LPM_TRIE;
        let map = one(kind, if trie { 8 } else { 4 }, 4, 4096, if trie { NO_PREALLOC } else { 0 });
        let key =
            |n: u32| if trie { [32u32.to_ne_bytes(), n.to_be_bytes()].concat() } else { n.to_ne_bytes().to_vec() };
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut n = 0u32;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_add(1);
                    map.update(&key(n % 5000), &[0; 4], Update::Any).ok();
                    map.delete(&key((n.wrapping_mul(7)) % 5000)).ok();
                }
            });
            for _ in 0..100 {
                let mut entries = map.entries().unwrap();
                let mut count = 0;
                while entries.next().unwrap().is_some() {
                    count += 1;
                }
                assert!(count <= 3 * 4096, "{kind}: {count} entries");
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn arrays_with_and_without_memory() {
    for flags in [0, MMAPABLE] {
        let map = one(MapType::ARRAY, 4, 12, 1000, flags);
        let table = map.table::<u32, [u32; 3]>().unwrap();
        table.insert(&999, &[1, 2, 3]).unwrap();
        table.insert(&7, &[4, 5, 6]).unwrap();
        let mut entries = map.entries().unwrap();
        let mut filled = Vec::new();
        let mut count = 0u32;
        while let Some((key, value)) = entries.next().unwrap() {
            assert_eq!(key, count.to_ne_bytes());
            count += 1;
            if value.iter().any(|byte| *byte != 0) {
                filled.push((key.to_vec(), value.to_vec()));
            }
        }
        assert_eq!(count, 1000);
        assert_eq!(filled.len(), 2);
        assert_eq!(filled[1].1[8], 3);
        assert_eq!(entries.system_calls() == 0, flags == MMAPABLE);
        assert!(table.insert(&1000, &[0; 3]).unwrap_err().to_string().contains("beyond its end"));
        assert!(table.remove(&1).is_err());
    }
}

#[test]
fn a_value_for_each_cpu() {
    let cpus = ringfence_sys::possible_cpus().unwrap() as usize;
    for kind in [MapType::PERCPU_ARRAY, MapType::PERCPU_HASH, MapType::LRU_PERCPU_HASH] {
        let map = one(kind, 4, 4, 64, 0);
        let table = map.per_cpu::<u32, u32>().unwrap();
        let values: Vec<u32> = (0..cpus as u32).map(|cpu| cpu + 100).collect();
        table.insert(&3, &values).unwrap();
        let read = table.get(&3).unwrap().unwrap();
        assert_eq!(read.len(), cpus);
        assert_eq!(read.iter().collect::<Vec<_>>(), values);
        assert_eq!(format!("{read:?}"), format!("{values:?}"));
        table.fill(&4, &9).unwrap();
        let all: BTreeMap<u32, Vec<u32>> =
            table.iter().unwrap().map(Result::unwrap).map(|(k, v)| (k, v.iter().collect())).collect();
        assert_eq!(all[&3], values);
        assert_eq!(all[&4], vec![9; cpus]);
        assert_eq!(all.len(), if kind == MapType::PERCPU_ARRAY { 64 } else { 2 });
        assert!(table.insert(&5, &vec![0; cpus + 1]).is_err());
    }
}

#[test]
fn the_longest_prefix_wins() {
    let map = one(MapType::LPM_TRIE, 8, 4, 100, NO_PREALLOC);
    let table = map.table::<LpmKey<[u8; 4]>, u32>().unwrap();
    table.insert(&LpmKey::v4(Ipv4Addr::new(10, 0, 0, 0), 8), &1).unwrap();
    table.insert(&LpmKey::v4(Ipv4Addr::new(10, 1, 0, 0), 16), &2).unwrap();
    let look = |a, b, c, d| table.get(&LpmKey::v4(Ipv4Addr::new(a, b, c, d), 32)).unwrap();
    assert_eq!(look(10, 1, 2, 3), Some(2));
    assert_eq!(look(10, 2, 2, 3), Some(1));
    assert_eq!(look(11, 2, 2, 3), None);
    let prefixes: Vec<u32> = table.iter().unwrap().map(|entry| entry.unwrap().0.prefix()).collect();
    assert_eq!(prefixes.len(), 2);
    assert!(prefixes.contains(&8) && prefixes.contains(&16));
}

#[test]
fn queues_and_stacks() {
    let queue = one(MapType::QUEUE, 0, 8, 3, 0).queue::<u64>().unwrap();
    let stack = one(MapType::STACK, 0, 8, 3, 0).queue::<u64>().unwrap();
    for both in [&queue, &stack] {
        assert_eq!(both.pop().unwrap(), None);
        (1..=3).for_each(|n| both.push(&n).unwrap());
        assert!(both.push(&4).unwrap_err().to_string().contains("full"));
    }
    assert_eq!((queue.peek().unwrap(), queue.pop().unwrap(), queue.pop().unwrap()), (Some(1), Some(1), Some(2)));
    assert_eq!((stack.peek().unwrap(), stack.pop().unwrap(), stack.pop().unwrap()), (Some(3), Some(3), Some(2)));
    let map = one(MapType::QUEUE, 0, 8, 3, 0);
    assert!(map.entries().is_err());
}

#[test]
fn many_keys_at_once_where_the_kernel_has_no_batch() {
    let map = one(MapType::HASH, 4, 4, 100, 0);
    let keys: Vec<u8> = (0..50u32).flat_map(u32::to_ne_bytes).collect();
    map.update_many(&keys, &keys, Update::Any).unwrap();
    map.delete(&10u32.to_ne_bytes()).unwrap();
    map.delete_many(&keys).unwrap();
    assert!(map.entries().unwrap().next().unwrap().is_none(), "a key that was missing ended the batch");
}

#[test]
fn maps_in_maps_and_programs_in_arrays() {
    let mut plan = plan("slots");
    let mut outer = MapPlan::new("outer", MapType::ARRAY_OF_MAPS, 4, 4, 4);
    outer.inner = Some(Box::new(MapPlan::new("inner", MapType::HASH, 4, 8, 10)));
    outer.slots = vec![SlotPlan { index: 2, target: SlotTo::Map(PlanMap(0)) }];
    let mut calls = MapPlan::new("calls", MapType::PROG_ARRAY, 4, 4, 4);
    calls.slots = vec![SlotPlan { index: 1, target: SlotTo::Program(ringfence_object::FunctionId(0)) }];
    plan.maps = vec![MapPlan::new("first", MapType::HASH, 4, 8, 10), outer, calls];
    plan.programs = vec![program("called", ProgramType::SOCKET_FILTER, &returns(7))];
    let loaded = load(&plan);
    let id = |map: &str, key: u32| {
        let value = loaded.map(map).unwrap().lookup(&key.to_ne_bytes()).unwrap();
        value.map(|value| u32::from_ne_bytes(value.try_into().unwrap()))
    };
    assert_eq!(id("outer", 2), Some(loaded.map("first").unwrap().id()));
    assert_eq!(id("outer", 1), None);
    assert_eq!(id("calls", 1), Some(loaded.program("called").unwrap().info().unwrap().id));
    let other = Map::create("other", MapType::HASH, 4, 8, 10).unwrap();
    loaded.map("outer").unwrap().set_map(&0u32.to_ne_bytes(), &other).unwrap();
    let wrong = Map::create("wrong", MapType::HASH, 8, 8, 10).unwrap();
    let error = loaded.map("outer").unwrap().set_map(&0u32.to_ne_bytes(), &wrong).unwrap_err();
    assert!(error.to_string().contains("shape"), "{error}");
    let mut entries = loaded.map("outer").unwrap().entries().unwrap();
    let mut count = 0;
    while entries.next().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 2, "empty slots are no entries");
}

#[test]
fn a_frozen_map_says_so() {
    let mut data = MapPlan::new("t.rodata", MapType::ARRAY, 4, 8, 1);
    data.contents = Some(42u64.to_ne_bytes().to_vec());
    data.freeze = true;
    let loaded = load_maps(vec![data]);
    let table = loaded.map("t.rodata").unwrap().table::<u32, u64>().unwrap();
    assert_eq!(table.get(&0).unwrap(), Some(42));
    let error = table.insert(&0, &1).unwrap_err();
    assert!(error.to_string().contains("frozen"), "{error}");
}

#[test]
fn names_that_are_wrong_get_a_hint() {
    let loaded = load_maps(vec![MapPlan::new("connections", MapType::HASH, 4, 4, 1)]);
    let error = loaded.map("conections").unwrap_err();
    assert!(error.to_string().contains("there is connections"), "{error}");
}

#[test]
fn data_sections_are_found_by_their_own_name() {
    // Eight bytes of the object's name are in the maps' names.
    let loaded = common::load_object("sections_net", ringfence::Settings::new().only(["packet"]));
    assert_eq!(loaded.map(".bss").unwrap().name(), "sections.bss");
    assert_eq!(loaded.map("sections.bss").unwrap().name(), "sections.bss");
    assert!(loaded.map(".data").is_err());
}

#[test]
fn members_are_compared_with_the_objects_types() {
    let loaded = common::load_object("shapes", ringfence::Settings::new());
    let map = loaded.map("traffic").unwrap();
    map.check_value(&[("packets", 0), ("bytes", 8), ("last.cpu", 20)]).unwrap();
    map.check_key(&[("address", 0), ("port", 4)]).unwrap();
    let error = map.check_value(&[("packets", 0), ("bytes", 16)]).unwrap_err();
    assert!(error.to_string().contains("`bytes` of its value is at byte 8, not 16"), "{error}");
    assert!(error.to_string().starts_with("shapes: map `traffic`"), "{error}");
    let error = map.check_key(&[("prot", 4)]).unwrap_err();
    assert!(error.to_string().contains("no member `prot`"), "{error}");
    one(MapType::HASH, 4, 4, 1, 0).check_value(&[("anything", 7)]).unwrap();
}
