//! A kernel image as Debian ships it (bzImage) to the ELF file within, and that one's BTF.

use crate::tools::{command, filter};
use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection};

/// How a payload starts, and what unpacks it.
const PACKERS: &[(&[u8], &str, &[&str])] = &[
    (b"\xfd7zXZ", "xz", &["-dc", "--single-stream"]),
    (b"\x28\xb5\x2f\xfd", "zstd", &["-dc"]),
    (b"\x1f\x8b\x08", "gzip", &["-dc"]),
    (b"\x02\x21\x4c\x18", "lz4", &["-dc"]),
];

/// The ELF kernel inside a bzImage (`Documentation/arch/x86/boot.rst`, protocol 2.08 and later).
pub(super) fn unpack(image: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    ensure!(image.get(0x202..0x206) == Some(b"HdrS"), "not a bzImage");
    let setup_sectors = match image[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let payload = word(0x248)
        .zip(word(0x24c))
        .and_then(|(offset, length)| image.get((setup_sectors + 1) * 512 + offset..)?.get(..length))
        .context("payload outside of the image")?;
    let packer = PACKERS.iter().find(|(magic, ..)| payload.starts_with(magic));
    let (_, program, arguments) = packer.context("packed in a way that is not known here")?;
    // The packers complain about the length that follows their data: what they wrote is what counts.
    let kernel = filter(command(program, *arguments).stderr(std::process::Stdio::null()), payload)?;
    ensure!(kernel.starts_with(b"\x7fELF"), "{program} found no ELF file in the payload");
    Ok(kernel)
}

/// The raw BTF of an ELF kernel.
pub(super) fn btf(kernel: &[u8]) -> Result<Vec<u8>> {
    let elf = object::File::parse(kernel)?;
    let section = elf.section_by_name(".BTF").context("the kernel has no .BTF")?;
    Ok(section.data()?.to_vec())
}
