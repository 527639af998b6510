//! User space: many functions at once, static probes, versions, archives, containers. A C program and its library are looked at.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use common::{built, load_object};
use ringfence::hook::{Uprobe, UprobeMulti, Usdt};
use ringfence::{AttachType, Kernel, Kind, LinkDetails, Loaded, Settings};

fn counter(loaded: &Loaded, name: &str) -> u64 {
    loaded.variable(name).unwrap().get().unwrap()
}

fn since(release: (u32, u32)) -> bool {
    let has = Kernel::running().version_code() >= release.0 << 16 | release.1 << 8;
    if !has {
        println!("skipped: needs Linux {}.{}", release.0, release.1);
    }
    has
}

/// The program of `tests/c/probed.c`, running.
struct Probed {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// A copy of the programs for one test: probes are per file, so other tests do not count here.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        for name in ["probed", "libprobed.so", "libprobed_stripped.so"] {
            std::fs::copy(built(name), dir.path().join(name)).unwrap();
        }
        Site(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn start(&self) -> Probed {
        self.run(&mut Command::new(self.path("probed")))
    }

    fn run(&self, command: &mut Command) -> Probed {
        let mut child =
            command.env("LD_LIBRARY_PATH", self.0.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Probed { child, to, from }
    }
}

impl Probed {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it call everything once; gives what it says of its guarded probe.
    fn call(&mut self) -> String {
        self.to.write_all(b"\n").unwrap();
        self.to.flush().unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.split_once(' ').unwrap().0.to_owned()
    }
}

impl Drop for Probed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn multi(only: &str) -> Loaded {
    load_object("multi", Settings::new().only([only]))
}

#[test]
fn functions_by_pattern() {
    let site = Site::new();
    let loaded = multi("at_start");
    let mut probed = site.start();
    let all = UprobeMulti::matching(&site.path("probed"), "work_*");
    let link = loaded.program("at_start").unwrap().attach_to(&all).unwrap();
    (0..2).for_each(|_| drop(probed.call()));
    assert_eq!((counter(&loaded, "calls"), counter(&loaded, "arguments")), (6, 9));
    let by_link = loaded.program("at_start").unwrap().attach_type() == AttachType::TRACE_UPROBE_MULTI;
    assert_eq!(by_link, Kernel::running().knows_attach_type(AttachType::TRACE_UPROBE_MULTI) == Some(true));
    match link.info().unwrap().map(|info| info.details) {
        Some(LinkDetails::UprobeMulti { .. }) => assert!(by_link),
        None => assert!(!by_link),
        Some(other) => panic!("{other:?}"),
    }
    drop(link);
    probed.call();
    assert_eq!(counter(&loaded, "calls"), 6);
    let error = loaded.program("at_start").unwrap().attach_to(&UprobeMulti::matching(&site.path("probed"), "worx_*"));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("no function `worx_*`") && error.contains("probed"), "{error}");
}

#[test]
fn functions_by_name_with_cookies() {
    let site = Site::new();
    let loaded = multi("at_start");
    let mut probed = site.start();
    let two = UprobeMulti::functions(&site.path("probed"), ["work_one", "work_three"]);
    if Kernel::running().has(ringfence_kernel::Feature::BpfCookie) {
        let link = loaded.program("at_start").unwrap().attach_to(&two.clone().cookies([100, 1000])).unwrap();
        probed.call();
        assert_eq!((counter(&loaded, "calls"), counter(&loaded, "cookies")), (2, 1100));
        drop(link);
    }
    let error = loaded.program("at_start").unwrap().attach_to(&two.clone().cookies([1])).unwrap_err();
    assert!(error.to_string().contains("1 cookies were given for 2 places"), "{error}");
    let wrong = UprobeMulti::functions(&site.path("probed"), ["work_one", "work_oen"]);
    let error = loaded.program("at_start").unwrap().attach_to(&wrong).unwrap_err();
    assert!(error.to_string().contains("no function `work_oen` (it has work_one"), "{error}");
    // By offset, and in one process of two.
    let mut other = site.start();
    let before = counter(&loaded, "calls");
    let own = two.pid(probed.pid());
    let link = loaded.program("at_start").unwrap().attach_to(&own).unwrap();
    for process in [&mut probed, &mut other] {
        process.call();
    }
    assert_eq!(counter(&loaded, "calls"), before + 2);
    drop(link);
    let error = loaded.program("at_start").unwrap().attach_to(&own.pid(0x7fff_fff0)).unwrap_err();
    assert!(error.to_string().contains("no such process"), "{error}");
}

#[test]
fn returns_sleeping_and_sessions() {
    let site = Site::new();
    let mut probed = site.start();
    let functions = UprobeMulti::matching(&site.path("probed"), "work_*");
    let loaded = multi("at_return");
    let link = loaded.program("at_return").unwrap().attach_to(&functions.clone().at_return()).unwrap();
    probed.call();
    assert_eq!(counter(&loaded, "returns"), 3);
    drop(link);
    if since((6, 6)) {
        let loaded = multi("may_sleep");
        let link = loaded.program("may_sleep").unwrap().attach_to(&functions).unwrap();
        probed.call();
        assert_eq!(counter(&loaded, "calls"), 3);
        drop(link);
    }
    if Kernel::running().knows_attach_type(AttachType::TRACE_UPROBE_SESSION) == Some(true) {
        let loaded = multi("at_both");
        let link = loaded.program("at_both").unwrap().attach_to(&functions).unwrap();
        probed.call();
        assert_eq!(counter(&loaded, "both"), 6);
        drop(link);
        let error = loaded.program("at_both").unwrap().attach_to(&functions.at_return()).unwrap_err();
        assert!(error.to_string().contains("by itself"), "{error}");
    } else {
        // A kernel that does not know the attach type ignores it in a kprobe, and refuses the link.
        let error = multi("at_both").program("at_both").unwrap().attach_to(&functions).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        assert!(error.to_string().contains("6.13"), "{error}");
    }
}

fn usdt() -> Loaded {
    load_object("usdt", Settings::new().only(["probe"]))
}

fn reads(loaded: &Loaded) -> [i64; 12] {
    loaded.variable("read").unwrap().get().unwrap()
}

/// Without cookies (before 5.15) the process must be known.
fn cookies() -> bool {
    Kernel::running().has(ringfence_kernel::Feature::BpfCookie)
}

#[test]
fn arguments_of_a_static_probe() {
    let site = Site::new();
    let loaded = usdt();
    let mut probed = site.start();
    let place = Usdt::new(&site.path("probed"), "ringfence", "twelve").cookie(77);
    let link = loaded.program("probe").unwrap().attach_to(&place.clone().pid(probed.pid())).unwrap();
    assert!(link.notices().is_empty(), "{:?}", link.notices());
    assert_eq!((link.hook(), link.target()), ("static probe", &*format!("{}:ringfence:twelve", site.path("probed"))));
    probed.call();
    assert_eq!((counter(&loaded, "hits"), counter(&loaded, "cookie"), counter(&loaded, "count")), (1, 77, 12));
    assert_eq!(reads(&loaded), [1, -7, -2, 250, 11, -12, -9, 123_456_789_012, 1, 7, 65535, -1]);
    // Another process is not looked at.
    site.start().call();
    assert_eq!(counter(&loaded, "hits"), 1);
    drop(link);
    probed.call();
    assert_eq!(counter(&loaded, "hits"), 1);
    if cookies() {
        let link = loaded.program("probe").unwrap().attach_to(&place).unwrap();
        for process in [&mut probed, &mut site.start()] {
            process.call();
        }
        assert_eq!(counter(&loaded, "hits"), 3);
        drop(link);
    } else {
        let error = loaded.program("probe").unwrap().attach_to(&place).unwrap_err();
        assert!(error.to_string().contains("no cookies (5.15)"), "{error}");
    }
}

#[test]
fn static_probes_at_several_places() {
    let site = Site::new();
    let loaded = usdt();
    let mut probed = site.start();
    let pid = probed.pid();
    let place = |name| Usdt::new(&site.path("probed"), "ringfence", name).pid(pid);
    let (twice, nothing) = (place("twice"), place("nothing"));
    // The map has room for four kinds of places: what is given back is used again, and equal places share.
    let seen = || (counter(&loaded, "hits"), counter(&loaded, "sum"));
    for _ in 1..=5 {
        let links = [&twice, &nothing].map(|place| loaded.program("probe").unwrap().attach_to(place).unwrap());
        let (hits, sum) = seen();
        probed.call();
        assert_eq!(seen(), (hits + 4, sum + 5));
        drop(links);
        // A child that another test has just forked holds them, too, until it runs its own program.
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let before = seen();
            probed.call();
            if seen() == before {
                break;
            }
            assert!(Instant::now() < end, "the probes stay");
        }
    }
    let program = loaded.program("probe").unwrap();
    if cookies() {
        let links: Vec<_> = (0..2).map(|_| program.attach_to(&twice).unwrap()).collect();
        let error = program.attach_to(&twice).unwrap_err();
        assert!(error.to_string().contains("has room for 4 different places"), "{error}");
        drop(links);
    }
    let error = program.attach_to(&place("twelfe")).unwrap_err();
    assert!(error.to_string().contains("it has ringfence:twelve"), "{error}");
    let error = program.attach_to(&Usdt::new(&site.path("probed"), "other", "zzzzzzzzzzz")).unwrap_err();
    assert!(error.to_string().contains("ringfence:guarded"), "{error}");
    let error = program.attach_to(&Usdt::new("/proc/self/exe", "a", "b")).unwrap_err();
    assert!(error.to_string().contains("no static probe"), "{error}");
}

#[test]
fn a_semaphore_is_held_while_somebody_looks() {
    let site = Site::new();
    let loaded = usdt();
    let mut probed = site.start();
    assert_eq!(probed.call(), "alone");
    let place = Usdt::new(&site.path("probed"), "ringfence", "guarded").pid(probed.pid());
    let link = loaded.program("probe").unwrap().attach_to(&place).unwrap();
    assert_eq!(probed.call(), "looked-at");
    assert_eq!((counter(&loaded, "hits"), counter(&loaded, "sum")), (1, 2));
    drop(link);
    assert_eq!(probed.call(), "alone");
    assert_eq!(counter(&loaded, "hits"), 1);
}

#[test]
fn a_static_probe_of_a_library() {
    let site = Site::new();
    let loaded = usdt();
    let mut probed = site.start();
    probed.call();
    for library in ["libprobed.so", "libprobed_stripped.so"] {
        let place = Usdt::new(&site.path(library), "ringfence_lib", "called");
        let error =
            loaded.program("probe").unwrap().attach_to(&Usdt::new(&site.path(library), "ringfence_lib", "caled"));
        assert!(error.unwrap_err().to_string().contains("ringfence_lib:called"));
        if library != "libprobed.so" {
            continue;
        }
        let place = if cookies() { place } else { place.pid(probed.pid()) };
        let link = loaded.program("probe").unwrap().attach_to(&place).unwrap();
        probed.call();
        assert_eq!((counter(&loaded, "hits"), counter(&loaded, "sum")), (1, 2));
        drop(link);
    }
    if since((5, 19)) {
        let loaded = load_object("usdt", Settings::new().only(["may_sleep"]));
        let place = Usdt::new(&site.path("libprobed.so"), "ringfence_lib", "called");
        let link = loaded.program("may_sleep").unwrap().attach_to(&place).unwrap();
        probed.call();
        assert_eq!(counter(&loaded, "sum"), 3);
        drop(link);
    }
}

#[test]
fn versions_offsets_and_stripped_libraries() {
    let site = Site::new();
    let loaded = load_object("user", Settings::new());
    let program = loaded.program("at_start").unwrap();
    let mut probed = site.start();
    let library = site.path("libprobed.so");
    for (version, calls) in [("versioned@OLD_1.0", 1), ("versioned@@NEW_2.0", 2), ("versioned", 3), ("from_library", 4)]
    {
        let link = program.attach_to(&Uprobe::new(&library, version)).unwrap();
        probed.call();
        assert_eq!((counter(&loaded, "calls"), counter(&loaded, "sum")), (calls, calls * (calls + 1) / 2));
        drop(link);
    }
    let error = program.attach_to(&Uprobe::new(&library, "versioned@OLD_2.0")).unwrap_err();
    assert!(error.to_string().contains("it has NEW_2.0, OLD_1.0"), "{error}");
    // Without a symbol table there is still what the library exports.
    let stripped = site.path("libprobed_stripped.so");
    let link = program.attach_to(&Uprobe::new(&stripped, "from_library")).unwrap();
    drop(link);
    let error = program.attach_to(&Uprobe::new(&stripped, "versioned_1")).unwrap_err();
    assert!(error.to_string().contains("stripped"), "{error}");
    // By name: found where the dynamic linker would look.
    let error = program.attach_to(&Uprobe::new("libprobed_no_such.so", "from_library")).unwrap_err();
    assert!(error.to_string().contains("LD_LIBRARY_PATH"), "{error}");
}

#[test]
fn slow_places_are_told() {
    let site = Site::new();
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let loaded = load_object("user", Settings::new());
    let program = loaded.program("at_start").unwrap();
    // The program's first instruction is stepped through, its probes are nops.
    let link = program.attach_to(&Uprobe::new(&site.path("probed"), "work_one")).unwrap();
    assert!(link.notices().iter().any(|notice| notice.contains("has to step through")), "{:?}", link.notices());
}

#[test]
fn as_another_process_sees_the_files() {
    let site = Site::new();
    let loaded = load_object("user", Settings::new());
    let program_of = loaded.program("at_start").unwrap();
    let dir = site.0.path().join("mounted");
    std::fs::create_dir(&dir).unwrap();
    let inside = dir.join("inside");
    let script = format!(
        "mount -t tmpfs none {dir} && cp {probed} {inside} && exec {inside}",
        dir = dir.display(),
        probed = site.path("probed"),
        inside = inside.display(),
    );
    let mut probed = site.run(Command::new("unshare").args(["-m", "sh", "-c", &script]));
    probed.call();
    assert!(!inside.exists());
    let place = Uprobe::new(&inside.display().to_string(), "work_one");
    let error = program_of.attach_to(&place).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENOENT), "{error}");
    let link = program_of.attach_to(&place.seen_by(probed.pid())).unwrap();
    probed.call();
    assert_eq!((counter(&loaded, "calls"), counter(&loaded, "sum")), (1, 2));
    drop(link);
    // By the name of a file that it has mapped.
    let link = program_of.attach_to(&Uprobe::new("libprobed.so", "from_library").seen_by(probed.pid())).unwrap();
    probed.call();
    assert_eq!(counter(&loaded, "calls"), 2);
    drop(link);
    let usdt = usdt();
    let place = Usdt::new(&inside.display().to_string(), "ringfence", "twelve").seen_by(probed.pid()).pid(probed.pid());
    let link = usdt.program("probe").unwrap().attach_to(&place).unwrap();
    probed.call();
    assert_eq!((counter(&usdt, "hits"), reads(&usdt)[0]), (1, 4));
    drop(link);
}

/// An archive with members that are stored as they are, each at the start of a page.
fn zip(path: &Path, members: &[(&str, &[u8], u16)]) -> Vec<usize> {
    let (mut bytes, mut directory, mut places) = (Vec::<u8>::new(), Vec::<u8>::new(), Vec::new());
    for (name, content, method) in members {
        let start = bytes.len();
        let pad = 4096 - (start + 30 + name.len()) % 4096;
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        let names = u16::try_from(name.len()).unwrap().to_le_bytes();
        let common = [&[10, 0, 0, 0][..], &method.to_le_bytes(), &[0; 8], &length, &length, &names].concat();
        bytes
            .extend([b"PK\x03\x04", &common[..], &u16::try_from(pad).unwrap().to_le_bytes(), name.as_bytes()].concat());
        bytes.extend(vec![0; pad]);
        places.push(bytes.len());
        bytes.extend(*content);
        let start = u32::try_from(start).unwrap().to_le_bytes();
        directory.extend([b"PK\x01\x02\x0a\0", &common[..], &[0; 12], &start, name.as_bytes()].concat());
    }
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    let (length, start) = (directory.len() as u32, bytes.len() as u32);
    bytes.extend(&directory);
    bytes.extend(
        [b"PK\x05\x06\0\0\0\0", &count[..], &count, &length.to_le_bytes(), &start.to_le_bytes(), &[0, 0]].concat(),
    );
    std::fs::write(path, bytes).unwrap();
    places
}

#[test]
fn a_library_within_an_archive() {
    let site = Site::new();
    use object::{Object, ObjectSegment, ObjectSymbol};
    let loaded = load_object("user", Settings::new());
    let program_of = loaded.program("at_start").unwrap();
    let library = std::fs::read(site.path("libprobed.so")).unwrap();
    let archive: PathBuf = site.0.path().join("app.apk");
    let members = [("assets/x", &b"hello"[..], 0), ("lib/libprobed.so", &library, 0), ("lib/packed.so", &library, 8)];
    let start = zip(&archive, &members)[1];
    let elf = object::File::parse(&*library).unwrap();
    let symbol = elf.dynamic_symbols().find(|symbol| symbol.name() == Ok("from_library")).unwrap();
    let holds = |s: &object::Segment| (s.address()..s.address() + s.size()).contains(&symbol.address());
    let segment = elf.segments().find(holds).unwrap();
    let offset = symbol.address() - segment.address() + segment.file_range().0;
    let mut probed =
        site.run(Command::new(site.path("probed")).arg(&archive).arg(start.to_string()).arg(offset.to_string()));
    let name = |member: &str| format!("{}!/{member}", archive.display());
    let link = program_of.attach_to(&Uprobe::new(&name("lib/libprobed.so"), "from_library")).unwrap();
    probed.call();
    // The library itself is another file: only the code of the archive counts.
    assert_eq!((counter(&loaded, "calls"), counter(&loaded, "sum")), (1, 1));
    drop(link);
    let error =
        |member: &str| program_of.attach_to(&Uprobe::new(&name(member), "from_library")).unwrap_err().to_string();
    assert!(error("lib/packed.so").contains("compressed"), "{}", error("lib/packed.so"));
    assert!(error("lib/libprobd.so").contains("it has lib/libprobed.so"), "{}", error("lib/libprobd.so"));
    assert!(error("assets/x").contains("no ELF file"), "{}", error("assets/x"));
    let plain = program_of.attach_to(&Uprobe::new(&format!("{}!/x", site.path("probed")), "main")).unwrap_err();
    assert!(plain.to_string().contains("no zip archive"), "{plain}");
}

/// A Go program that ends by itself when it is asked for help: `RINGFENCE_GO_BINARY` names one, stripped or not.
#[test]
fn a_go_program() {
    let Ok(go) = std::env::var("RINGFENCE_GO_BINARY") else {
        println!("skipped: RINGFENCE_GO_BINARY is not set");
        return;
    };
    let loaded = load_object("user", Settings::new());
    let program = loaded.program("at_start").unwrap();
    let main = Uprobe::new(&go, "main.main");
    let link = program.attach_to(&main).unwrap();
    Command::new(&go).arg("--help").stdin(Stdio::null()).output().unwrap();
    assert_eq!(counter(&loaded, "calls"), 1);
    drop(link);
    let error = program.attach_to(&main.at_return()).unwrap_err();
    assert!(error.to_string().contains("Go moves its stacks"), "{error}");
    let error = program.attach_to(&Uprobe::new(&go, "main.mian")).unwrap_err();
    assert!(error.to_string().contains("it has main."), "{error}");
}
