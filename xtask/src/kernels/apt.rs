//! Packages of other Debian releases by plain apt, in a root of its own: the machine's package lists stay as they are.

use crate::tools::{bytes, command, text};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Suites that hold the kernels. The security suites keep the newest of each long-term series.
const MAIN: &[&str] = &["trixie-backports"];
const SECURITY: &[&str] = &["bullseye-security", "bookworm-security", "trixie-security"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const FLAVOUR: &str = "cloud-amd64";

/// A private apt root.
pub(super) struct Apt {
    config: PathBuf,
}

impl Apt {
    /// Makes the root at `dir` and fetches the package lists of the mirror that this machine uses.
    pub(super) fn open(dir: &Path) -> Result<Apt> {
        for part in ["state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/trusted.gpg.d"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let mirror = mirror()?;
        let mirror = mirror.trim_end_matches('/');
        let security = format!("{}/debian-security", mirror.strip_suffix("/debian").unwrap_or(mirror));
        let line = |mirror: &str, suite: &&str| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        let sources: String = MAIN.iter().map(|suite| line(mirror, suite)).collect();
        let security: String = SECURITY.iter().map(|suite| line(&security, suite)).collect();
        fs::write(dir.join("etc/sources.list"), sources + &security)?;

        let config = dir.join("apt.conf");
        let dir = dir.display();
        // A mirror snapshot's Release file may have expired; its signature still holds.
        let text = format!(
            r#"Dir::State "{dir}/state"; Dir::State::status "/dev/null"; Dir::Cache "{dir}/cache";
Dir::Etc "{dir}/etc"; Dir::Etc::main "/dev/null"; Dir::Etc::sourcelist "{dir}/etc/sources.list";
APT::Architecture "amd64"; APT::Architectures "amd64"; APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false"; Acquire::Languages "none"; Acquire::Retries "3";
"#
        );
        fs::write(&config, text)?;
        let apt = Apt { config };
        eprintln!("kernels: fetching package lists");
        bytes(&mut apt.tool("apt-get", &["-qq", "update"]))?;
        Ok(apt)
    }

    fn tool(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = command(program, arguments);
        command.env("APT_CONFIG", &self.config);
        command
    }

    /// The newest image of a series, as a package name: `linux-image-6.12.117+deb13-cloud-amd64`.
    pub(super) fn newest_image(&self, series: &str) -> Result<String> {
        let prefix = format!("linux-image-{series}.");
        let names = text(&mut self.tool("apt-cache", &["pkgnames", &prefix]))?;
        let newest = names.lines().filter(|name| is_image(name, &prefix)).max_by_key(|name| numbers(name));
        newest.map(str::to_string).with_context(|| format!("the mirror has no kernel {series}"))
    }

    /// Whether there is such a package.
    pub(super) fn has(&self, package: &str) -> bool {
        text(&mut self.tool("apt-cache", &["show", package])).is_ok_and(|shown| shown.contains("Filename:"))
    }

    /// Downloads a package into `dir`.
    pub(super) fn download(&self, package: &str, dir: &Path) -> Result<PathBuf> {
        bytes(self.tool("apt-get", &["-qq", "download", package]).current_dir(dir))?;
        let start = format!("{package}_");
        let files = crate::tools::files(dir, ".deb")?;
        let ours = |file: &&PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start));
        files.iter().find(ours).cloned().with_context(|| format!("apt-get downloaded no {package}"))
    }
}

/// The Debian mirror that this machine is set up with.
fn mirror() -> Result<String> {
    let sources = Path::new("/etc/apt/sources.list.d");
    for file in crate::tools::files(sources, ".sources")? {
        let text = fs::read_to_string(file)?;
        let uris = text.lines().filter_map(|line| line.strip_prefix("URIs:"));
        if let Some(uri) = uris.flat_map(str::split_whitespace).find(|uri| is_debian(uri)) {
            return Ok(uri.to_string());
        }
    }
    let list = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    let words = list.lines().filter(|line| line.starts_with("deb ")).flat_map(str::split_whitespace);
    let found = words.into_iter().find(|word| is_debian(word)).map(str::to_string);
    ensure!(Path::new(KEYRING).exists(), "there is no {KEYRING}");
    found.context("no Debian mirror in /etc/apt")
}

fn is_debian(uri: &str) -> bool {
    uri.trim_end_matches('/').ends_with("/debian")
}

/// Not a meta package, a debug one, or one without the ABI's name.
fn is_image(name: &str, prefix: &str) -> bool {
    let Some(rest) = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(FLAVOUR)) else { return false };
    let rest = rest.trim_end_matches('-');
    let patch = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    patch.len() < rest.len()
        && (patch.strip_prefix('-').is_some_and(|abi| abi.bytes().all(|byte| byte.is_ascii_digit()))
            || patch.starts_with("+deb"))
}

/// The numbers in a name, to compare versions by.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_images_from_their_neighbours() {
        let image = |name| is_image(name, "linux-image-6.1.");
        assert!(image("linux-image-6.1.0-56-cloud-amd64"));
        assert!(!image("linux-image-6.1.0-56-cloud-amd64-dbg"));
        assert!(!image("linux-image-6.1.0-56-amd64"));
        assert!(!image("linux-image-6.12.117+deb13-cloud-amd64"));
        assert!(is_image("linux-image-6.12.117+deb13-cloud-amd64", "linux-image-6.12."));
        assert!(numbers("linux-image-6.1.0-56-cloud") > numbers("linux-image-6.1.0-9-cloud"));
    }
}
