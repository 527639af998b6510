//! Tables of functions that the kernel calls (congestion control, schedulers): registered with their map.

use std::os::fd::AsFd;

use ringfence_sys as sys;
use ringfence_uapi::AttachType;
use rustix::io::Errno;
use sys::{AttachTo, LinkTail};

use super::{Held, Link};
use crate::error::{Cause, Error, Kind, Result};
use crate::map::Map;
use crate::program::Program;

const HOOK: &str = "the kernel's table";

/// A struct_ops map and the value with which it is registered.
#[derive(Clone, Debug)]
pub(crate) struct StructOps {
    pub(crate) map: Map,
    pub(crate) value: Vec<u8>,
    pub(crate) link: bool,
    /// The value holds their descriptors' numbers: they must stay open until it is registered.
    pub(crate) _programs: Vec<Program>,
}

impl StructOps {
    /// Registers it.
    pub(crate) fn register(&self) -> Result<Link> {
        let name = self.map.name();
        let fail = |errno| {
            let cause = match errno {
                Errno::EXIST => Cause::invalid("one of that name is registered already").errno(errno),
                // kernel/bpf/bpf_struct_ops.c, `bpf_struct_ops_map_delete_elem`: it never gets back to where it began.
                Errno::BUSY if !self.link => {
                    let why = "it is registered already, or was before: without a link that can be done once";
                    Cause::new(Kind::Io, why).action("load it again, or put it into .struct_ops.link").errno(errno)
                }
                Errno::BUSY => {
                    Cause::new(Kind::Io, "it is registered already, or another one is and only one may be").errno(errno)
                }
                _ => super::attach_cause(errno),
            };
            let (program, target) = (name.to_owned(), name.to_owned());
            Error::Attach { program, hook: HOOK, target, cause: cause.into() }
        };
        match self.map.fd().update(&0u32.to_ne_bytes(), &self.value, 0) {
            Ok(()) => {}
            // With a link the value is written once and can be registered again and again.
            Err(Errno::BUSY) if self.link => {}
            Err(errno) => return Err(fail(errno)),
        }
        if !self.link {
            return Ok(Link::new(name, HOOK, name, Held::StructOps(self.map.clone())));
        }
        let create = sys::LinkCreate {
            program: self.map.as_fd(),
            attach_type: AttachType::STRUCT_OPS,
            to: AttachTo::Nothing,
            flags: 0,
            tail: LinkTail::None,
        };
        let link = sys::link_create(&create).map_err(fail)?;
        Ok(Link::new(name, HOOK, name, Held::Link(link)))
    }
}
