//! Input that is no object: a clear error each, exit code 1 (2 for a command line that makes no sense), quickly.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{ringfence, ringfence_with, stderr};

fn refused(path: &Path, says: &[&str]) {
    for verb in ["inspect", "check", "run"] {
        let start = Instant::now();
        let output = ringfence().arg(verb).arg(path).output().expect("output");
        assert!(start.elapsed() < Duration::from_secs(1), "{verb} {}", path.display());
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{verb} {}: {error}", path.display());
        assert!(output.stdout.is_empty());
        assert!(error.starts_with("ringfence: ") && error.contains(&*path.to_string_lossy()), "{error}");
        assert!(says.iter().any(|word| error.contains(word)), "{verb}: none of {says:?} in: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
}

#[test]
fn what_is_no_object() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    refused(&file("empty.o", b""), &["empty"]);
    refused(&file("text.o", b"int main(void) { return 0; }\n"), &["text", "clang"]);
    refused(
        &file("random.o", &(0..4096u32).map(|n| (n.wrapping_mul(2654435761) >> 13) as u8).collect::<Vec<_>>()),
        &["ELF"],
    );
    refused(&file("magic.o", b"\x7fELF"), &["ELF", "cut", "short"]);
    refused(Path::new("/bin/true"), &["machine", "x86"]);
    refused(&dir.path().join("missing.o"), &["no such file"]);
    refused(dir.path(), &["directory"]);
    let opens = std::fs::read(common::root().join("bpf/opens.bpf.o")).expect("the built-in object");
    for len in [20, 64, 500, opens.len() / 2, opens.len() - 1] {
        let path = file(&format!("cut{len}.o"), &opens[..len]);
        refused(&path, &[""]);
    }
}

#[test]
fn usage() {
    for args in [
        &["inspect"][..],
        &["run"],
        &["frobnicate"],
        &["run", "opens", "--for", "soon"],
        &["run", "opens", "--set", "x"],
    ] {
        let output = ringfence_with(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty());
    }
}

#[test]
fn a_full_disk_is_named() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let done =
        common::ringfence().args(["inspect", "opens"]).stdout(full).stderr(std::process::Stdio::piped()).output();
    let done = done.expect("the command");
    let said = common::stderr(&done);
    assert!(done.status.code() == Some(1) && said.starts_with("ringfence: writing to stdout: No space left"), "{said}");
}
