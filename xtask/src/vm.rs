//! `cargo xtask vm`: the command and test programs on other kernels, each in a small virtual machine that boots in two
//! seconds without hardware virtualisation.

mod alone;
pub(crate) mod guest;
mod initrd;
mod report;
mod sections;

use crate::kernels;
use crate::tools::{self, KERNELS, Scratch, bytes, cargo, command, files, parallel, root};
use anyhow::{Context, Result, ensure};
use guest::{Answer, Guest, Job};
use pico_args::Arguments;
use report::Report;
use std::path::{Path, PathBuf};

/// Shows that the command works on a kernel: typed events of real file opens, as JSON.
const SMOKE: &str = "\
(
echo 'while :; do cat /proc/version > /dev/null; usleep 20000; done' > /tmp/opener
setsid sh /tmp/opener &
opener=$!
set -e
./ringfence check opens >&2
./ringfence run opens --for 3s -o json > /tmp/events
grep -m 3 /proc/version /tmp/events || { head -5 /tmp/events; echo 'no event of /proc/version'; exit 1; }
)
echo \"== ringfence exit $? in 3 s\"
";

/// What tests use where the kernel has it.
const MODULES: &[&str] =
    &["veth", "dummy", "sch_ingress", "cls_bpf", "cls_basic", "act_bpf", "nf_conntrack", "x_tables"];

/// Programs of this machine that tests use, in place of busybox's.
const TOOLS: &[&str] = &["ip", "setpriv", "gron"];

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    if arguments.contains("--static") {
        return alone::run(arguments);
    }
    let wanted: Option<String> = arguments.opt_value_from_str("--kernel")?;
    let package: Option<String> = arguments.opt_value_from_str("--package")?;
    let modules: Option<String> = arguments.opt_value_from_str("--modules")?;
    let ringfence: Option<PathBuf> = arguments.opt_value_from_str("--ringfence")?;
    let write = arguments.contains("--write");
    let filter: Vec<String> = tools::names(arguments)?;

    let wanted: Vec<&str> = wanted.as_deref().map_or(KERNELS.to_vec(), |list| list.split(',').collect());
    let (kernels, missing): (Vec<&str>, Vec<&str>) = wanted.iter().partition(|series| kernels::btf(series).is_ok());
    missing.iter().for_each(|series| eprintln!("vm: SKIPPED kernel {series}: not there; `cargo xtask kernels`"));
    ensure!(!kernels.is_empty(), "no kernels; `cargo xtask kernels` fetches them");

    let scratch = Scratch::new("vm-files")?;
    let package = package.as_deref().unwrap_or("ringfence");
    let binaries = test_binaries(package, scratch.path())?;
    let mut carried: Vec<(PathBuf, String)> =
        binaries.iter().map(|binary| (binary.clone(), format!("/t/tests/{}", tools::name(binary)))).collect();
    carried.extend(objects(package, scratch.path())?);
    for tool in TOOLS {
        let place = tools::text(&mut command("sh", ["-c", &format!("command -v {tool}")]))?;
        carried.push((PathBuf::from(place).canonicalize()?, format!("/bin/{tool}")));
    }
    let mut script =
        "export RINGFENCE_TEST_OBJECTS=/t/objects RINGFENCE_GO_BINARY=/bin/gron RUST_TEST_THREADS=1\n".to_string();
    for binary in &binaries {
        let name = tools::name(binary);
        // What a program says on stderr is of use only when it fails.
        script += &format!(
            "echo '== {name}'\nread start rest < /proc/uptime\n./tests/{name} --show-output {} 2>/tmp/stderr\ncode=$?\n\
             [ $code = 0 ] || cat /tmp/stderr\nread end rest < /proc/uptime\n\
             echo \"== {name} exit $code in $((${{end%.*}} - ${{start%.*}})) s\"\n",
            filter.join(" ")
        );
    }
    // With names of tests only these are wanted.
    if filter.is_empty() && package == "ringfence" {
        carried.push((tools::ringfence(ringfence)?, "/t/ringfence".to_string()));
        script += &format!("echo '== ringfence'\n{SMOKE}");
    }
    let modules: Vec<&str> = MODULES.iter().copied().chain(modules.iter().flat_map(|list| list.split(','))).collect();
    let job = Job { script: &script, files: &carried, modules: &modules, memory: Job::MEMORY, limit: Job::LIMIT };

    let reports = parallel(&kernels, |kernel| {
        let answer = Guest::of(kernel).and_then(|guest| guest.run(&job));
        let time = answer.as_ref().map_or(0.0, |answer| answer.time.as_secs_f64());
        let report = Report::new(kernel, answer);
        eprintln!("vm: {kernel}: {time:.1} s{}", report.slow());
        report
    });
    report::print(&reports);
    let compared = sections::compare(&reports, here(&binaries, &carried)?, write);
    let failures: usize = reports.iter().map(|report| report.failures()).sum();
    ensure!(failures == 0, "{failures} failures on {} kernels", reports.len());
    compared
}

/// What the table of sections is on this machine itself.
fn here(binaries: &[PathBuf], carried: &[(PathBuf, String)]) -> Result<Option<Report>> {
    let Some(binary) = binaries.iter().find(|binary| tools::name(binary) == "sections") else { return Ok(None) };
    let objects = carried.iter().find(|(_, place)| place.starts_with("/t/objects/"));
    let objects = objects.and_then(|(object, _)| object.parent()).context("no objects")?;
    let mut run = command(&binary.to_string_lossy(), ["--show-output", "every_section"]);
    let output = run.env("RINGFENCE_TEST_OBJECTS", objects).output()?;
    let code = output.status.code().unwrap_or(-1);
    let text = String::from_utf8_lossy(&output.stdout);
    let output = format!("== sections\n{text}\n== sections exit {code} in 0 s\n");
    let answer = Answer { code: Some(0), output, console: String::new(), time: Default::default() };
    Ok(Some(Report::new("here", Ok(answer))))
}

/// The test programs of a package, without their debug information, in a directory.
fn test_binaries(package: &str, dir: &Path) -> Result<Vec<PathBuf>> {
    let mut build = cargo(["test", "--no-run", "--locked", "--message-format=json", "--package", package]);
    let messages = bytes(&mut build)?;
    let messages = String::from_utf8_lossy(&messages);
    let binary = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let test = message["profile"]["test"] == true;
        let path = message["executable"].as_str().filter(|_| test).map(PathBuf::from)?;
        Some((path, message["target"]["name"].as_str()?.to_string()))
    };
    let binaries: Vec<(PathBuf, String)> = messages.lines().filter_map(binary).collect();
    ensure!(!binaries.is_empty(), "{package} has no tests");
    let stripped = binaries.into_iter().map(|(path, name)| {
        let to = dir.join(name);
        tools::run(command("strip", ["--strip-debug", "-o"]).arg(&to).arg(path))?;
        Ok(to)
    });
    stripped.collect()
}

/// Where a package has the C sources of its tests, if it has any.
fn sources_of(package: &str) -> PathBuf {
    root().join("crates").join(package.strip_prefix("ringfence-").unwrap_or(package)).join("tests/c")
}

/// The C programs of a package's tests, compiled to `objects` in this directory.
pub(crate) fn objects(package: &str, dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let place = sources_of(package);
    let sources = if place.exists() { files(&place, ".bpf.c")? } else { Vec::new() };
    std::fs::create_dir(dir.join("objects"))?;
    let programs = programs(package, dir)?;
    let compiled = parallel(&sources, |source| {
        let name = tools::name(source).replace(".bpf.c", ".bpf.o");
        let object = dir.join("objects").join(&name);
        let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".to_string());
        let strict = ["-Wall", "-Werror", "-Wno-unused-variable"];
        let flags = ["-target", "bpf", "-O2", "-g", "-D__TARGET_ARCH_x86", "-c", "-o"];
        tools::run(command(&clang, strict).args(flags).arg(&object).arg(source))?;
        Ok((object, format!("/t/objects/{name}")))
    });
    compiled.into_iter().chain(programs.into_iter().map(Ok)).collect()
}

/// The programs and libraries that a package's tests look at, by its own list of how each is made.
fn programs(package: &str, dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let sources = sources_of(package);
    let Ok(list) = std::fs::read_to_string(sources.join("programs.txt")) else { return Ok(Vec::new()) };
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".to_string());
    let mut made = Vec::new();
    for (name, arguments) in list.lines().filter_map(|line| line.split_once(": ")) {
        let program = dir.join("objects").join(name);
        let mut compile = command(&clang, ["-O1", "-o"]);
        compile.arg(&program).args(arguments.split(' ')).arg(format!("-L{}", dir.join("objects").display()));
        tools::run(compile.current_dir(&sources))?;
        made.push((program, format!("/t/objects/{name}")));
    }
    Ok(made)
}
