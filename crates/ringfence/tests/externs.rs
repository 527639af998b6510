//! What the loader fills in: kernel functions, variables, configuration, contexts, callbacks, arenas, jump tables.

mod common;

use common::{load_object, load_since};
use ringfence::{Kernel, Loaded, Program, Settings};

/// A packet of this many bytes, as programs see them.
fn run(program: &Program, length: usize) -> u32 {
    program.test_run(&vec![0; length], 1).unwrap().retval
}

fn variable<T: ringfence::Plain>(loaded: &Loaded, name: &str) -> T {
    loaded.variable(name).unwrap().get().unwrap()
}

/// What modules add to the kernel's types is shown there.
fn has_module(name: &str) -> bool {
    std::path::Path::new("/sys/kernel/btf").join(name).exists()
}

#[test]
fn what_is_missing_and_weak_is_zero() {
    let loaded = load_object("externs", Settings::new().only(["missing"]));
    assert_eq!(run(loaded.program("missing").unwrap(), 64), 7);
    assert_eq!((variable::<u32>(&loaded, "functions"), variable::<u32>(&loaded, "variables")), (0, 0));
}

#[test]
fn functions_of_modules() {
    let types = Kernel::running();
    let types = types.btf().unwrap();
    // Some kernels have it built in.
    let there = types.is_some_and(|types| types.find("bpf_skb_ct_lookup", ringfence_btf::Kind::Func).is_some());
    if !there && !has_module("nf_conntrack") {
        println!("skipped: the module nf_conntrack with its types");
        return;
    }
    let loaded = load_object("externs", Settings::new().only(["look"]));
    run(loaded.program("look").unwrap(), 64);
    // The kernel's function has run: it knows no such connection.
    assert_eq!(variable::<i32>(&loaded, "error"), -rustix::io::Errno::NOENT.raw_os_error());
    // Whether a function is there can be asked since 6.3: its address is a value then.
    let Some(loaded) = load_since((6, 3), "externs", Settings::new().only(["there"])) else { return };
    run(loaded.program("there").unwrap(), 64);
    assert_eq!(variable::<u32>(&loaded, "functions"), 1);
}

#[test]
fn variables_of_modules() {
    if !has_module("x_tables") {
        println!("skipped: the module x_tables with its types");
        return;
    }
    let kernel = Kernel::running();
    let plan = ringfence::plan(&common::object("externs"), &kernel, &Settings::new().only(["count"])).unwrap();
    let loaded = match ringfence::load(&plan, &kernel) {
        // The verifier of Debian's 6.1 does not look behind a typedef.
        Err(error) if error.reason().contains("'seqcount_t' is not a struct") => {
            println!("skipped: {error}");
            return;
        }
        loaded => loaded.unwrap(),
    };
    run(loaded.program("count").unwrap(), 64);
    assert_eq!(variable::<u32>(&loaded, "sequence"), 0, "a counter of nothing, read from the module");
}

/// The kernel's configuration as text, read without the library's help.
fn configuration() -> Option<String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    std::fs::read_to_string(format!("/boot/config-{release}")).ok()
}

#[test]
fn the_kernel_s_configuration() {
    let text = configuration();
    let given = "CONFIG_BPF_SYSCALL=y\nCONFIG_BPF_JIT=y\nCONFIG_VETH=m\nCONFIG_NET=y\nCONFIG_HZ=250\n\
                 CONFIG_PHYSICAL_ALIGN=0x200000\nCONFIG_DEFAULT_HOSTNAME=\"(none)\"\n";
    let value = |name: &str| {
        let text = text.as_deref().unwrap_or(given);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().to_owned()
    };
    let settings = Settings::new().only(["configured"]);
    let settings = if text.is_none() { settings.kconfig(given) } else { settings };
    let loaded = load_object("externs", settings);
    run(loaded.program("configured").unwrap(), 64);
    let cookies = Kernel::running().version_code() >= 5 << 16 | 15 << 8;
    assert_eq!(variable::<u32>(&loaded, "bits"), u32::from(cookies) | 2 | 4, "cookies, wrappers, BPF, no such option");
    let tristate = |name| match &*value(name) {
        "y" => 1,
        "m" => 2,
        _ => 0,
    };
    let tristates = tristate("CONFIG_BPF_JIT") | tristate("CONFIG_VETH") << 4;
    assert_eq!(variable::<u32>(&loaded, "tristates"), tristates);
    assert_eq!(variable::<u8>(&loaded, "letter"), b'y');
    assert_eq!(variable::<i32>(&loaded, "hertz").to_string(), value("CONFIG_HZ"));
    let align = value("CONFIG_PHYSICAL_ALIGN");
    let align = align.strip_prefix("0x").map_or(0, |digits| u64::from_str_radix(digits, 16).unwrap());
    assert_eq!(variable::<u64>(&loaded, "align"), align);
    let host = variable::<[u8; 8]>(&loaded, "host");
    let host = String::from_utf8_lossy(&host).trim_end_matches('\0').to_owned();
    assert_eq!(format!("\"{host}\""), value("CONFIG_DEFAULT_HOSTNAME"));
    assert_eq!(variable::<i32>(&loaded, "version"), Kernel::running().version_code().cast_signed());
}

#[test]
fn functions_that_take_their_program_s_context() {
    let loaded = load_object("arg_ctx", Settings::new());
    assert_eq!(run(loaded.program("classify").unwrap(), 100), 7);
    assert_eq!(variable::<u64>(&loaded, "length"), 100);
    assert_eq!(run(loaded.program("receive").unwrap(), 100), 2);
    load_object("arg_ctx", Settings::new().only(["probe"]));
}

#[test]
fn programs_that_throw() {
    let kernel = Kernel::running();
    let plan = ringfence::plan(&common::object("exceptions"), &kernel, &Settings::new()).unwrap();
    let loaded = match ringfence::load(&plan, &kernel) {
        Ok(loaded) => loaded,
        // The JIT needs a way to walk the stack: not every kernel is built with it.
        Err(error) if kernel.version_code() < 6 << 16 | 7 << 8 || error.to_string().contains("bpf_throw") => {
            assert!(error.to_string().contains("bpf_throw"), "{error}");
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}\n{}", error.log().unwrap_or_default()),
    };
    assert_eq!(run(loaded.program("thrown").unwrap(), 100), 100, "the cookie is the result");
    assert_eq!(run(loaded.program("handled").unwrap(), 100), 64, "the callback's result");
    assert_eq!(variable::<u64>(&loaded, "caught"), 100);
}

#[test]
fn variables_in_an_arena() {
    let Some(loaded) = load_since((6, 9), "arena", Settings::new()) else { return };
    assert_eq!(run(loaded.program("use").unwrap(), 64), 1);
    assert_eq!(variable::<u64>(&loaded, "seen"), 0x1122_3344_5566_7788);
    assert_eq!(variable::<u32>(&loaded, "last"), 5);
    assert_eq!(run(loaded.program("use").unwrap(), 64), 2);
    assert_eq!(variable::<u32>(&loaded, "last"), 6, "what a program writes stays");
}

#[test]
fn a_jump_table() {
    let kernel = Kernel::running();
    let plan = ringfence::plan(&common::object("jumps"), &kernel, &Settings::new()).unwrap();
    let loaded = match ringfence::load(&plan, &kernel) {
        Ok(loaded) => loaded,
        Err(error) if kernel.version_code() < 6 << 16 | 19 << 8 => {
            assert_eq!(error.kind(), ringfence::Kind::Unsupported, "{error}");
            assert!(error.to_string().contains("it came with 6.19"), "{error}");
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}\n{}", error.log().unwrap_or_default()),
    };
    let jump = loaded.program("jump").unwrap();
    let ways = [64, 65, 66, 67].map(|length| run(jump, length));
    assert_eq!(ways, [10, 11, 12, 10]);
}
