//! What is pinned stays, is found again, and is only reused when it is the same.

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{load, load_object, object, plan, program, returns};
use ringfence::{Kernel, Loader, Map, MapType, ProgramType, Settings, Update};
use ringfence_plan::MapPlan;

/// A bpffs of its own; taken off when dropped.
struct BpfFs(PathBuf);

impl BpfFs {
    fn new(name: &str) -> BpfFs {
        let path = std::env::temp_dir().join(format!("ringfence-bpffs-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        ringfence_sys::mount("bpf", &path).unwrap();
        BpfFs(path)
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn pinned(path: PathBuf, max_entries: u32) -> ringfence::Plan {
    let mut plan = plan("pins");
    let mut kept = MapPlan::new("kept", MapType::HASH, 4, 8, max_entries);
    kept.pin = Some(path);
    plan.maps = vec![kept];
    plan
}

#[test]
fn a_map_outlives_its_loader_and_is_found_again() {
    let fs = BpfFs::new("reuse");
    // A directory that is not there yet.
    let path = fs.0.join("some/where/kept");
    let kernel = Kernel::running();
    let first = load(&pinned(path.clone(), 10));
    let id = first.maps()[0].id();
    first.maps()[0].update(&[1, 0, 0, 0], &[7; 8], Update::Any).unwrap();
    drop(first);
    let second = load(&pinned(path.clone(), 10));
    assert_eq!(second.maps()[0].id(), id);
    assert_eq!(second.maps()[0].lookup(&[1, 0, 0, 0]).unwrap(), Some(vec![7; 8]));
    assert_eq!(Map::open_pinned(&path).unwrap().id(), id);
    let error = ringfence::load(&pinned(path.clone(), 11), &kernel).unwrap_err();
    assert!(error.to_string().contains("has room for 10 entries, not 11"), "{error}");
    drop(second);
    std::fs::remove_file(&path).unwrap();
    let mut missing = pinned(path, 10);
    missing.maps[0].must_exist = true;
    let error = ringfence::load(&missing, &kernel).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[test]
fn a_load_that_fails_takes_its_pins_back() {
    let fs = BpfFs::new("back");
    let (old, new) = (fs.0.join("old"), fs.0.join("new"));
    drop(load(&pinned(old.clone(), 10)));
    let mut plan = pinned(old.clone(), 10);
    plan.maps.extend(pinned(new.clone(), 10).maps);
    plan.maps[1].name = "fresh".to_owned();
    plan.programs = vec![program("bad", ProgramType(9999), &returns(0))];
    let kernel = Kernel::running();
    ringfence::load(&plan, &kernel).unwrap_err();
    assert!(old.exists() && !new.exists());
    Loader::new(&plan, &kernel).load_each();
    assert!(old.exists() && !new.exists());
    plan.programs.clear();
    drop(load(&plan));
    assert!(old.exists() && new.exists());
}

#[test]
fn places_that_cannot_hold_a_pin() {
    let kernel = Kernel::running();
    let plain = std::env::temp_dir().join("ringfence-no-bpffs-here");
    let error = ringfence::load(&pinned(plain.clone(), 10), &kernel).unwrap_err();
    assert!(error.to_string().contains("bpffs"), "{error}");
    assert!(!plain.exists());
    let fs = BpfFs::new("taken");
    let map = Map::create("m", MapType::ARRAY, 4, 4, 1).unwrap();
    let path = fs.0.join("m");
    map.pin(&path).unwrap();
    let error = map.pin(&path).unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    let loaded = load_object("events", Settings::new());
    loaded.program("to_ring").unwrap().pin(fs.0.join("program")).unwrap();
    let error = Map::open_pinned(fs.0.join("program")).unwrap_err();
    assert!(error.to_string().contains("of another kind"), "{error}");
}

#[test]
fn a_pinned_link_keeps_its_program_attached() {
    let fs = BpfFs::new("link");
    let settings = Settings::new()
        .global("target", std::process::id())
        .global("getuid_number", u32::try_from(libc::SYS_getuid).unwrap());
    let loaded = load(&ringfence::plan(&object("trace"), &Kernel::running(), &settings).unwrap());
    let link = loaded.attach("tracepoint").unwrap();
    if Kernel::running().version_code() < 5 << 16 | 15 << 8 {
        assert_eq!(link.pin(fs.0.join("link")).unwrap_err().kind(), ringfence::Kind::Unsupported);
        println!("skipped: needs Linux 5.15");
        return;
    }
    let path = fs.0.join("link");
    link.pin(&path).unwrap();
    drop(link);
    let counter = loaded.variable("by_tracepoint").unwrap();
    let _ = rustix::process::getuid();
    assert_eq!(counter.get::<u64>().unwrap(), 1);
    std::fs::remove_file(&path).unwrap();
    // The kernel frees the file some time after.
    let start = Instant::now();
    loop {
        let before = counter.get::<u64>().unwrap();
        let _ = rustix::process::getuid();
        if counter.get::<u64>().unwrap() == before {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
