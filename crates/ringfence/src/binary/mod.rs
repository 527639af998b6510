//! Programs and libraries in user space: finding the file, and the places in it that a uprobe wants.

mod elf;
mod go;
mod notes;
mod paths;
mod step;
mod zip;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use object::ReadCache;
use rustix::fs::{Mode, OFlags, ResolveFlags};

pub(crate) use elf::Image;
pub(crate) use notes::Note;

use crate::error::{Cause, Kind};

/// Where libraries are looked for; `@` stands for the machine's triple.
const LIBRARY_DIRS: [&str; 6] = ["/usr/lib64", "/usr/lib", "/lib64", "/lib", "/usr/lib/@", "/lib/@"];
const PROGRAM_DIRS: [&str; 2] = ["/usr/bin", "/usr/sbin"];
const TRIPLES: [(&str, &str); 4] = [
    ("x86_64", "x86_64-linux-gnu"),
    ("aarch64", "aarch64-linux-gnu"),
    ("riscv64", "riscv64-linux-gnu"),
    ("s390x", "s390x-linux-gnu"),
];

/// A program or library, opened once: the file that is read is the one that is probed.
pub(crate) struct Binary {
    /// As the kernel finds it.
    path: PathBuf,
    file: File,
    cache: ReadCache<File>,
    /// Where it begins in the file, and its length: not the whole for a member of an archive.
    start: u64,
    length: u64,
}

impl Binary {
    /// Opens a program or library by path or name, or as `ARCHIVE!/MEMBER`. `seen_by`: as this process sees the file system.
    pub(crate) fn open(name: &str, seen_by: Option<u32>) -> Result<Binary, Cause> {
        let (name, member) = name.split_once("!/").map_or((name, None), |(archive, member)| (archive, Some(member)));
        let (path, file) = match seen_by {
            Some(pid) => Root::of(pid)?.find(name)?,
            None => {
                let path = find(name)?;
                let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
                (path, file)
            }
        };
        let length = file.metadata().map_err(|error| unreadable(&path, &error))?.len();
        let (start, length) = match member {
            Some(member) => zip::member(&file, &path, member)?,
            None => (0, length),
        };
        let cache = file.try_clone().map(ReadCache::new).map_err(|error| unreadable(&path, &error))?;
        Ok(Binary { path, file, cache, start, length })
    }

    /// As the kernel finds it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path for a system call.
    pub(crate) fn c_path(&self) -> Result<CString, Cause> {
        CString::new(self.path.as_os_str().as_bytes()).map_err(|_| Cause::invalid("the path holds a zero byte"))
    }

    /// What is in it.
    pub(crate) fn image(&self) -> Result<Image<'_>, Cause> {
        Image::new(self)
    }

    /// Return probes may be set in it.
    pub(crate) fn check_return(&self) -> Result<(), Cause> {
        match self.image()?.is_go() {
            false => Ok(()),
            true => Err(Cause::invalid(format!(
                "a probe at a return would crash {}: Go moves its stacks, and with them the address to return to",
                self.path.display()
            ))
            .action("attach to the function's `ret` instructions instead, as FUNCTION+OFFSET")),
        }
    }

    /// It is the file that a line of `/proc/PID/maps` names by device and inode.
    pub(crate) fn is(&self, device: (u32, u32), inode: u64) -> bool {
        let dev = |meta: &std::fs::Metadata| (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
        self.file.metadata().is_ok_and(|meta| meta.ino() == inode && dev(&meta) == device)
    }

    /// The places of these at which the CPU steps through an instruction, in words; `None`: there are none.
    pub(crate) fn slow_places(&self, offsets: &[u64]) -> Option<String> {
        let code = |offset: u64| {
            let mut code = [0; 8];
            let read = self.file.read_at(&mut code, offset).unwrap_or(0);
            (code, read)
        };
        let codes = offsets.iter().map(|offset| code(*offset));
        let slow: Vec<_> = codes.filter(|(code, read)| step::is_stepped(code.get(..*read).unwrap_or(code))).collect();
        let landing = slow.iter().all(|(code, _)| code.starts_with(&step::ENDBR64));
        let count = match (slow.len(), offsets.len()) {
            (0, _) => return None,
            (1, 1) => "the place begins".to_owned(),
            (slow, all) => format!("{slow} of {all} places begin"),
        };
        let hint = if landing { "; it is endbr64: FUNCTION+4 is a cheaper place where a push follows" } else { "" };
        Some(format!(
            "{count} with an instruction that the CPU has to step through ({}): each hit costs some 15 us in the place of 1{hint}",
            self.path.display()
        ))
    }
}

pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Cause {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => Kind::Permission,
        io::ErrorKind::NotFound => Kind::Invalid,
        _ => Kind::Io,
    };
    let cause = Cause::new(kind, format!("cannot read {}: {error}", path.display()));
    match error.raw_os_error() {
        Some(errno) => cause.errno(rustix::io::Errno::from_raw_os_error(errno)),
        None => cause,
    }
}

fn is_library(name: &str) -> bool {
    name.ends_with(".so") || name.contains(".so.")
}

fn library_dirs() -> impl Iterator<Item = PathBuf> {
    let triple = TRIPLES.iter().find(|(arch, _)| *arch == std::env::consts::ARCH).map_or("", |(_, triple)| triple);
    LIBRARY_DIRS.iter().map(move |dir| PathBuf::from(dir.replace('@', triple)))
}

fn usable(path: &Path, library: bool) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && (library || meta.permissions().mode() & 0o111 != 0))
}

/// The file of a program or library: a path as it stands, a name by `LD_LIBRARY_PATH` and the library directories when it is a
/// library's (`.so` in it), by `PATH` otherwise.
fn find(name: &str) -> Result<PathBuf, Cause> {
    if name == "/proc/self/exe" {
        // It works as it stands, but is clearer resolved.
        return Ok(std::fs::read_link(name).unwrap_or_else(|_| PathBuf::from(name)));
    }
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let library = is_library(name);
    let variable = if library { "LD_LIBRARY_PATH" } else { "PATH" };
    let mut dirs: Vec<PathBuf> = std::env::var_os(variable).map_or(Vec::new(), |v| std::env::split_paths(&v).collect());
    if library {
        dirs.extend(library_dirs());
    } else {
        dirs.extend(PROGRAM_DIRS.map(PathBuf::from));
    }
    let mut paths = dirs.iter().filter(|dir| dir.is_absolute()).map(|dir| dir.join(name));
    paths.find(|path| usable(path, library)).ok_or_else(|| {
        Cause::invalid(format!("no file `{name}` in {variable} or the system's directories"))
            .action("give its full path")
    })
}

/// The file system as a process sees it: that of a container.
struct Root {
    pid: u32,
    path: PathBuf,
    dir: OwnedFd,
}

impl Root {
    fn of(pid: u32) -> Result<Root, Cause> {
        let path = PathBuf::from(format!("/proc/{pid}/root"));
        let dir = rustix::fs::open(&path, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let dir = dir.map_err(|errno| match errno {
            rustix::io::Errno::NOENT => Cause::new(Kind::Io, format!("there is no process {pid}")).errno(errno),
            _ => crate::explain::plain(errno)
                .action(format!("seeing files as process {pid} does takes CAP_SYS_PTRACE, or its user")),
        })?;
        Ok(Root { pid, path, dir })
    }

    /// A path in it; a name is first looked for among the files that the process has mapped.
    fn find(&self, name: &str) -> Result<(PathBuf, File), Cause> {
        if name == "/proc/self/exe" {
            let path = PathBuf::from(format!("/proc/{}/exe", self.pid));
            let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
            return Ok((path, file));
        }
        if name.contains('/') {
            return self.open(Path::new(name)).map_err(|error| unreadable(&self.path.join(name), &error));
        }
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid)).unwrap_or_default();
        let mapped = maps.lines().filter_map(|line| line.find('/').and_then(|at| line.get(at..)));
        let mapped = mapped.filter(|path| path.rsplit('/').next() == Some(name)).map(PathBuf::from);
        let dirs: Vec<PathBuf> =
            if is_library(name) { library_dirs().collect() } else { PROGRAM_DIRS.map(PathBuf::from).into() };
        let mut paths = mapped.chain(dirs.into_iter().map(|dir| dir.join(name)));
        paths.find_map(|path| self.open(&path).ok()).ok_or_else(|| {
            Cause::invalid(format!("no file `{name}` is mapped by process {}, or in its system directories", self.pid))
                .action("give its full path")
        })
    }

    /// Symbolic links lead to where they do for the process, which a path through `/proc/PID/root` alone would not give.
    fn open(&self, path: &Path) -> io::Result<(PathBuf, File)> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&self.dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
        let file = File::from(file);
        let own = file.metadata()?;
        if !own.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        // The kernel gives the path from the root of the file's mounts, which may or may not be ours.
        let seen = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let inside = self.path.join(seen.strip_prefix("/").unwrap_or(&seen));
        let same =
            |path: &PathBuf| path.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == (own.dev(), own.ino()));
        let path = [seen, inside].into_iter().find(same);
        Ok((path.unwrap_or_else(|| self.path.join(path_inside(&file))), file))
    }
}

/// The last resort: the descriptor itself, which the kernel follows as long as it is open.
fn path_inside(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_programs_are_found() {
        assert!(find("sh").unwrap().is_absolute());
        assert!(find("libc.so.6").unwrap().to_string_lossy().contains("lib"));
        assert_eq!(find("./x").unwrap(), Path::new("./x"));
        assert_eq!(find("no-such-program-here").unwrap_err().kind, Kind::Invalid);
    }

    #[test]
    fn files_as_a_process_sees_them() {
        let own = Some(std::process::id());
        let libc = Binary::open("libc.so.6", own).unwrap();
        assert!(libc.path().is_absolute() && libc.path().exists(), "{}", libc.path().display());
        let program = Binary::open("/proc/self/exe", own).unwrap();
        assert!(program.image().is_ok());
        assert!(Binary::open("/no/such/file", own).is_err());
        let error = Binary::open("sh", Some(0x7fff_fff0)).map(drop).unwrap_err();
        assert!(error.why.contains("no process"), "{error}");
    }
}
