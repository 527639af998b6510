//! `profile` on the real kernel: programs of which it is known where their time goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::alone;
use ringfence_tools::profile::{Clock, Folded, Frame, Hot, Options, Profile, Profiler, Unwind};
use ringfence_tools::{Cgroup, Error, Filter};
use tempfile::TempDir;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name)
}

/// Compiles one of `tests/programs`; `None`, and says so: there is no compiler.
fn build(name: &str, dir: &Path, more: &[&str]) -> Option<PathBuf> {
    let (stem, language) = name.split_once('.').expect("an ending");
    // In a virtual machine there is no compiler, and `cargo xtask vm` brings what it made.
    if let Some(made) = std::env::var_os("RINGFENCE_TEST_OBJECTS").map(|made| Path::new(&made).join(stem))
        && made.exists()
    {
        return Some(made);
    }
    let program = dir.join(stem);
    let mut command = match language {
        "rs" => Command::new(std::env::var("RUSTC").unwrap_or("rustc".into())),
        _ => Command::new("gcc"),
    };
    match language {
        "rs" => command.args(["-O", "-g", "-C", "force-frame-pointers=yes", "--edition", "2024"]),
        _ => command.args([
            "-O1",
            "-g",
            "-fno-omit-frame-pointer",
            "-mno-omit-leaf-frame-pointer",
            "-fno-optimize-sibling-calls",
        ]),
    };
    match command.args(more).arg("-o").arg(&program).arg(source(name)).status() {
        Err(error) => {
            println!("skipped: {:?}: {error}", command.get_program());
            None
        }
        Ok(status) => {
            assert!(status.success(), "{name} does not compile");
            Some(program)
        }
    }
}

/// A program that ends with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        Running(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts"))
    }

    fn of(&self) -> Filter {
        Filter { pid: Some(self.0.id()), ..Filter::default() }
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Measures until there are this many samples, for ten seconds at most.
fn until(profiler: &mut Profiler, samples: u64) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) && profiler.counted().expect("counters") < samples {
        profiler.run(Duration::from_millis(200)).expect("a profile");
    }
}

fn fast(filter: Filter) -> Options {
    Options { frequency: 4999, filter, ..Options::default() }
}

/// Code without frame pointers, called through libc: complete stacks in the right order.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_known_mix_without_frame_pointers() {
    let (_alone, dir) = (alone(), TempDir::new().expect("a directory"));
    for more in [&[][..], &["-DALIGNED"], &["-static", "-DALIGNED"]] {
        let flags = ["-O2", "-fomit-frame-pointer", "-momit-leaf-frame-pointer"].iter().chain(more);
        let Some(program) = build("nested.c", dir.path(), &flags.copied().collect::<Vec<_>>()) else { return };
        let only_one = !program.starts_with(dir.path());
        let running = Running::start(&mut Command::new(program));
        if only_one {
            // A slow machine of one CPU is to have time to read the file.
            let pid = i32::try_from(running.0.id()).ok().and_then(rustix::process::Pid::from_raw);
            rustix::process::setpriority_process(pid, 19).expect("less of the CPU");
        }
        let mut profiler = Profiler::start(&fast(running.of())).expect("a profiler");
        if !profiler.has_tables() {
            return println!("skipped: this kernel has no bpf_task_pt_regs (5.15)");
        }
        // The first samples are taken before the file was read.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(30)
            && profiler.so_far().expect("a profile").summary.by_tables < 2000
        {
            profiler.run(Duration::from_millis(300)).expect("a profile");
        }
        let profile = profiler.finish().expect("a profile");
        let (hot, summary) = (profile.hottest(), &profile.summary);
        for (name, percent) in [("half", 50.0), ("third", 30.0), ("fifth", 20.0)] {
            let share = 100.0 * find(&hot, name).total_share;
            assert!((share - percent).abs() < 3.0, "{more:?}: {name} has {share:.1}% and not {percent}%");
        }
        // All that were walked by tables are whole.
        assert!(summary.by_tables >= 1000, "{more:?}: {summary:?}");
        let before = summary.user - summary.by_tables;
        assert!(summary.truncated <= before + summary.user / 100, "{more:?}: {summary:?}");
        let order = ["half", "inner", "middle", "compare", "main"];
        let whole = |row: &&ringfence_tools::profile::Row| {
            let at = order.map(|name| row.frames.iter().position(|frame| is(frame, name)));
            at.iter().all(Option::is_some) && at.is_sorted()
        };
        let halves = || profile.rows.iter().filter(|row| row.frames.iter().any(|frame| is(frame, "half")));
        let weigh =
            |rows: &mut dyn Iterator<Item = &ringfence_tools::profile::Row>| -> u64 { rows.map(|row| row.count).sum() };
        let (all, complete) = (weigh(&mut halves()), weigh(&mut halves().filter(whole)));
        assert!(
            complete + before + all / 100 >= all,
            "{more:?}: {complete} of {all}: {:#?}",
            profile.folded().iter().take(5).collect::<Vec<_>>()
        );
        // With frame pointers alone they are not.
        let options = Options { unwind: Unwind::Pointers, ..fast(running.of()) };
        let mut profiler = Profiler::start(&options).expect("a profiler");
        until(&mut profiler, 300);
        let summary = profiler.finish().expect("a profile").summary;
        assert!(summary.by_tables == 0 && summary.truncated * 2 > summary.user, "{summary:?}");
        if only_one {
            break;
        }
    }
    assert_nothing_is_left();
}

fn find<'a>(hot: &'a [Hot], name: &str) -> &'a Hot {
    hot.iter().find(|hot| &*hot.symbol.function == name).unwrap_or_else(|| {
        panic!(
            "no {name} in {:?}",
            hot.iter().take(12).map(|hot| (&hot.symbol.function, hot.total)).collect::<Vec<_>>()
        )
    })
}

fn is(frame: &Frame, name: &str) -> bool {
    frame.symbols.iter().any(|symbol| &*symbol.function == name)
}

fn line_of(source_name: &str, text: &str) -> u32 {
    let source = fs::read_to_string(source(source_name)).expect("a source");
    let line = source.lines().position(|line| line.contains(text)).expect("a line");
    u32::try_from(line).expect("small") + 1
}

fn assert_mix(hot: &[Hot], names: [&str; 3]) {
    for (name, percent) in names.into_iter().zip([60.0, 30.0, 10.0]) {
        let share = 100.0 * find(hot, name).total_share;
        assert!((share - percent).abs() < 3.0, "{name} has {share:.1}% and not {percent}%");
    }
}

fn assert_nothing_is_left() {
    let ours = ["on_cpu", "off_cpu", "on_exec", "on_exit"];
    let start = Instant::now();
    loop {
        let all = ringfence::machine::programs().expect("a list").flatten();
        let left: Vec<_> = all.map(|program| program.info.name).filter(|name| ours.contains(&name.as_str())).collect();
        if left.is_empty() {
            return;
        }
        // The kernel frees what a tracepoint had when no CPU can be in it any more.
        assert!(start.elapsed() < Duration::from_secs(5), "{left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_known_mix_in_c() {
    let (_alone, dir) = (alone(), TempDir::new().expect("a directory"));
    let Some(program) = build("mix.c", dir.path(), &[]) else { return };
    let program = Running::start(&mut Command::new(program));
    let mut profiler = Profiler::start(&fast(program.of())).expect("a profiler");
    until(&mut profiler, 5000);
    let profile = profiler.finish().expect("a profile");
    let hot = profile.hottest();
    assert_mix(&hot, ["sixty", "thirty", "ten"]);
    for name in ["sixty", "thirty", "ten"] {
        let symbol = &find(&hot, name).symbol;
        assert!(symbol.file.as_deref().is_some_and(|file| file.ends_with("mix.c")), "{symbol:?}");
        assert_eq!(symbol.line, Some(line_of("mix.c", &format!("line of {name}"))), "{symbol:?}");
        assert!(symbol.module.ends_with("/mix"), "{symbol:?}");
    }
    let calls = find(&hot, "main");
    assert!(calls.total_share > 0.97 && calls.own_share < 0.03, "{calls:?}");
    let summary = &profile.summary;
    assert!(summary.truncated * 50 < summary.user, "{summary:?}");
    assert_eq!((summary.lost(), summary.taken), (0, profile.total()), "{summary:?}");
    assert_nothing_is_left();
    pprof_says_the_same(&profile, &dir);
}

/// What Go's reader makes of it.
fn pprof_says_the_same(profile: &Profile, dir: &TempDir) {
    let file = dir.path().join("profile.pb.gz");
    fs::write(&file, profile.pprof().expect("pprof")).expect("a file");
    let go = Command::new("go")
        .args(["tool", "pprof", "-top", "-sample_index=samples"])
        .arg(&file)
        .env("HOME", dir.path())
        .output();
    let output = match go {
        Err(error) => return println!("skipped: go tool pprof (golang-go): {error}"),
        Ok(output) => output,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (name, percent) in [("sixty", 60.0), ("thirty", 30.0), ("ten", 10.0)] {
        // flat flat% sum% cum cum% name
        let line = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line =
            line.into_iter().find(|words| words.get(5) == Some(&name)).unwrap_or_else(|| panic!("no {name}: {text}"));
        let share: f64 = line.get(4).and_then(|share| share.trim_end_matches('%').parse().ok()).expect("a share");
        assert!((share - percent).abs() < 3.0, "{text}");
    }
}

#[test]
fn a_known_mix_in_rust() {
    let (_alone, dir) = (alone(), TempDir::new().expect("a directory"));
    let Some(program) = build("mix.rs", dir.path(), &[]) else { return };
    let program = Running::start(&mut Command::new(program));
    let mut profiler = Profiler::start(&fast(program.of())).expect("a profiler");
    until(&mut profiler, 5000);
    let profile = profiler.finish().expect("a profile");
    let hot = profile.hottest();
    assert_mix(&hot, ["mix::work::sixty", "mix::work::thirty", "mix::work::ten"]);
    // Compiled into the three, and nevertheless a frame of its own.
    let inlined =
        profile.rows.iter().flat_map(|row| row.frames.iter()).find_map(|frame| {
            frame.symbols.iter().find(|symbol| &*symbol.function == "mix::work::spin" && symbol.inlined)
        });
    assert!(
        inlined.is_some_and(|symbol| symbol.file.as_deref().is_some_and(|file| file.ends_with("mix.rs"))),
        "{inlined:?}"
    );
    assert!(find(&hot, "mix::work::spin").total_share > 0.9, "{hot:#?}");
}

#[test]
fn a_deleted_program_that_has_ended_keeps_its_names() {
    let (_alone, dir) = (alone(), TempDir::new().expect("a directory"));
    let Some(program) = build("mix.c", dir.path(), &[]) else { return };
    let mut running = Running::start(&mut Command::new(&program));
    fs::remove_file(&program).expect("it is deleted");
    let mut profiler = Profiler::start(&fast(running.of())).expect("a profiler");
    until(&mut profiler, 300);
    running.end();
    let profile = profiler.finish().expect("a profile");
    let hot = profile.hottest();
    let symbol = &find(&hot, "sixty").symbol;
    assert!(symbol.module.ends_with("/mix") && symbol.line.is_some(), "{symbol:?}");
    assert_eq!(profile.summary.missed_processes, 0);
}

#[test]
fn a_program_under_another_root_is_found() {
    let (_alone, dir) = (alone(), TempDir::new().expect("a directory"));
    let Some(program) = build("mix.c", dir.path(), &["-static"]) else { return };
    let inside = dir.path().join("inside");
    fs::create_dir(&inside).expect("a directory");
    fs::rename(program, inside.join("only-there")).expect("it is moved");
    let running = Running::start(Command::new("chroot").arg(&inside).arg("/only-there"));
    let mut profiler = Profiler::start(&fast(running.of())).expect("a profiler");
    until(&mut profiler, 300);
    let hot = profiler.finish().expect("a profile").hottest();
    assert!(find(&hot, "sixty").total_share > 0.4, "{hot:#?}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn code_made_at_run_time_has_a_name() {
    let (_alone, dir) = (alone(), TempDir::new().expect("a directory"));
    let Some(program) = build("jit.c", dir.path(), &[]) else { return };
    let running = Running::start(&mut Command::new(program));
    let mut profiler = Profiler::start(&fast(running.of())).expect("a profiler");
    until(&mut profiler, 300);
    let hot = profiler.finish().expect("a profile").hottest();
    let _ = fs::remove_file(format!("/tmp/perf-{}.map", running.0.id()));
    let made = find(&hot, "made::at_run_time");
    assert!(made.own_share > 0.9 && &*made.symbol.module == "[jit]", "{hot:#?}");
    assert!(find(&hot, "main").total_share > 0.9, "{hot:#?}");
}

#[test]
fn waits_are_counted_where_they_began() {
    let (_alone, dir) = (alone(), TempDir::new().expect("a directory"));
    let Some(program) = build("waits.c", dir.path(), &[]) else { return };
    let running = Running::start(&mut Command::new(program));
    let options = Options { off_cpu: true, filter: running.of(), ..Options::default() };
    let mut profiler = Profiler::start(&options).expect("a profiler");
    profiler.run(Duration::from_millis(2500)).expect("a profile");
    let profile = profiler.finish().expect("a profile");
    // It does nothing but wait: all of the time, over three changes of the tables.
    let waited = Duration::from_nanos(profile.total());
    assert!(waited > profile.summary.time.mul_f64(0.9) && waited < profile.summary.time.mul_f64(1.05), "{waited:?}");
    // How long each is depends on what else the machine does; how many there are does not.
    let waits = |name: &str| -> u64 {
        let rows = profile.rows.iter().filter(|row| !row.frames.iter().any(|frame| is(frame, "[preempted]")));
        rows.filter(|row| row.frames.iter().any(|frame| is(frame, name))).map(|row| row.count).sum()
    };
    let (twice, once) = (waits("sleeps_twice"), waits("sleeps_once"));
    // A few more waits are for a lock or a page.
    assert!(once > 10 && twice.abs_diff(2 * once) <= 3 + once / 20, "{twice} and {once}");
    assert_eq!(profile.summary.lost(), 0, "{:?}", profile.summary);
    assert_nothing_is_left();
    // Waits too short are left out.
    let options = Options { shortest_wait: Duration::from_secs(5), ..options };
    let mut profiler = Profiler::start(&options).expect("a profiler");
    profiler.run(Duration::from_millis(200)).expect("a profile");
    assert!(profiler.finish().expect("a profile").summary.taken == 0);
}

#[test]
fn filters_take_what_they_say() {
    let (_alone, dir) = (alone(), TempDir::new().expect("a directory"));
    let Some(program) = build("mix.c", dir.path(), &[]) else { return };
    let other = Running::start(&mut Command::new(&program));
    let renamed = dir.path().join("a-name-of-its-own");
    fs::copy(&program, &renamed).expect("a copy");
    let wanted = Running::start(&mut Command::new(&renamed));
    let pids = |filter: Filter, samples| {
        let mut profiler = Profiler::start(&fast(filter)).expect("a profiler");
        until(&mut profiler, samples);
        let mut pids: Vec<u32> = profiler.finish().expect("a profile").rows.iter().map(|row| row.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    };
    // The kernel cuts names to 15 bytes.
    let by_name = pids(Filter { comm: Some("a-name-of-its-o".into()), ..Filter::default() }, 100);
    assert_eq!(by_name, [wanted.0.id()]);
    let of_root = pids(Filter { uid: Some(0), ..Filter::default() }, 1500);
    assert!(of_root.contains(&wanted.0.id()) && of_root.contains(&other.0.id()), "{of_root:?}");
    let none = Filter { uid: Some(64_321), pid: Some(wanted.0.id()), ..Filter::default() };
    let mut profiler = Profiler::start(&fast(none)).expect("a profiler");
    profiler.run(Duration::from_millis(200)).expect("a profile");
    let profile = profiler.finish().expect("a profile");
    assert!(profile.rows.is_empty() && profile.summary.filtered > 0, "{:?}", profile.summary);

    let Some(cgroups) = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(Path::new)
        .into_iter()
        .find(|root| root.join("cgroup.procs").exists())
    else {
        return println!("skipped: cgroup2 is not mounted");
    };
    let container = "feedc0ffee0123456789";
    let group = cgroups.join(format!("ringfence-test-{container}.scope"));
    let made = fs::create_dir(&group).and_then(|()| fs::create_dir(group.join("below")));
    if let Err(error) = made {
        return println!("skipped: no control group can be made: {error}");
    }
    let moved = fs::write(group.join("below/cgroup.procs"), wanted.0.id().to_string());
    let groups = [Cgroup::at(&group), Cgroup::of_container("feedc0ff")].map(|group| group.expect("a group"));
    let found = groups.map(|cgroup| pids(Filter { cgroup: Some(cgroup), ..Filter::default() }, 100));
    let _ = fs::write(cgroups.join("cgroup.procs"), wanted.0.id().to_string());
    let removed = fs::remove_dir(group.join("below")).and_then(|()| fs::remove_dir(&group));
    if let Err(error) = moved {
        return println!("skipped: no process can be moved into a control group: {error}");
    }
    assert_eq!(found, [vec![wanted.0.id()], vec![wanted.0.id()]]);
    removed.expect("the group is taken away");
}

/// Hardware cycles where the kernel drives a counter of this processor, else its timer.
#[test]
fn the_clock_is_what_the_machine_has() {
    let _alone = alone();
    let counters = fs::read_dir("/sys/bus/event_source/devices").map(|all| {
        all.flatten().any(|one| {
            let name = one.file_name().to_string_lossy().into_owned();
            ["cpu", "cpu_core"].contains(&name.as_str()) || name.starts_with("armv8_pmu")
        })
    });
    let profiler = Profiler::start(&Options::default()).expect("a profiler");
    match counters {
        Err(error) => println!("skipped: no list of counters: {error}"),
        Ok(true) => assert_eq!(profiler.clock(), Clock::Cycles),
        Ok(false) => assert_eq!(profiler.clock(), Clock::Software),
    }
}

#[test]
fn who_is_not_there_is_named() {
    let filter = Filter { pid: Some(4_194_305), ..Filter::default() };
    let error = Profiler::start(&Options { filter, ..Options::default() }).expect_err("no such process");
    assert!(matches!(error, Error::NoProcess { pid: 4_194_305 }), "{error}");
}

#[test]
fn an_early_end_leaves_nothing() {
    let _alone = alone();
    for off_cpu in [false, true] {
        let mut profiler = Profiler::start(&Options { off_cpu, ..Options::default() }).expect("a profiler");
        profiler.run(Duration::from_millis(200)).expect("a profile");
        assert!(!off_cpu || profiler.counted().expect("counters") > 0, "nobody waits");
        drop(profiler);
        assert_nothing_is_left();
    }
    // What nobody has measured is empty, and can be written.
    let profile =
        Profiler::start(&Options { filter: Filter { uid: Some(64_321), ..Filter::default() }, ..Options::default() });
    let profile = profile.expect("a profiler").finish().expect("a profile");
    assert_eq!(profile.folded(), Folded::default());
    assert!(profile.pprof().is_ok());
}
