//! Release and version of the running kernel.

use crate::read;

/// `uname -r`.
pub(crate) fn release() -> String {
    ringfence_sys::kernel_release().0
}

/// `KERNEL_VERSION(a, b, c)` of the running kernel, 0 when nothing tells it.
///
/// Ubuntu and Debian keep the release of their first build in `uname -r`; where they keep the real one was read in
/// libbpf's get_kernel_version.
pub(crate) fn code() -> u32 {
    let signature = read("/proc/version_signature").unwrap_or_default();
    let (release, version) = ringfence_sys::kernel_release();
    from_texts(&signature, &version, &release)
}

fn from_texts(signature: &str, version: &str, release: &str) -> u32 {
    // Ubuntu 5.4.0-12.15-generic 5.4.8
    let ubuntu = signature.split_whitespace().nth(2);
    // #1 SMP Debian 4.19.260-1 (2022-09-29)
    let debian = version.split_once("Debian ").map(|(_, rest)| rest);
    let candidates = [ubuntu, debian, Some(release)];
    candidates.into_iter().flatten().find_map(parse).unwrap_or(0)
}

/// `5.4.8-anything`; a version of two numbers has none for libbpf either.
fn parse(text: &str) -> Option<u32> {
    let mut numbers = text.splitn(3, '.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part.get(..digits)?.parse::<u32>().ok()
    });
    let (a, b, c) = (numbers.next()??, numbers.next()??, numbers.next()??);
    // KERNEL_VERSION of include/uapi/linux/version.h keeps the last number below 256.
    a.checked_shl(16)?.checked_add(b.checked_shl(8)?)?.checked_add(c.min(255))
}

#[cfg(test)]
mod tests {
    use super::from_texts;

    #[test]
    fn versions() {
        let code = |a: u32, b: u32, c: u32| a << 16 | b << 8 | c;
        let ubuntu = from_texts("Ubuntu 5.4.0-12.15-generic 5.4.8\n", "#1 SMP", "5.4.0-12-generic");
        assert_eq!(ubuntu, code(5, 4, 8));
        let debian = from_texts("", "#1 SMP Debian 4.19.260-1 (2022-09-29)", "4.19.0-22-amd64");
        assert_eq!(debian, code(4, 19, 255));
        assert_eq!(from_texts("", "#1 SMP", "6.18.44-fc"), code(6, 18, 44));
        assert_eq!(from_texts("", "", "6.18"), 0);
        assert_eq!(from_texts("", "", ""), 0);
    }
}
