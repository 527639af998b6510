//! Values that hang on a task, a socket, a file or a control group.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ringfence_sys as sys;
use ringfence_uapi::MapType;
use rustix::io::Errno;

use super::table::check_size;
use super::{Map, Plain, Update, wrong_view};
use crate::error::{Cause, Error, Result};

/// Values that the kernel keeps with the object to which they belong, and that are gone with it. The object is named by a file
/// descriptor:
///
/// | map | since | object | descriptor |
/// |---|---|---|---|
/// | `BPF_MAP_TYPE_SK_STORAGE` | 5.2 | socket | the socket's |
/// | `BPF_MAP_TYPE_INODE_STORAGE` | 5.10 | file | any open file's |
/// | `BPF_MAP_TYPE_TASK_STORAGE` | 5.11 | process, thread | [`pidfd`]'s |
/// | `BPF_MAP_TYPE_CGRP_STORAGE` | 6.2 | control group | its directory's |
///
/// ```no_run
/// # fn show(loaded: &ringfence::Loaded) -> Result<(), ringfence::Error> {
/// let seconds = loaded.map("seconds")?.storage::<u64>()?;
/// let process = ringfence::pidfd(1)?;
/// seconds.insert(&process, &60)?;
/// assert_eq!(seconds.get(&process)?, Some(60));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Storage<V> {
    map: Map,
    types: PhantomData<fn() -> V>,
}

impl<V: Plain> Storage<V> {
    pub(super) fn new(map: &Map) -> Result<Self> {
        if object_of(map.kind()).is_none() {
            return Err(wrong_view(map, "storage"));
        }
        check_size::<V>(map, "value", map.value_size())?;
        Ok(Self { map: map.clone(), types: PhantomData })
    }

    /// The map.
    pub fn map(&self) -> &Map {
        &self.map
    }

    fn key(object: &impl AsFd) -> [u8; 4] {
        object.as_fd().as_raw_fd().to_ne_bytes()
    }

    fn explain(&self, error: Error) -> Error {
        let Error::Map { cause, step, .. } = &error else { return error };
        // Which of them depends on the kind (bpf_fd_sk_storage_lookup_elem, bpf_pid_task_storage_lookup_elem and the others).
        let wrong = [Errno::BADF, Errno::INVAL, Errno::NOTSOCK].map(|errno| Some(errno.raw_os_error()));
        if !wrong.contains(&cause.errno) {
            return error;
        }
        let wanted = object_of(self.map.kind()).unwrap_or("another object");
        let why = format!("the file descriptor is not that of {wanted}");
        self.map.failed(step, Cause { why, action: String::new(), ..(**cause).clone() })
    }

    /// The object's value; `None`: it has none, or is gone.
    ///
    /// # Errors
    /// The descriptor is of another kind.
    pub fn get(&self, object: &impl AsFd) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        let found = self.map.lookup_into(&Self::key(object), value.as_mut_bytes());
        Ok(found.map_err(|error| self.explain(error))?.then_some(value))
    }

    /// Gives the object a value.
    ///
    /// # Errors
    /// As [`Storage::get`].
    pub fn insert(&self, object: &impl AsFd, value: &V) -> Result<()> {
        self.update(object, value, Update::Any)
    }

    /// As [`Storage::insert`], on a condition.
    ///
    /// # Errors
    /// The object has a value, or has none, against `update`; as [`Storage::get`].
    pub fn update(&self, object: &impl AsFd, value: &V, update: Update) -> Result<()> {
        self.map.update(&Self::key(object), value.as_bytes(), update).map_err(|error| self.explain(error))
    }

    /// Takes the object's value away. `false`: it had none.
    ///
    /// # Errors
    /// As [`Storage::get`].
    pub fn remove(&self, object: &impl AsFd) -> Result<bool> {
        self.map.delete(&Self::key(object)).map_err(|error| self.explain(error))
    }
}

fn object_of(kind: MapType) -> Option<&'static str> {
    Some(match kind {
        MapType::SK_STORAGE => "a socket",
        MapType::INODE_STORAGE => "a file",
        MapType::TASK_STORAGE => "a process (`ringfence::pidfd`)",
        MapType::CGRP_STORAGE => "a control group's directory",
        _ => return None,
    })
}

/// A file descriptor that stands for a process (its main thread), for [`Storage`]. It stays that process's also when the number is used again.
///
/// # Errors
/// There is no such process.
pub fn pidfd(pid: u32) -> Result<OwnedFd> {
    open(pid, false)
}

/// The same for one thread of a process, by the kernel's number of it (since 6.9).
///
/// # Errors
/// There is no such thread, or the kernel is older.
pub fn pidfd_of_thread(thread: u32) -> Result<OwnedFd> {
    open(thread, true)
}

fn open(number: u32, thread: bool) -> Result<OwnedFd> {
    sys::process_descriptor(number, thread).map_err(|errno| {
        let cause = match errno {
            Errno::SRCH => Cause::invalid("there is none").errno(errno),
            Errno::INVAL if thread => {
                Cause::new(crate::Kind::Unsupported, "this kernel has no descriptors of threads (they came with 6.9)")
                    .errno(errno)
            }
            // What pidfd_open says of a thread that is not the first of its process.
            Errno::INVAL | Errno::NOENT => Cause::invalid("that is a thread: take `pidfd_of_thread`").errno(errno),
            _ => crate::explain::plain(errno),
        };
        Error::system(&format!("opening the {} {number}", if thread { "thread" } else { "process" }), cause)
    })
}
