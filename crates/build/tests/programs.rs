//! Projects outside of the workspace, built by cargo as a user would, and run.
#![allow(clippy::unwrap_used, reason = "tests")]

mod project;

use std::fs;
use std::path::Path;
use std::process::Command;

use project::{cargo, made, run, workspace};

#[test]
fn the_page_is_a_program_that_runs() {
    let page = fs::read_to_string(workspace().join("docs/build.md")).unwrap();
    let Some(out) = run(&page) else { return };
    assert!(out.contains("kind 7"), "{out}");
    assert!(out.contains("comm: \"opens\""), "{out}");
    assert!(out.contains("lost: 0"), "{out}");
}

#[test]
fn every_shape_agrees_with_c() {
    let Some(out) = run(include_str!("shapes.md")) else { return };
    assert!(out.contains("all agree"), "{out}");
}

#[test]
fn maps_have_the_views_of_their_kinds() {
    let Some(out) = run(include_str!("maps.md")) else { return };
    assert!(out.contains("all kinds: Some(Pair { first: 3, second: 4 })"), "{out}");
}

/// Objects that no loader takes by itself: parts of others, and what a test wants refused.
const REFUSED: &[&str] =
    &["linked_maps1", "linked_maps2", "test_pinning_invalid", "test_sk_assign", "test_subskeleton_lib"];

#[test]
fn every_object_becomes_a_module() {
    if std::env::var_os("RINGFENCE_OBJECTS").is_none() {
        return println!("skipped: RINGFENCE_OBJECTS is not set (every_object_becomes_a_module)");
    }
    let Some(out) = run(include_str!("modules.md")) else { return };
    let wrong = |line: &&str| {
        let known = |name: &&str| line.contains(&format!("{name}.bpf.o"));
        *line != "opened" && !(line.starts_with("refused: ") && REFUSED.iter().any(known))
    };
    let wrong: Vec<&str> = out.lines().filter(wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(out.lines().filter(|line| *line == "opened").count() > 100);
}

/// Changes a file of a project, and gives what cargo says to that.
fn refused(dir: &Path, file: &str, from: &str, to: &str) -> String {
    let path = dir.join(file);
    let before = fs::read_to_string(&path).unwrap();
    assert!(before.contains(from), "{file} has no {from}");
    fs::write(&path, before.replace(from, to)).unwrap();
    let output = cargo(dir, "check");
    fs::write(&path, before).unwrap();
    assert!(!output.status.success(), "{from} became {to}, and nothing is wrong");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_has_changed_does_not_compile() {
    let page = fs::read_to_string(workspace().join("docs/build.md")).unwrap();
    // A name of its own: the other test builds this project meanwhile.
    let page = page.replace("name = \"opens\"", "name = \"changed\"");
    let Some(dir) = made(&page) else { return };
    let (source, dir) = ("src/opens.bpf.c", dir.path());
    let renamed = refused(dir, source, "kind", "sort");
    assert!(renamed.contains("no method named `kind`"), "{renamed}");
    let wider = refused(dir, source, "const volatile __u32 target_pid", "const volatile __u64 target_pid");
    assert!(wider.contains("mismatched types") && wider.contains("set_target_pid"), "{wider}");
    let gone = refused(dir, source, "events", "others");
    assert!(gone.contains("no method named `events`"), "{gone}");
    // What clang says is shown as it says it.
    let broken = refused(dir, source, "event->pid = pid;", "event->pdi = pid;");
    assert!(broken.contains("opens.bpf.c") && broken.contains("no member named 'pdi'"), "{broken}");
}

#[test]
fn a_module_names_what_differs_in_another_object() {
    let page = fs::read_to_string(workspace().join("docs/build.md")).unwrap();
    let page = page.replace("name = \"opens\"", "name = \"other\"");
    let Some(dir) = made(&page) else { return };
    let dir = dir.path();
    let object = |from: &str, to: &str| {
        let text = fs::read_to_string(dir.join("src/opens.bpf.c")).unwrap();
        assert!(text.contains(from));
        let source = dir.join("other.bpf.c");
        fs::write(&source, text.replace(from, to)).unwrap();
        let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".to_owned());
        ringfence_build::Builder::new(&source).clang(clang).out_dir(dir).build().unwrap();
        dir.join("other.bpf.o")
    };
    let main = "include!(concat!(env!(\"OUT_DIR\"), \"/opens.rs\"));
        fn main() {
            for path in std::env::args().skip(1) {
                match ringfence::open(&path).and_then(Opens::from_object) {
                    Ok(_) => println!(\"the same\"),
                    Err(error) => println!(\"{error}\"),
                }
            }
        }";
    fs::write(dir.join("src/main.rs"), main).unwrap();
    let built = cargo(dir, "build");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("debug/other");
    let said = |from: &str, to: &str| {
        let output = Command::new(&program).arg(object(from, to)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(said("kind = 7", "kind = 8").trim(), "the same");
    let moved = said("__u32 pid;\n\t__u32 flags : 24;", "__u32 flags : 24;\n\t__u32 pid;");
    assert!(moved.contains("`open_event.") && moved.contains("not at byte"), "{moved}");
    let longer = said("char comm[16];", "char comm[32];");
    assert!(longer.contains("`open_event.comm` has 256 bits, not 128"), "{longer}");
    let gone = said("__u64 lost = 0;", "__u64 missed = 0;\n#define lost missed");
    assert!(gone.contains("no global variable `lost`"), "{gone}");
}

#[test]
fn a_source_may_use_all_types_of_a_kernel() {
    let vmlinux = Path::new("/sys/kernel/btf/vmlinux");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".to_owned());
    let no_clang = Command::new(&clang).arg("--version").output().is_err();
    if no_clang || !vmlinux.exists() || !Path::new("/usr/include/bpf/bpf_helpers.h").exists() {
        println!(
            "skipped: clang-19, libbpf-dev or the kernel's types are missing (a_source_may_use_all_types_of_a_kernel)"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("tasks.bpf.c");
    let text = "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_core_read.h>\n\
        __u64 start = 0;\nenum task_state_of { NONE };\n\
        SEC(\"raw_tp/sched_process_exit\") int on_exit(struct bpf_raw_tracepoint_args *ctx)\n{\n\
        \tstruct task_struct *task = (void *)ctx->args[0];\n\tstart = BPF_CORE_READ(task, group_leader, start_time);\n\
        \treturn BPF_CORE_READ(task, se.on_rq);\n}\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n";
    fs::write(&source, text).unwrap();
    let builder = ringfence_build::Builder::new(&source).clang(&clang).flag("-Werror").out_dir(dir.path());
    builder.vmlinux(vmlinux).build().unwrap();
    let object = fs::read(dir.path().join("tasks.bpf.o")).unwrap();
    let object = ringfence_object::Object::parse("tasks", &object).unwrap();
    // Each of the three reads is fitted to the kernel that runs.
    assert!(object.functions.iter().map(|function| function.core.len()).sum::<usize>() >= 3);
    // Sources with no types at all are told apart from no file.
    let wrong = ringfence_build::Builder::new(&source).clang(clang).out_dir(dir.path()).vmlinux(&source).build();
    assert!(wrong.unwrap_err().to_string().contains("holds no kernel's types"));
}
