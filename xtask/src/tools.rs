//! What the verbs share: places, child processes, work on both cores.

use anyhow::{Context, Result, bail, ensure};
use pico_args::Arguments;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The Debian kernels that tests run against: oldest supported, long-term ones, newest.
pub(crate) const KERNELS: &[&str] = &["5.10", "6.1", "6.12", "6.18", "7.3"];

/// Top of the source tree.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where downloaded and compiled test material is kept, shared by all work trees of this user.
pub(crate) fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("RINGFENCE_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("ringfence")))
        .or_else(|| Some(variable("HOME")?.join(".cache/ringfence")))
        .context("set HOME or RINGFENCE_CACHE: test material is kept there")
}

/// A command that shall run at the top of the source tree.
pub(crate) fn command<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// This cargo.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), arguments)
}

/// The command `ringfence`: this one, or else built as it is released: one static file.
pub(crate) fn ringfence(given: Option<PathBuf>) -> Result<PathBuf> {
    match given {
        Some(path) => path.canonicalize().with_context(|| path.display().to_string()),
        None => {
            let host = host()?;
            let mut build = cargo(["build", "--quiet", "--release", "--locked", "--package", "ringfence-cli"]);
            // With a target given, the flags are the command's alone: macros of the compiler's cannot be static.
            run(build.args(["--target", &host]).env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
            Ok(target().join(host).join("release/ringfence"))
        }
    }
}

/// This machine, as compilers name it.
fn host() -> Result<String> {
    let version = text(&mut command("rustc", ["-vV"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say for which machine it is")
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a command whose output the reader sees.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    ensure!(status.success(), "`{}` failed: {status}", shown(command));
    Ok(())
}

/// Runs a command for its standard output; its standard error is part of the failure.
pub(crate) fn bytes(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}: {}", shown(command), output.status, said.trim());
    }
    Ok(output.stdout)
}

/// [`bytes`] as text, without the line end.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes(command)?).trim_end().to_string())
}

/// Runs a command that reads `input`, for its standard output.
pub(crate) fn filter(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let name = shown(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    let mut pipe = child.stdin.take().context("no pipe")?;
    std::thread::scope(|scope| {
        // The child may end before it has read all (xz does, with padding behind the stream): not our failure.
        scope.spawn(move || pipe.write_all(input).ok());
        child.wait_with_output()
    })
    .map(|output| output.stdout)
    .with_context(|| format!("`{name}`"))
}

/// Whether a program can be found.
pub(crate) fn have(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Cores to work with.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// `work` on every item, on all cores; results in the items' order.
pub(crate) fn parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..cores().min(items.len()) {
            scope.spawn(|| {
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(item) = items.get(index)
                {
                    let result = work(item);
                    done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The files of a directory that end in `suffix`, sorted; none when there is no such directory.
pub(crate) fn files(dir: &Path, suffix: &str) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_file() && path.to_string_lossy().ends_with(suffix) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Makes `link` point at `place`, whatever it was before.
pub(crate) fn link(place: &Path, link: &Path) -> Result<()> {
    if let Some(parent) = link.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::symlink_metadata(link) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(link)?,
        Ok(_) => std::fs::remove_file(link)?,
        Err(_) => {}
    }
    std::os::unix::fs::symlink(place, link).with_context(|| link.display().to_string())
}

/// Nothing may be left on the command line.
pub(crate) fn finish(arguments: Arguments) -> Result<()> {
    let rest = arguments.finish();
    ensure!(rest.is_empty(), "unknown arguments {rest:?}; see `cargo xtask help`");
    Ok(())
}

/// The free arguments, none of which may be an option.
pub(crate) fn names(arguments: Arguments) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for word in arguments.finish() {
        let word = word.into_string().map_err(|word| anyhow::anyhow!("{word:?} is not text"))?;
        ensure!(!word.starts_with('-'), "unknown option {word}; see `cargo xtask help`");
        names.push(word);
    }
    Ok(names)
}

/// The last part of a path.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A directory that is gone with its owner.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(purpose: &str) -> Result<Scratch> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("ringfence-{purpose}-{process}-{next}"));
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Scratch(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
