//! Kernel modules with BTF.

use ringfence_btf::Btf;
use ringfence_sys::{self as sys, Errno};

use crate::{Error, errno};

/// A kernel module with BTF.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its name, underscores and not dashes.
    pub name: String,
    /// Its types, split on the kernel's.
    pub btf: Btf,
    /// Id of its BTF object; 0 when the kernel is not the running one, or the process may not know ids
    /// (CAP_SYS_ADMIN).
    pub id: u32,
}

const DIRECTORY: &str = "/sys/kernel/btf";

/// The modules of the running kernel, in the order of their ids.
pub(crate) fn load(kernel: &Btf) -> Result<Vec<Module>, Error> {
    let mut names = names()?;
    // The usual case in containers and small machines costs one look into a directory.
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::with_capacity(names.len());
    let mut id = 0;
    while !names.is_empty() {
        id = match sys::Ids::Btf.after(id) {
            Ok(Some(id)) => id,
            Ok(None) | Err(Errno::PERM) => break,
            Err(cause) => return Err(unreadable("the list of BTF ids".to_owned(), cause)),
        };
        // It may go at any time.
        let Ok(info) = sys::open_btf(id).and_then(|btf| btf.info()) else { continue };
        let place = names.iter().position(|name| info.kernel && info.name.as_ref() == Some(name));
        if let Some(place) = place {
            found.push((names.swap_remove(place), id));
        }
    }
    // What has no id is there all the same, to relocate against.
    names.sort_unstable();
    found.extend(names.into_iter().map(|name| (name, 0)));
    let mut modules = Vec::with_capacity(found.len());
    for (name, id) in found {
        let bytes = match sys::kernel_btf(&name) {
            Ok(bytes) => bytes,
            // Unloaded since.
            Err(Errno::NOENT | Errno::NODEV) => continue,
            Err(cause) => return Err(unreadable(format!("{DIRECTORY}/{name}"), cause)),
        };
        let btf = Btf::parse_split(bytes, kernel).map_err(|cause| Error::Btf { name: name.clone(), cause })?;
        modules.push(Module { name, btf, id });
    }
    Ok(modules)
}

fn names() -> Result<Vec<String>, Error> {
    let unreadable = |error: &std::io::Error| unreadable(DIRECTORY.to_owned(), errno(error));
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| unreadable(&error))?.file_name();
        if let Some(name) = name.to_str().filter(|name| *name != "vmlinux") {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn unreadable(path: String, cause: Errno) -> Error {
    Error::Read { path, cause, hint: "the types of modules are read there" }
}
