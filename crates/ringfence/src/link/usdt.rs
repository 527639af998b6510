//! Static probes in user space (USDT): every place of a program or library where one was compiled in.

use ringfence_kernel::Feature;

use super::uprobe::User;
use super::uprobe_multi::Places;
use super::{Link, failed};
use crate::binary::{Binary, Image, Note};
use crate::error::{Cause, Kind, Result};
use crate::hook::{Hook, sealed};
use crate::program::Program;
use crate::usdt::Target;

const HOOK: &str = "static probe";
/// Names of other probes that an error shows.
const MOST_NAMES: usize = 8;

/// A static probe (USDT) of a program or library, at all its places.
///
/// A program made with libbpf's `usdt.bpf.h` reads the probe's arguments by `bpf_usdt_arg`.
///
/// ```no_run
/// use ringfence::hook::Usdt;
/// # fn show(program: &ringfence::Program) -> Result<(), ringfence::Error> {
/// let link = program.attach_to(&Usdt::new("libc.so.6", "libc", "setjmp").cookie(7))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usdt {
    user: User,
    provider: String,
    name: String,
    cookie: u64,
}

impl Usdt {
    /// `Usdt::new(BINARY, PROVIDER, NAME)`; the binary is a path, or a name that is looked for (`libc.so.6`).
    pub fn new(binary: &str, provider: &str, name: &str) -> Self {
        Usdt { user: User::new(binary), provider: provider.to_owned(), name: name.to_owned(), cookie: 0 }
    }

    /// In this process alone; without this in all, also in those that start later.
    pub fn pid(mut self, pid: u32) -> Self {
        self.user.pid = Some(pid);
        self
    }

    /// Looks for the binary where this process would: in its container.
    pub fn seen_by(mut self, pid: u32) -> Self {
        self.user.seen_by = Some(pid);
        self
    }

    /// What `bpf_usdt_cookie` gives in the program.
    pub fn cookie(mut self, cookie: u64) -> Self {
        self.cookie = cookie;
        self
    }

    /// The probe's places.
    fn notes(&self, binary: &Binary, image: &Image<'_>) -> Result<Vec<Note>, Cause> {
        let all = image.notes()?;
        let path = binary.path().display();
        if all.is_empty() {
            return Err(Cause::invalid(format!("{path} has no static probes (no notes in .note.stapsdt)"))
                .action("see `readelf -n` for those of another file, of which this one may be a link or a wrapper"));
        }
        let is = |note: &&Note| note.provider == self.provider && note.name == self.name;
        let found: Vec<Note> = all.iter().filter(is).cloned().collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let wanted = format!("{}:{}", self.provider, self.name);
        let mut names: Vec<String> = all.iter().map(|note| format!("{}:{}", note.provider, note.name)).collect();
        names.sort_unstable();
        names.dedup();
        let mut near = crate::near::nearest(&wanted, names.iter().map(String::as_str));
        if near.is_empty() {
            near = names.iter().take(MOST_NAMES).cloned().collect();
            near.extend((names.len() > MOST_NAMES).then(|| format!("{} more", names.len() - MOST_NAMES)));
        }
        Err(Cause::invalid(format!("{path} has no static probe {wanted}"))
            .action(format!("it has {}", near.join(", "))))
    }

    /// What the kernel reports as the address of a place, which only kernels without cookies have to be known.
    fn address(&self, binary: &Binary, image: &Image<'_>, note: &Note, offset: u64) -> Result<u64, Cause> {
        if !image.is_relocated() {
            return Ok(note.address);
        }
        let Some(pid) = self.user.pid else {
            return Err(Cause::new(
                Kind::Unsupported,
                "this kernel has no cookies (5.15), so where the file is loaded must be known",
            )
            .action(
                "name one process: libraries, and programs that are loaded anywhere, differ from one to the other",
            ));
        };
        mapped(pid, binary, offset).ok_or_else(|| {
            Cause::invalid(format!("process {pid} has not mapped {}", binary.path().display()))
                .action("attach when it has loaded the file")
        })
    }
}

/// Where a process has mapped the code at an offset of a file.
fn mapped(pid: u32, binary: &Binary, offset: u64) -> Option<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    maps.lines().find_map(|line| {
        // 7f5c6f5d8000-7f5c6f5d9000 r-xp 00001000 103:01 362990598    /usr/lib/x.so
        let mut parts = line.split_ascii_whitespace();
        let (start, end) = parts.next()?.split_once('-')?;
        let (start, end) = (hex(start)?, hex(end)?);
        let executable = parts.next()?.contains('x');
        let first = hex(parts.next()?)?;
        let (major, minor) = parts.next()?.split_once(':')?;
        let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
        let inside = offset.checked_sub(first)?;
        let address = start.checked_add(inside).filter(|address| executable && *address < end)?;
        binary.is(device, parts.next()?.parse().ok()?).then_some(address)
    })
}

impl sealed::Sealed for Usdt {}

impl Hook for Usdt {
    fn attach(&self, program: &Program) -> Result<Link> {
        let target = format!("{}:{}:{}", self.user.binary, self.provider, self.name);
        let fail = |cause| failed(program, HOOK, &target, cause);
        let binary = self.user.open().map_err(fail)?;
        let image = binary.image().map_err(fail)?;
        let notes = self.notes(&binary, &image).map_err(fail)?;
        let outside =
            |note: &Note| Cause::invalid(format!("a place of it, {:#x}, is outside of the file", note.address));
        let mut places = Places {
            pid: self.user.pid,
            ret: false,
            offsets: Vec::new(),
            cookies: vec![self.cookie; notes.len()],
            counters: Vec::new(),
        };
        for note in &notes {
            places.offsets.push(image.file_offset(note.address).ok_or_else(|| fail(outside(note)))?);
            let counter = note.semaphore.map(|address| image.data_offset(address).ok_or_else(|| fail(outside(note))));
            places.counters.push(counter.transpose()?.unwrap_or(0));
        }
        if places.counters.iter().all(|counter| *counter == 0) {
            places.counters.clear();
        }
        let (mut claim, mut notices) = (None, Vec::new());
        if let Some(specs) = program.usdt() {
            let cookies = program.kernel().has(Feature::BpfCookie);
            let mut targets = Vec::new();
            for (note, offset) in notes.iter().zip(&places.offsets) {
                let address = (!cookies).then(|| self.address(&binary, &image, note, *offset)).transpose();
                targets.push(Target { arguments: &note.arguments, address: address.map_err(fail)? });
            }
            let (numbers, claimed, unreadable) = specs.claim(&targets, self.cookie).map_err(fail)?;
            places.cookies = if cookies { numbers } else { Vec::new() };
            (claim, notices) = (Some(claimed), unreadable);
        } else if self.cookie == 0 {
            // Without the maps of usdt.bpf.h the cookie is the program's own.
            places.cookies.clear();
        }
        let link = places.attach(program, HOOK, &target, &binary)?;
        Ok(link.claiming(claim).noticing(notices).noticing(binary.slow_places(&places.offsets)))
    }
}
