//! An initial file system as a cpio archive in the form `newc`, which the kernel unpacks into memory.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const DIRECTORY: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const FILE: u32 = 0o100_000;
const TERMINAL: u32 = 0o020_600;
/// Major number of serial ports.
const TTY: u32 = 4;

/// An archive that grows.
#[derive(Default)]
pub(super) struct Initrd {
    bytes: Vec<u8>,
    /// What is in it, as absolute paths.
    names: BTreeSet<String>,
}

impl Initrd {
    /// A directory, and those above it.
    pub(super) fn directory(&mut self, path: &str) {
        if path.is_empty() || path == "/" || self.names.contains(path) {
            return;
        }
        self.above(path);
        self.entry(path, DIRECTORY, &[]);
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, to: &str) {
        self.above(path);
        self.entry(path, LINK, to.as_bytes());
    }

    /// A file with these contents.
    pub(super) fn file(&mut self, path: &str, permissions: u32, contents: &[u8]) {
        self.above(path);
        self.entry(path, FILE | permissions, contents);
    }

    /// The serial port `/dev/ttySN`.
    pub(super) fn serial(&mut self, number: u32) {
        let path = format!("/dev/ttyS{number}");
        self.above(&path);
        self.names.insert(path.clone());
        self.record(&path[1..], TERMINAL, [TTY, 64 + number], &[]);
    }

    /// A copy of a file of this machine.
    pub(super) fn copy(&mut self, from: &Path, path: &str) -> Result<()> {
        let contents = fs::read(from).with_context(|| from.display().to_string())?;
        self.file(path, fs::metadata(from)?.permissions().mode() & 0o777, &contents);
        Ok(())
    }

    /// Whether something is there already.
    pub(super) fn has(&self, path: &str) -> bool {
        self.names.contains(path)
    }

    fn above(&mut self, path: &str) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.names.insert(path.to_string());
        self.record(path.trim_start_matches('/'), mode, [0, 0], contents);
    }

    /// `Documentation/driver-api/early-userspace/buffer-format.rst`.
    fn record(&mut self, name: &str, mode: u32, [major, minor]: [u32; 2], contents: &[u8]) {
        let inode = self.names.len() as u32;
        let (size, name_size) = (contents.len() as u32, name.len() as u32 + 1);
        self.bytes.extend(b"070701");
        // inode, mode, owner, group, links, time, size, 2 x device, 2 x special device, length of name, checksum
        for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.record("TRAILER!!!", 0, [0, 0], &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Initrd;

    #[test]
    fn directories_come_before_what_is_in_them() {
        let mut initrd = Initrd::default();
        initrd.file("/a/b/c", 0o644, b"hello");
        initrd.directory("/a");
        let archive = initrd.finish();
        let text = String::from_utf8_lossy(&archive);
        let names = ["a\0", "a/b\0", "a/b/c\0", "hello", "TRAILER!!!\0"].map(|name| text.find(name).unwrap());
        assert!(names.is_sorted());
        assert_eq!(text.matches("070701").count(), 4);
        assert_eq!(archive.len() % 4, 0);
    }
}
