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
const REPLACE: &str = "replacing its table";

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
    fn fail(&self, errno: Errno) -> Error {
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
        let name = self.map.name();
        Error::Attach { program: name.to_owned(), hook: HOOK, target: name.to_owned(), cause: cause.into() }
    }

    /// Gives the kernel the value, which without a link registers it.
    fn write(&self) -> Result<()> {
        match self.map.fd().update(&0u32.to_ne_bytes(), &self.value, 0) {
            Ok(()) => Ok(()),
            // With a link the value is written once and can be registered again and again.
            Err(Errno::BUSY) if self.link => Ok(()),
            Err(errno) => Err(self.fail(errno)),
        }
    }

    /// Registers it.
    pub(crate) fn register(&self) -> Result<Link> {
        self.write()?;
        let name = self.map.name();
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
        let link = sys::link_create(&create).map_err(|errno| self.fail(errno))?;
        Ok(Link::new(name, HOOK, name, Held::Link(link)))
    }

    /// Puts it in the place of the table that is registered by a link, without a gap.
    pub(crate) fn replace(&self, link: &mut Link) -> Result<()> {
        let no = |why: &str| link.failed(REPLACE, Cause::invalid(why));
        let (HOOK, Some(held)) = (link.hook, link.link_fd()) else {
            return Err(no("it is no link of a struct_ops map"));
        };
        if !self.link {
            return Err(no("the new table is not made for links: it must be in the section .struct_ops.link"));
        }
        self.write()?;
        sys::link_update_map(held, self.map.as_fd(), None).map_err(|errno| {
            let cause = match errno {
                Errno::INVAL => Cause::invalid("the new table is of another kind or name").errno(errno),
                Errno::OPNOTSUPP | crate::explain::ENOTSUPP => {
                    Cause::new(Kind::Unsupported, "the kernel cannot replace tables of this kind").errno(errno)
                }
                _ => crate::explain::plain(errno),
            };
            link.failed(REPLACE, cause)
        })?;
        link.name = self.map.name().to_owned();
        link.target = link.name.clone();
        Ok(())
    }
}
