use std::os::fd::AsFd;

use ringfence_sys::{self as sys, Errno, Log, ProgLoad, TestRun};
use ringfence_uapi::{Insn, MapType, ProgramType};

use crate::{NOTHING, insn, load_map, map, program, raise_memlock, release};

#[test]
fn loads_and_says_what_it_is() {
    let map = map(MapType::ARRAY, 4, 8, 1);
    let mut insns = load_map(1, &map, Insn::PSEUDO_MAP_VALUE).to_vec();
    insns.push(insn(0x7a, 1, 0, 0, 42)); // *(u64 *)r1 = 42
    insns.extend([insn(0xb7, 0, 0, 0, 7), NOTHING[1]]);
    let program = program(ProgramType::SOCKET_FILTER, &insns);
    let info = program.info().unwrap();
    assert_eq!((info.kind, info.name.as_str(), info.gpl_compatible), (ProgramType::SOCKET_FILTER, "rf_test", true));
    assert_eq!(program.map_ids().unwrap(), [map.shape().id]);
    assert_eq!(info.verified_insns.is_some(), release() >= (5, 16));
    let translated = program.translated().unwrap();
    assert_eq!(translated.len() * 8, info.xlated_len as usize);
    // The kernel shows no address of its own and keeps everything else.
    assert_eq!(translated[2], insns[2]);
    assert_eq!(sys::Ids::Program.after(info.id - 1), Ok(Some(info.id)));
    assert_eq!(sys::open_program(info.id).unwrap().info().unwrap().tag, info.tag);

    let mut run = TestRun { data_in: &[0; 64], repeat: 3, ..TestRun::default() };
    let stats = sys::enable_run_time_stats().unwrap();
    let result = sys::test_run(program.as_fd(), &mut run).unwrap();
    assert_eq!(result.retval, 7);
    drop(stats);
    let mut value = [0; 8];
    map.lookup(&[0; 4], &mut value, 0).unwrap();
    assert_eq!(u64::from_ne_bytes(value), 42);
}

#[test]
fn a_refusal_has_a_log() {
    raise_memlock();
    let bad = [insn(0xbf, 0, 3, 0, 0), NOTHING[1]]; // r0 = r3, never written
    let load = ProgLoad::new(ProgramType::SOCKET_FILTER, &bad, "GPL");
    assert_eq!(sys::prog_load(&load, None).unwrap_err(), Errno::ACCESS);
    let mut log = Log::new(1, 4096);
    assert_eq!(sys::prog_load(&load, Some(&mut log)).unwrap_err(), Errno::ACCESS);
    assert!(log.text().contains("R3 !read_ok"), "{}", log.text());
    assert_eq!(log.true_size().is_some(), release() >= (6, 4));
    if let Some(size) = log.true_size() {
        assert_eq!(size, log.text().len() + 1);
    }
    // Too short a log: the kernel says how long it is (6.4).
    let many: Vec<Insn> = std::iter::repeat_n(NOTHING[0], 100).chain(bad).collect();
    let load = ProgLoad::new(ProgramType::SOCKET_FILTER, &many, "GPL");
    let mut short = Log::new(2, 0);
    assert_eq!(short.size(), Log::MIN_SIZE);
    let refused = sys::prog_load(&load, Some(&mut short)).unwrap_err();
    assert!(matches!(refused, Errno::NOSPC | Errno::ACCESS), "{refused}");
    if let Some(size) = short.true_size() {
        assert!(size > Log::MIN_SIZE);
        let mut enough = Log::new(2, size);
        assert_eq!(sys::prog_load(&load, Some(&mut enough)).unwrap_err(), Errno::ACCESS);
        assert!(enough.text().contains("R3 !read_ok"));
    }
}

#[test]
fn a_place_beyond_the_descriptors_is_not_read() {
    raise_memlock();
    let wild = [insn(Insn::LD_IMM64, 1, Insn::PSEUDO_MAP_IDX, 0, 3), insn(0, 0, 0, 0, 0), NOTHING[0], NOTHING[1]];
    let refused = sys::prog_load(&ProgLoad::new(ProgramType::SOCKET_FILTER, &wild, "GPL"), None).unwrap_err();
    // The kernel found the -1 with which the array was filled up (5.10 knows no array).
    assert_eq!(refused, if release() >= (5, 14) { Errno::BADF } else { Errno::TOOBIG });
    let wilder = [insn(Insn::LD_IMM64, 1, Insn::PSEUDO_MAP_IDX, 0, -1), insn(0, 0, 0, 0, 0), NOTHING[0], NOTHING[1]];
    let refused = sys::prog_load(&ProgLoad::new(ProgramType::SOCKET_FILTER, &wilder, "GPL"), None).unwrap_err();
    assert_eq!(refused, Errno::INVAL);
}

#[test]
fn maps_by_place() {
    if release() < (5, 14) {
        eprintln!("skipped: PSEUDO_MAP_IDX is of 5.14");
        return;
    }
    let map = map(MapType::ARRAY, 4, 8, 1);
    let insns = [insn(Insn::LD_IMM64, 1, Insn::PSEUDO_MAP_IDX, 0, 1), insn(0, 0, 0, 0, 0), NOTHING[0], NOTHING[1]];
    let fds = [None, Some(map.as_fd())];
    let load = ProgLoad { fd_array: &fds, ..ProgLoad::new(ProgramType::SOCKET_FILTER, &insns, "GPL") };
    assert_eq!(sys::prog_load(&load, None).unwrap().map_ids().unwrap(), [map.shape().id]);
}

#[test]
fn a_bound_map_stays() {
    let map = map(MapType::ARRAY, 4, 8, 1);
    let program = program(ProgramType::SOCKET_FILTER, &NOTHING);
    sys::prog_bind_map(program.as_fd(), map.as_fd()).unwrap();
    assert_eq!(program.map_ids().unwrap(), [map.shape().id]);
}

/// Header and one `int`.
fn small_btf(bits: u32) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let strings = b"\0int\0";
    let types = words(&[1, 1 << 24, 4, 1 << 24 | bits]);
    let mut btf = 0xeb9f_u16.to_ne_bytes().to_vec();
    btf.extend([1, 0]);
    btf.extend(words(&[24, 0, types.len() as u32, types.len() as u32, strings.len() as u32]));
    btf.extend(types);
    btf.extend(strings);
    btf
}

#[test]
fn btf_loads() {
    let bytes = small_btf(32);
    let btf = sys::btf_load(&bytes, None, None).unwrap();
    assert_eq!(btf.bytes().unwrap(), bytes);
    let info = btf.info().unwrap();
    assert_eq!((info.size as usize, info.kernel), (bytes.len(), false));
    assert_eq!(info.name.is_some(), release() >= (5, 11));
    let mut log = Log::new(1, 4096);
    assert_eq!(sys::btf_load(&small_btf(33), None, Some(&mut log)).unwrap_err(), Errno::INVAL);
    assert!(log.text().contains("nr_bits"), "{}", log.text());
}

#[test]
fn the_kernels_btf() {
    let Some(id) = sys::Ids::Btf.after(0).unwrap() else { return };
    let info = sys::open_btf(id).unwrap().info().unwrap();
    if release() >= (5, 11) {
        assert_eq!((info.name.as_deref(), info.kernel), (Some("vmlinux"), true));
        let bytes = sys::kernel_btf("vmlinux").unwrap();
        assert_eq!((*bytes).as_ref().len(), info.size as usize);
        assert_eq!(sys::open_btf(id).unwrap().bytes().unwrap(), (*bytes).as_ref());
    }
    assert_eq!(sys::kernel_btf("../vmlinux").err(), Some(Errno::INVAL));
    assert_eq!(sys::kernel_btf("no_such_module").err(), Some(Errno::NOENT));
}
