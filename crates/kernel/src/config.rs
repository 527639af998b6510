//! The kernel's configuration.

use std::io::Read;

use ringfence_sys::Errno;

use crate::{Error, errno, read};

/// Longest configuration that is read: real ones have 0.3 MB.
const MAX_TEXT: u64 = 16 << 20;

/// The text of the configuration of the running kernel, with a line feed before its first line.
pub(crate) fn text(release: &str) -> Result<String, Error> {
    let boot = format!("/boot/config-{release}");
    let mut text = String::from("\n");
    match read(&boot) {
        Ok(plain) => text.push_str(&plain),
        Err(Errno::NOENT) => match std::fs::File::open("/proc/config.gz") {
            Ok(packed) => {
                let mut plain = flate2::read::GzDecoder::new(packed).take(MAX_TEXT);
                plain.read_to_string(&mut text).map_err(|error| unreadable("/proc/config.gz", errno(&error)))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Error::NoConfig { boot }),
            Err(error) => return Err(unreadable("/proc/config.gz", errno(&error))),
        },
        Err(cause) => return Err(unreadable(&boot, cause)),
    }
    Ok(text)
}

fn unreadable(path: &str, cause: Errno) -> Error {
    Error::Read { path: path.to_owned(), cause, hint: "it holds the kernel's configuration: allow it to be read" }
}

/// What stands behind `KEY=`.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let needle = format!("\n{key}=");
    let start = memchr::memmem::find(text.as_bytes(), needle.as_bytes())?.checked_add(needle.len())?;
    text.get(start..)?.lines().next().map(str::trim_end)
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn values() {
        let text = "\nCONFIG_HZ=250\n# CONFIG_X is not set\nCONFIG_HZ_250=y\nCONFIG_S=\"a b\"\n";
        assert_eq!(value(text, "CONFIG_HZ"), Some("250"));
        assert_eq!(value(text, "CONFIG_HZ_250"), Some("y"));
        assert_eq!(value(text, "CONFIG_S"), Some("\"a b\""));
        assert_eq!(value(text, "CONFIG_X"), None);
        assert_eq!(value(text, "CONFIG_H"), None);
    }
}
