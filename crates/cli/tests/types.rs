//! Types of events that the object does not hold: as they are recovered, as the user gives them, and as source text; and
//! what the numbers in maps mean.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{alone, assert_nothing_left, compile, held, ringfence, ringfence_with, root, signal, stderr, stdout};
use serde_json::Value;

/// An object whose event struct is in no types: neither BTF nor DWARF.
fn hidden(dir: &Path) -> PathBuf {
    let object = compile("hidden", dir);
    let done =
        Command::new("llvm-strip-19").arg("-g").arg(&object).status().expect("llvm-strip-19 (cargo xtask setup)");
    assert!(done.success());
    object
}

/// Runs an object, makes the calls that its programs wait for, ends it: what it printed.
fn run(object: &Path, args: &[&str]) -> String {
    let me = format!("target_pid={}", std::process::id());
    let mut command = ringfence();
    command.arg("run").arg(object).args(["--set", &me]).args(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
    let mut notes = BufReader::new(child.stderr.take().expect("stderr"));
    let mut first = String::new();
    while !first.contains("attached") {
        let had = first.len();
        notes.read_line(&mut first).expect("stderr");
        assert!(first.len() > had, "ended before it attached: {first}");
    }
    for _ in 0..3 {
        rustix::process::getpriority_process(None).expect("a priority");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, "INT");
    let (mut out, mut rest) = (String::new(), String::new());
    child.stdout.take().expect("stdout").read_to_string(&mut out).expect("stdout");
    notes.read_to_string(&mut rest).expect("stderr");
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{first}{rest}");
    out
}

fn first(lines: &str) -> Value {
    serde_json::from_str(lines.lines().next().expect("an event")).expect("JSON")
}

#[test]
fn a_struct_that_is_not_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let object = hidden(dir.path());
    let report = ringfence_with(["inspect".as_ref(), object.as_os_str(), "-o".as_ref(), "json".as_ref()]);
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let event = &report["events"][0];
    assert_eq!((&event["type"], &event["size"]), (&Value::Null, &Value::from(40)));
    assert!(event["why"].as_str().expect("text").contains("struct hidden_event"), "{event}");
    let fields: Vec<_> = event["fields"].as_array().expect("fields").iter().collect();
    let shown = |field: &Value| format!("{} {} {}", field["offset"], field["name"], field["certainty"]);
    let shown: Vec<String> = fields.iter().map(|field| shown(field).replace('"', "")).collect();
    assert_eq!(shown, ["0 started certain", "8 pid certain", "12 uid certain", "16 comm certain", "32 kind likely"]);
    assert!(fields[1]["source"].as_str().expect("a line").contains("event.pid = id >> 32;"), "{event}");

    let _alone = alone();
    let before = held();
    let event = first(&run(&object, &["-o", "json"]));
    assert_eq!(event["pid"], std::process::id(), "{event}");
    assert_eq!(event["kind"], 7);
    assert!(event["comm"].is_string(), "{event}");
    assert!(event.get("unused").is_none(), "{event}");
    assert_nothing_left(&before);
}

#[test]
fn the_user_says_it() {
    let _alone = alone();
    let before = held();
    let dir = tempfile::tempdir().expect("a directory");
    let object = hidden(dir.path());
    let typed = "events=struct { u64 started; struct { pid_t id; unsigned int owner; } who; char comm[0x10]; \
                 enum { NONE, SOME = 7 } kind : 8; u8 rest[7]; }";
    let event = first(&run(&object, &["-o", "json", "--event", typed]));
    assert_eq!(event["who"]["id"], std::process::id(), "{event}");
    assert_eq!(event["kind"], "SOME", "{event}");

    let header = root().join("crates/cli/tests/c/hidden.h");
    let of_header = format!("events={}:hidden_event", header.display());
    let event = first(&run(&object, &["-o", "json", "--event", &of_header]));
    assert_eq!((&event["kind"], &event["unused"]), (&Value::from("HIDDEN_KIND"), &Value::from(0)), "{event}");

    let arguments = ["inspect".as_ref(), object.as_os_str(), "--event".as_ref(), of_header.as_ref()];
    let shown = stdout(&ringfence_with(arguments));
    assert!(shown.contains("events: struct hidden_event, 40 bytes (--event says so)"), "{shown}");
    let emit = ["--emit-types".as_ref(), "-".as_ref()];
    assert!(stdout(&ringfence_with(arguments.into_iter().chain(emit))).contains("\n\t__u32 unused;\n"));

    // All that stands behind the type: conditions, fields, tables.
    let shape = ["--event", of_header.as_str(), "--where", "kind == HIDDEN_KIND", "--fields", "kind,comm"];
    let table = run(&object, &shape);
    assert!(table.starts_with("KIND") && table.contains("HIDDEN_KIND"), "{table}");
    assert_nothing_left(&before);
}

#[test]
fn what_the_user_says_wrongly() {
    let dir = tempfile::tempdir().expect("a directory");
    let object = hidden(dir.path());
    let header = root().join("crates/cli/tests/c/hidden.h");
    let refused = |event: &str| {
        let output = ringfence_with(["run".as_ref(), object.as_os_str(), "--event".as_ref(), event.as_ref()]);
        assert_eq!(output.status.code(), Some(2), "{event}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
        stderr(&output)
    };
    assert!(refused("other=struct { u32 a; }").contains("no map of events has that name (events)"));
    let error = refused("events=struct { u32 a; u33 b; }");
    assert!(error.contains("line 1, column 17") && error.contains("u33"), "{error}");
    assert!(refused("events=struct { u32 a").contains("`;` is missing"));
    let error = refused("events=struct { u64 all[6]; }");
    assert!(error.contains("48 bytes") && error.contains("40"), "{error}");
    assert!(refused("events=no_such").contains("no_such"));
    assert!(refused("events=/no/such.h:event").contains("/no/such.h"));
    assert!(refused(&format!("events={}:missing", header.display())).contains("does not define missing"));
    let broken = dir.path().join("broken.h");
    std::fs::write(&broken, "struct event { list_t list; };\n").expect("a file");
    let error = refused(&format!("events={}:event", broken.display()));
    assert!(error.contains("column 16") && error.contains("list_t"), "{error}");
}

/// Both texts, or nothing where the object has no events.
fn emitted(object: &Path, dir: &Path) -> Option<[PathBuf; 2]> {
    let files = ["types.h", "types.rs"].map(|name| dir.join(name));
    for file in &files {
        let output =
            ringfence_with(["inspect".as_ref(), object.as_os_str(), "--emit-types".as_ref(), file.as_os_str()]);
        if !output.status.success() {
            assert!(stderr(&output).contains("no type of an event is known"), "{}", stderr(&output));
            return None;
        }
    }
    Some(files)
}

/// C and Rust compile, with their assertions and ours: places and sizes are those that `inspect` tells.
fn compiles(object: &Path, dir: &Path) -> bool {
    let Some([header, module]) = emitted(object, dir) else { return false };
    let report = ringfence_with(["inspect".as_ref(), object.as_os_str(), "-o".as_ref(), "json".as_ref()]);
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let text = std::fs::read_to_string(&header).expect("a header");
    let mut source = "#include \"types.h\"\n".to_owned();
    let mut asserted = 0;
    for event in report["events"].as_array().expect("events") {
        let Some(kind) = event["type"].as_str().filter(|kind| kind.starts_with("struct ") && !kind.contains('{'))
        else {
            continue;
        };
        for field in event["fields"].as_array().expect("fields").iter().filter(|field| field["bits"].is_null()) {
            let (name, offset) = (field["name"].as_str().expect("a name"), &field["offset"]);
            if !name.is_empty() {
                source += &format!("_Static_assert(__builtin_offsetof({kind}, {name}) == {offset}, \"\");\n");
                asserted += 1;
            }
        }
    }
    std::fs::write(dir.join("types.c"), source).expect("a file");
    for compiler in ["clang-19", "gcc"] {
        let command = Command::new(compiler)
            .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "types.c"])
            .current_dir(dir)
            .output();
        match command {
            Ok(done) => assert!(done.status.success(), "{compiler}, {object:?}: {}\n{text}", stderr(&done)),
            Err(_) if compiler == "gcc" => println!("skipped: gcc is not installed"),
            Err(error) => panic!("{compiler}: {error} (cargo xtask setup)"),
        }
    }
    let done = Command::new("rustc")
        .args(["--edition=2021", "--crate-type=lib", "--emit=metadata", "-Dwarnings"])
        .arg(&module)
        .current_dir(dir)
        .output()
        .expect("rustc");
    assert!(done.status.success(), "{object:?}: {}", stderr(&done));
    assert!(!std::fs::read_to_string(&module).expect("a module").contains("unsafe"));
    asserted > 0 || text.contains("_Static_assert")
}

#[test]
fn types_as_source() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(compiles(&hidden(dir.path()), dir.path()));
    let text = std::fs::read_to_string(dir.path().join("types.h")).expect("a header");
    assert!(text.contains("pid: certain, line") && text.contains("event.pid = id >> 32;"), "{text}");
    assert!(compiles(Path::new("opens"), dir.path()));
    let output = ringfence_with(["inspect", "opens", "--emit-types", "-"]);
    assert!(stdout(&output).contains("struct open_event {"), "{}", stdout(&output));
    let output = ringfence_with(["inspect", "opens", "--emit-types", "/no/such/place.h"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/no/such/place.h"), "{}", stderr(&output));
}

#[test]
fn types_of_real_objects_as_source() {
    let Some(objects) = std::env::var_os("RINGFENCE_OBJECTS") else {
        println!("skipped: RINGFENCE_OBJECTS is not set");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let objects = std::fs::read_dir(Path::new(&objects).join("libbpf-tools")).expect("objects");
    let objects = objects.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "o"));
    let with_events = objects.filter(|object| compiles(object, dir.path())).count();
    assert!(with_events > 20, "{with_events}");
}

/// Numbers whose meaning only the code tells.
#[test]
fn numbers_in_maps() {
    let _alone = alone();
    let before = held();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("numbers", dir.path());
    let lines = run(&object, &["-o", "json"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |map: &str| lines.iter().find(|line| line["map"] == map).unwrap_or_else(|| panic!("{map}: {lines:#?}"));
    let own = std::fs::read_to_string("/proc/self/comm").expect("a name");
    let call = of("calls");
    assert_eq!(call["key"]["tgid"], std::process::id());
    assert_eq!(call["_comm"], own.trim_end(), "{call}");
    let stack = |name: &str| call["_stacks"][name].as_array().unwrap_or_else(|| panic!("{call}")).clone();
    let has =
        |frames: &[Value], part: &str| frames.iter().any(|frame| frame.as_str().is_some_and(|f| f.contains(part)));
    assert!(has(&stack("kernel"), "syscall"), "{call}");
    // The test calls the kernel itself, or through its C library; without debugging information only their files are known.
    let known = ["types-", "libc", "rustix::", "syscall", "start_thread"];
    assert!(known.iter().any(|part| has(&stack("user"), part)), "{call}");
    assert!(of("waited")["value"].as_u64() > Some(10_000), "{:?}", of("waited"));

    let table = run(&object, &[]);
    let (me, own) = (std::process::id(), own.trim_end());
    assert!(table.contains(&format!("{{tgid={me} ({own})")), "{table}");
    let waited = table.split("waited:").nth(1).expect("the map");
    assert!(waited.contains(&format!("{me} ({own})")) && waited.contains(" ms"), "{table}");
    let kernel = table.lines().find(|line| line.trim_start().starts_with("kernel ")).expect("a stack");
    assert!(kernel.contains("+0x"), "{table}");
    let raw = run(&object, &["--raw"]);
    assert!(!raw.contains("+0x") && !raw.contains(" ms"), "{raw}");
    assert_nothing_left(&before);
}

#[test]
fn a_field_that_nothing_names() {
    let _alone = alone();
    let before = held();
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile("unnamed", dir.path());
    let pid = std::process::id();
    let event = first(&run(&object, &["-o", "json", "--where", &format!("field4 == {}", pid * 2)]));
    assert_eq!(event, serde_json::json!({"pid": pid, "field4": pid * 2}));
    let table = run(&object, &[]);
    assert!(table.starts_with("PID      FIELD4\n"), "{table}");
    // Maps of an object that sends events: when they are asked for.
    assert!(!table.contains("seen:"), "{table}");
    let table = run(&object, &["--maps"]);
    assert!(table.contains("FIELD4") && table.contains("seen:\n"), "{table}");
    // Globals beside a histogram in which nothing was counted.
    assert!(table.contains("  calls  [0 3]\n") && !table.contains("hists"), "{table}");
    assert_nothing_left(&before);
}
