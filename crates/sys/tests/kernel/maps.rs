use std::os::fd::{AsFd, OwnedFd};

use ringfence_sys::{self as sys, Errno, MapFd, MapMemory, flags};
use ringfence_uapi::MapType;

use crate::{map, map_with, program, raise_memlock, release};

#[test]
fn hash_by_single_elements() {
    let map = map(MapType::HASH, 4, 8, 16);
    assert_eq!((map.shape().kind, map.shape().key_size, map.shape().value_bytes()), (MapType::HASH, 4, Ok(8)));
    let mut value = [0; 8];
    assert_eq!(map.lookup(&1u32.to_ne_bytes(), &mut value, 0), Err(Errno::NOENT));
    for key in 1u32..=3 {
        map.update(&key.to_ne_bytes(), &u64::from(key * 10).to_ne_bytes(), flags::BPF_NOEXIST).unwrap();
    }
    assert_eq!(map.update(&1u32.to_ne_bytes(), &[0; 8], flags::BPF_NOEXIST), Err(Errno::EXIST));
    map.lookup(&2u32.to_ne_bytes(), &mut value, 0).unwrap();
    assert_eq!(u64::from_ne_bytes(value), 20);
    let mut seen = Vec::new();
    let (mut key, mut next) = (None, [0; 4]);
    while map.next_key(key.as_ref().map(<[u8; 4]>::as_slice), &mut next).unwrap() {
        seen.push(u32::from_ne_bytes(next));
        key = Some(next);
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3]);
    map.delete(&2u32.to_ne_bytes()).unwrap();
    assert_eq!(map.delete(&2u32.to_ne_bytes()), Err(Errno::NOENT));
    if release() >= (5, 14) {
        map.lookup_and_delete(&3u32.to_ne_bytes(), &mut value, 0).unwrap();
        assert_eq!(u64::from_ne_bytes(value), 30);
    }
    let info = map.info().unwrap();
    assert_eq!((info.name.as_str(), info.id, info.max_entries), ("rf_test", map.shape().id, 16));
}

#[test]
fn wrong_lengths_never_reach_the_kernel() {
    let map = map(MapType::PERCPU_ARRAY, 4, 12, 4);
    let cpus = sys::possible_cpus().unwrap() as usize;
    // Each CPU's value is rounded up to 8 bytes.
    assert_eq!(map.shape().value_bytes(), Ok(16 * cpus));
    let key = 0u32.to_ne_bytes();
    assert_eq!(map.lookup(&key, &mut [0; 12], 0), Err(Errno::MSGSIZE));
    assert_eq!(map.lookup(&[0; 3], &mut vec![0; 16 * cpus], 0), Err(Errno::MSGSIZE));
    assert_eq!(map.update(&key, &[0; 12], 0), Err(Errno::MSGSIZE));
    assert_eq!(map.next_key(None, &mut [0; 8]), Err(Errno::MSGSIZE));
    assert_eq!(map.delete(&[]), Err(Errno::MSGSIZE));
    let mut position = map.batch_start();
    let mut values = vec![0; 16 * cpus];
    assert_eq!(map.lookup_batch(&mut position, &mut [0; 8], &mut values, 0), Err(Errno::MSGSIZE));
    assert_eq!(map.delete_batch(&[0; 5], 0).unwrap_err().errno, Errno::MSGSIZE);
}

#[test]
fn values_of_every_cpu() {
    let map = map(MapType::PERCPU_ARRAY, 4, 4, 1);
    let cpus = sys::possible_cpus().unwrap() as usize;
    let mut values = vec![0; 8 * cpus];
    for (cpu, value) in values.chunks_exact_mut(8).enumerate() {
        value[..4].copy_from_slice(&(cpu as u32 + 7).to_ne_bytes());
    }
    map.update(&[0; 4], &values, 0).unwrap();
    // What the kernel writes must end exactly where the buffer does.
    let mut read = vec![0xff; 8 * cpus];
    map.lookup(&[0; 4], &mut read, 0).unwrap();
    assert_eq!(read, values);
}

#[test]
fn batches() {
    const COUNT: u32 = 1000;
    let map = map(MapType::HASH, 4, 4, COUNT);
    let keys: Vec<u8> = (0..COUNT).flat_map(|key| key.to_ne_bytes()).collect();
    let values: Vec<u8> = (0..COUNT).flat_map(|key| (key * 3).to_ne_bytes()).collect();
    map.update_batch(&keys, &values, 0).unwrap();
    let mut position = map.batch_start();
    let (mut some_keys, mut some_values) = (vec![0; 4 * 300], vec![0; 4 * 300]);
    let mut seen = Vec::new();
    loop {
        let batch = map.lookup_batch(&mut position, &mut some_keys, &mut some_values, 0).unwrap();
        for at in 0..batch.count {
            let word = |bytes: &[u8]| u32::from_ne_bytes(bytes[at * 4..][..4].try_into().unwrap());
            assert_eq!(word(&some_values), word(&some_keys) * 3);
            seen.push(word(&some_keys));
        }
        if batch.last {
            break;
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..COUNT).collect::<Vec<_>>());
    // A key that is not there ends it; those before are gone.
    map.delete(&2u32.to_ne_bytes()).unwrap();
    let error = map.delete_batch(&keys[..16], 0).unwrap_err();
    assert_eq!((error.errno, error.done), (Errno::NOENT, 2));
    // Refused at once: nothing done, whatever is in the count.
    assert_eq!(map.update_batch(&keys, &values, 1 << 20).unwrap_err().done, 0);
    let mut position = map.batch_start();
    let (mut all_keys, mut all_values) = (vec![0; 4 * COUNT as usize], vec![0; 4 * COUNT as usize]);
    let batch = map.lookup_and_delete_batch(&mut position, &mut all_keys, &mut all_values, 0).unwrap();
    assert_eq!(batch.count, COUNT as usize - 3);
    assert_eq!(map.next_key(None, &mut [0; 4]), Ok(false));
}

#[test]
fn a_queue_has_no_keys() {
    let map = map(MapType::QUEUE, 0, 4, 4);
    map.update(&[], &5u32.to_ne_bytes(), 0).unwrap();
    map.update(&[], &6u32.to_ne_bytes(), 0).unwrap();
    let mut value = [0; 4];
    map.lookup(&[], &mut value, 0).unwrap();
    assert_eq!(u32::from_ne_bytes(value), 5);
    map.lookup_and_delete(&[], &mut value, 0).unwrap();
    map.lookup_and_delete(&[], &mut value, 0).unwrap();
    assert_eq!(u32::from_ne_bytes(value), 6);
    assert_eq!(map.lookup_and_delete(&[], &mut value, 0), Err(Errno::NOENT));
}

#[test]
fn mapped_and_frozen() {
    let map = map_with(MapType::ARRAY, 4, 12, 3, flags::BPF_F_MMAPABLE);
    let memory = MapMemory::map(&map, true).unwrap();
    assert_eq!((memory.len(), memory.stride()), (48, 16));
    let bytes: Vec<u8> = (1..=31).collect();
    // Unaligned at both ends.
    memory.write(17, &bytes).unwrap();
    let mut read = [0; 31];
    memory.read(17, &mut read).unwrap();
    assert_eq!(read.as_slice(), bytes);
    let mut value = [0; 12];
    map.lookup(&2u32.to_ne_bytes(), &mut value, 0).unwrap();
    assert_eq!(value.as_slice(), (16..28).collect::<Vec<u8>>());
    assert_eq!(memory.read(40, &mut [0; 9]), Err(Errno::RANGE));
    assert_eq!(memory.write(usize::MAX, &[0]), Err(Errno::RANGE));
    // The kernel does not freeze what is mapped for writing.
    assert_eq!(map.freeze(), Err(Errno::BUSY));
    drop(memory);
    map.freeze().unwrap();
    assert_eq!(map.update(&[0; 4], &[0; 12], 0), Err(Errno::PERM));
    assert_eq!(MapMemory::map(&map, true).unwrap_err(), Errno::PERM);
    let memory = MapMemory::map(&map, false).unwrap();
    assert_eq!(memory.write(0, &[1]), Err(Errno::PERM));
    memory.read(17, &mut read).unwrap();
    assert_eq!(read.as_slice(), bytes);
}

#[test]
fn a_descriptor_is_what_it_says() {
    let map = map(MapType::ARRAY, 4, 4, 1);
    let program = program(ringfence_uapi::ProgramType::SOCKET_FILTER, &crate::NOTHING);
    let shape = *map.shape();
    let back = MapFd::try_from(OwnedFd::from(map)).unwrap();
    assert_eq!(*back.shape(), shape);
    assert_eq!(MapFd::try_from(OwnedFd::from(program)).unwrap_err(), Errno::BADF);
    assert_eq!(sys::LinkFd::try_from(OwnedFd::from(back)).unwrap_err(), Errno::BADF);
}

#[test]
fn inner_maps_and_programs_as_values() {
    let inner = map(MapType::ARRAY, 4, 4, 1);
    raise_memlock();
    let outer = sys::map_create(&sys::MapCreate {
        inner: Some(inner.as_fd()),
        ..sys::MapCreate::new(MapType::ARRAY_OF_MAPS, 4, 4, 2)
    })
    .unwrap();
    outer.update_fd(&[0; 4], inner.as_fd(), 0).unwrap();
    let mut id = [0; 4];
    outer.lookup(&[0; 4], &mut id, 0).unwrap();
    assert_eq!(u32::from_ne_bytes(id), inner.shape().id);
    assert_eq!(sys::open_map(inner.shape().id, 0).unwrap().shape(), inner.shape());
}

#[test]
fn pins_and_ids() {
    let directory = std::env::temp_dir().join(format!("rf-sys-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    sys::mount("bpf", &directory).unwrap();
    let map = map(MapType::ARRAY, 4, 4, 1);
    let path = directory.join("map");
    let outcome = sys::object_pin(map.as_fd(), &path).and_then(|()| sys::object_get(&path, 0));
    let missing = sys::object_get(&directory.join("none"), 0);
    let elsewhere = sys::object_pin(map.as_fd(), &std::env::temp_dir().join("rf-sys-no-bpffs"));
    rustix::mount::unmount(&directory, rustix::mount::UnmountFlags::DETACH).unwrap();
    std::fs::remove_dir(&directory).unwrap();
    let back = MapFd::try_from(outcome.unwrap()).unwrap();
    assert_eq!(back.shape(), map.shape());
    assert_eq!(missing.unwrap_err(), Errno::NOENT);
    assert_eq!(elsewhere, Err(Errno::PERM));
    assert_eq!(sys::Ids::Map.after(map.shape().id - 1), Ok(Some(map.shape().id)));
    assert_eq!(sys::Ids::Map.after(i32::MAX as u32 - 1), Ok(None));
}

#[test]
fn names_are_checked() {
    let create = |name| sys::map_create(&sys::MapCreate { name, ..sys::MapCreate::new(MapType::ARRAY, 4, 4, 1) });
    raise_memlock();
    assert!(create("fifteen_bytes15").is_ok());
    assert_eq!(create("sixteen_bytes_16").unwrap_err(), Errno::NAMETOOLONG);
    assert_eq!(create("not a name").unwrap_err(), Errno::INVAL);
}

#[test]
fn an_arena_is_memory() {
    if release() < (6, 9) {
        eprintln!("skipped: arenas are of 6.9");
        return;
    }
    let map = map_with(MapType::ARENA, 0, 0, 4, flags::BPF_F_MMAPABLE);
    let memory = MapMemory::map(&map, true).unwrap();
    assert_eq!(memory.len(), 4 * sys::page_size());
    let place = sys::page_size() - 3;
    memory.write(place, b"across").unwrap();
    let mut read = [0; 6];
    memory.read(place, &mut read).unwrap();
    assert_eq!(&read, b"across");
    assert!(memory.words().read(0, &mut [0; 16]) && !memory.words().read(memory.len() / 8, &mut [0; 1]));
    // Where touching would be SIGSEGV it is an error, and words are not given at all.
    let deadly = map_with(MapType::ARENA, 0, 0, 4, flags::BPF_F_MMAPABLE | flags::BPF_F_SEGV_ON_FAULT);
    let memory = MapMemory::map(&deadly, true).unwrap();
    assert_eq!(memory.read(0, &mut read), Err(Errno::FAULT));
    assert_eq!(memory.write(0, &read), Err(Errno::FAULT));
    assert!(!memory.words().read(0, &mut read));
}

#[test]
fn what_is_not_mappable() {
    assert_eq!(MapMemory::map(&map(MapType::ARRAY, 4, 4, 1), true).unwrap_err(), Errno::INVAL);
    assert_eq!(MapMemory::map(&map(MapType::HASH, 4, 4, 1), true).unwrap_err(), Errno::INVAL);
    assert_eq!(sys::RingConsumer::map(&map(MapType::HASH, 4, 4, 1)).unwrap_err(), Errno::INVAL);
}
