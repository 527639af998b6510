//! Whose events a tool takes: the arguments that all tools have.

use std::path::PathBuf;

use ringfence_tools::{Cgroup, Filter};

use crate::exit::Failure;
use crate::tool::failure;

/// Whose events are taken; decided in the kernel.
#[derive(clap::Args)]
pub struct Whose {
    /// Only this process, with its threads.
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Only threads of this name.
    #[arg(long, value_name = "NAME")]
    comm: Option<String>,
    /// Only processes of this user, by number.
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,
    /// Only this control group and those below it: its directory, or its path in the tree.
    #[arg(long, value_name = "PATH", conflicts_with = "container")]
    cgroup: Option<PathBuf>,
    /// Only this container, by its number or the first characters of it.
    #[arg(long, value_name = "ID")]
    container: Option<String>,
}

impl Whose {
    /// What the kernel is told.
    pub fn filter(&self) -> Result<Filter, Failure> {
        let cgroup = match (&self.cgroup, &self.container) {
            (Some(path), _) => Some(Cgroup::at(path)),
            (None, Some(id)) => Some(Cgroup::of_container(id)),
            (None, None) => None,
        };
        let cgroup = cgroup.transpose().map_err(failure)?;
        Ok(Filter { pid: self.pid, uid: self.uid, comm: self.comm.clone(), cgroup })
    }

    /// The process that is asked for, or one of the container.
    pub fn process(&self, filter: &Filter) -> Option<u32> {
        let of_container = || filter.cgroup.as_ref().filter(|_| self.container.is_some())?.processes().first().copied();
        self.pid.or_else(of_container)
    }
}
