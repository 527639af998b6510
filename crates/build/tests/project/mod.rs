//! Projects outside of the workspace, from the files of a page.
#![allow(dead_code, unreachable_pub, reason = "not every test uses all")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// The files of a page: blocks whose first line says `file=NAME`.
fn files(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for block in page.split("```").skip(1).step_by(2) {
        let (head, body) = block.split_once('\n').unwrap();
        if let Some((_, name)) = head.split_once("file=") {
            found.push((name.to_owned(), body.to_owned()));
        }
    }
    found
}

/// Writes the project with path dependencies; the workspace's lock file and build directory spare most of the work.
fn project(dir: &Path, page: &str) {
    let root = workspace();
    for (name, text) in files(page) {
        let here = |name: &str| format!("{{ path = {:?} }}", root.join("crates").join(name).display().to_string());
        let text = text
            .replace("ringfence = \"0.1\"", &format!("ringfence = {}", here("ringfence")))
            .replace("ringfence-build = \"0.1\"", &format!("ringfence-build = {}", here("build")));
        let text =
            if name == "Cargo.toml" { text + "\n[workspace]\n\n[lints.rust]\nwarnings = \"deny\"\n" } else { text };
        fs::create_dir_all(dir.join(&name).parent().unwrap()).unwrap();
        fs::write(dir.join(name), text).unwrap();
    }
    fs::copy(root.join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
}

pub fn cargo(dir: &Path, verb: &str) -> Output {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".to_owned());
    Command::new(env!("CARGO"))
        .args([verb, "--quiet"])
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", target)
        .env("CLANG", clang)
        .output()
        .unwrap()
}

/// The project of a page; `None`: this machine lacks what the page asks for.
pub fn made(page: &str) -> Option<tempfile::TempDir> {
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".to_owned());
    let no_clang = Command::new(clang).arg("--version").output().is_err();
    if no_clang || !Path::new("/usr/include/bpf/bpf_helpers.h").exists() {
        println!("skipped: clang-19 or libbpf-dev is not installed ({})", std::thread::current().name().unwrap_or("?"));
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    project(dir.path(), page);
    Some(dir)
}

pub fn run(page: &str) -> Option<String> {
    let dir = made(page)?;
    let output = cargo(dir.path(), "run");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    Some(out.into_owned())
}
