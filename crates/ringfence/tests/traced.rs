//! Kernel functions: kprobes, fentry, freplace. Where this machine has none, each test says so.

mod common;

use common::{load_object, object};
use ringfence::hook::{Function, Kprobe, KprobeMulti, Trace};
use ringfence::{Error, Kernel, Kind, Loader, Settings};

fn counter(loaded: &ringfence::Loaded, name: &str) -> u64 {
    loaded.variable(name).unwrap().get().unwrap()
}

fn only(programs: &[&str]) -> Settings {
    Settings::new().global("target", std::process::id()).only(programs.iter().copied())
}

fn open_a_file() {
    std::fs::File::open("/dev/null").unwrap();
}

#[test]
fn kprobes() {
    let loaded = load_object("traced", only(&["probe", "probe_return", "system_call"]));
    if !std::path::Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        let error = loaded.attach("probe").unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        assert!(error.to_string().contains("CONFIG_KPROBE_EVENTS"), "{error}");
        println!("skipped: this kernel has no kprobes");
        return;
    }
    let links = loaded.attach_all().unwrap();
    assert_eq!(links.len(), 3);
    let counts = || ["at_start", "at_return", "by_syscall"].map(|name| counter(&loaded, name));
    let before = counts();
    (0..3).for_each(|_| open_a_file());
    let after = counts();
    assert_eq!(after, before.map(|count| count + 3));
    drop(links);
    open_a_file();
    assert_eq!(counts(), after);
    let error = loaded.program("probe").unwrap().attach_to(&Kprobe::new("no_such_function_here")).unwrap_err();
    assert!(error.to_string().contains("/proc/kallsyms"), "{error}");
}

/// Loads a program for many functions; `None`, and a line that says so, where the kernel has none.
fn many(program: &str) -> Option<ringfence::Loaded> {
    let plan = ringfence::plan(&object("multi"), &Kernel::running(), &only(&[program])).unwrap();
    match ringfence::load(&plan, &Kernel::running()) {
        Ok(loaded) => Some(loaded),
        Err(error) if error.kind() == Kind::Unsupported => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Attaches it, where the kernel was built for it.
fn linked(result: ringfence::Result<ringfence::Link>) -> Option<ringfence::Link> {
    match result {
        Ok(link) => Some(link),
        Err(error) if error.kind() == Kind::Unsupported => {
            let text = error.to_string();
            let known = ["CONFIG_FPROBE", "CONFIG_KPROBE_EVENTS", "no kprobe.session links (6.10)"];
            assert!(known.iter().any(|known| text.contains(known)), "{error}");
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn many_kernel_functions() {
    let Some(loaded) = many("kernel_start") else { return };
    let program = loaded.program("kernel_start").unwrap();
    let calls = || counter(&loaded, "kernel_calls");
    // The section's pattern has two functions or more, of which opening a file calls one.
    let Some(link) = linked(program.attach()) else { return };
    assert_eq!((link.hook(), link.target()), ("kernel functions", "do_sys_openat*"));
    let before = calls();
    (0..3).for_each(|_| open_a_file());
    assert_eq!(calls(), before + 3);
    // Without such links it is a kprobe for each.
    let by_link = program.attach_type() == ringfence::AttachType::TRACE_KPROBE_MULTI;
    assert_eq!(by_link, Kernel::running().has(ringfence_kernel::Feature::KprobeMulti));
    match link.info().unwrap().map(|info| info.details) {
        Some(ringfence::LinkDetails::KprobeMulti { .. }) => assert!(by_link),
        None => assert!(!by_link),
        Some(other) => panic!("{other:?}"),
    }
    drop(link);
    open_a_file();
    assert_eq!(calls(), before + 3);
    let two = KprobeMulti::functions(["do_sys_openat2", "filp_close"]);
    if Kernel::running().has(ringfence_kernel::Feature::BpfCookie) {
        let link = program.attach_to(&two.clone().cookies([1000, 0])).unwrap();
        let (before, cookies) = (calls(), counter(&loaded, "cookies"));
        open_a_file();
        assert!(calls() > before);
        assert_eq!(counter(&loaded, "cookies"), cookies + 1000);
        drop(link);
    }
    let error = program.attach_to(&two.cookies([1])).unwrap_err();
    assert!(error.to_string().contains("1 cookies were given for 2 functions"), "{error}");
    let error = program.attach_to(&KprobeMulti::functions(["do_sys_openat2", "do_sys_opennat2"])).unwrap_err();
    assert!(!by_link || error.to_string().contains("`do_sys_opennat2` (1 of 2 functions)"), "{error}");
    assert!(error.to_string().contains("it has do_sys_openat2"), "{error}");
    let error = program.attach_to(&KprobeMulti::matching("do_sys_opennat*2")).unwrap_err();
    assert!(error.to_string().contains("fits `do_sys_opennat*2`"), "{error}");
    assert!(program.attach_to(&KprobeMulti::addresses([8])).is_err());
    let error = program.attach_to(&KprobeMulti::matching("no_module:*")).unwrap_err();
    assert!(error.to_string().contains("of the module no_module"), "{error}");
    if !by_link {
        let error = program.attach_to(&KprobeMulti::matching("*")).unwrap_err();
        assert!(error.to_string().contains("at most 512"), "{error}");
    }
    // Hundreds at once.
    let link = program.attach_to(&KprobeMulti::matching(if by_link { "tcp_*" } else { "tcp_v4_s*" })).unwrap();
    assert_eq!(link.hook(), "kernel functions");
    drop(link);
}

#[test]
fn a_function_of_a_module() {
    let loaded = load_object("sections_probe", Settings::new().only(["on_kprobe"]));
    let program = loaded.program("on_kprobe").unwrap();
    if !std::path::Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        println!("skipped: this kernel has no kprobes");
        return;
    }
    let error = program.attach_to(&Kprobe::new("no_module:function")).unwrap_err();
    assert!(error.to_string().contains("modprobe no_module"), "{error}");
    let place = Kprobe::new("vmlinux:do_sys_openat2");
    let link = program.attach_to(&place).unwrap();
    open_a_file();
    assert!(counter(&loaded, "runs") > 0);
    drop(link);
    let ip = |arguments: &str| std::process::Command::new("ip").args(arguments.split(' ')).status();
    if !std::path::Path::new("/sys/module/veth").exists() || ip("-V").is_err() {
        println!("skipped: there is no module veth");
        return;
    }
    let link = program.attach_to(&Kprobe::new("veth:veth_newlink")).unwrap();
    let before = counter(&loaded, "runs");
    assert!(ip("link add rf-multi0 type veth peer name rf-multi1").unwrap().success());
    assert!(ip("link del rf-multi0").unwrap().success());
    assert_eq!(counter(&loaded, "runs"), before + 1);
    drop(link);
    let error = program.attach_to(&Kprobe::new("veth:veth_newlnk")).unwrap_err();
    assert!(error.to_string().contains("it has veth_newlink"), "{error}");
}

#[test]
fn returns_of_many_kernel_functions_and_sessions() {
    if let Some(loaded) = many("kernel_return")
        && let Some(link) = linked(loaded.attach("kernel_return"))
    {
        let before = counter(&loaded, "kernel_returns");
        open_a_file();
        assert_eq!(counter(&loaded, "kernel_returns"), before + 1);
        drop(link);
    }
    if let Some(loaded) = many("kernel_session")
        && let Some(link) = linked(loaded.attach("kernel_session"))
    {
        let before = counter(&loaded, "kernel_both");
        open_a_file();
        assert_eq!(counter(&loaded, "kernel_both"), before + 2);
        drop(link);
    }
}

#[test]
fn entry_and_exit() {
    let plan = ringfence::plan(&object("traced"), &Kernel::running(), &only(&["enter", "leave"])).unwrap();
    let loaded = match ringfence::load(&plan, &Kernel::running()) {
        Ok(loaded) => loaded,
        Err(error) if error.kind() == Kind::Unsupported && error.errno() == Some(libc::EPERM) => {
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let links = loaded.attach_all().unwrap();
    assert_eq!((links.len(), links[0].target()), (2, "do_sys_openat2"));
    let counts = || ["by_fentry", "by_fexit"].map(|name| counter(&loaded, name));
    let before = counts();
    (0..4).for_each(|_| open_a_file());
    assert_eq!(counts(), before.map(|count| count + 4));
}

#[test]
fn a_function_of_another_program_is_replaced() {
    let kernel = Kernel::running();
    let target = load_object("replaced", Settings::new());
    let asks = target.program("asks").unwrap();
    let plan = ringfence::plan(&object("replacing"), &kernel, &Settings::new()).unwrap();
    let nobody = ringfence::load(&plan, &kernel).unwrap_err();
    assert!(nobody.to_string().contains("Loader::target"), "{nobody}");
    let wrong = load_object("events", Settings::new());
    let error = Loader::new(&plan, &kernel).target("better", wrong.program("to_ring").unwrap()).load().unwrap_err();
    assert!(error.to_string().contains("has no function `answer`"), "{error}");
    let loaded = match Loader::new(&plan, &kernel).target("better", asks).load() {
        Ok(loaded) => loaded,
        Err(error @ Error::Load { .. }) if error.errno() == Some(libc::EPERM) => {
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}\n{}", error.log().unwrap_or("")),
    };
    assert_eq!(asks.test_run(&[0; 64], 1).unwrap().retval, 1);
    let link = loaded.program("better").unwrap().attach_to(&Trace::new()).unwrap();
    assert_eq!(asks.test_run(&[0; 64], 1).unwrap().retval, 42);
    drop(link);
    assert_eq!(asks.test_run(&[0; 64], 1).unwrap().retval, 1);

    // A program that it was not verified for.
    let other = load_object("replaced", Settings::new());
    let other = other.program("asks").unwrap();
    let better = loaded.program("better").unwrap();
    let link = better.attach_to(&Function::new(other, "answer")).unwrap();
    assert_eq!(other.test_run(&[0; 64], 1).unwrap().retval, 42);
    assert_eq!(asks.test_run(&[0; 64], 1).unwrap().retval, 1);
    drop(link);
    assert_eq!(other.test_run(&[0; 64], 1).unwrap().retval, 1);
    let error = better.attach_to(&Function::new(other, "answers")).unwrap_err();
    assert!(error.to_string().contains("it has answer"), "{error}");
    let error = better.attach_to(&Function::new(target.program("adds").unwrap(), "sum")).unwrap_err();
    assert!(error.to_string().contains("of another type"), "{error}");
}
