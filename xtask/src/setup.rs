//! `cargo xtask setup`: what tests need beside Rust. Made for a bare Debian 12 and root; elsewhere it says what is missing.

use crate::tools::{Scratch, command, files, finish, run as execute, target, text};
use anyhow::{Context, Result, bail};
use pico_args::Arguments;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Debian packages, and what becomes untested without them.
const PACKAGES: &[(&str, &str)] = &[
    ("clang-19", "compiles BPF programs"),
    ("llvm-19", "strips and reads BPF objects"),
    ("gcc", "builds libbpf, the reference loader"),
    ("g++", "builds libFuzzer"),
    ("make", "builds libbpf, the reference loader"),
    ("pkg-config", "builds libbpf, the reference loader"),
    ("libelf-dev", "builds libbpf, the reference loader"),
    ("zlib1g-dev", "builds libbpf, the reference loader"),
    ("bpftool", "writes vmlinux.h for the kernel's self-tests"),
    ("libbpf-tools", "52 real objects"),
    ("xdp-tools", "31 real objects"),
    ("libxdp1", "15 real objects"),
    ("linux-source-6.12", "the kernel's own test programs"),
    ("libc6-dev", "headers that BPF programs include"),
    ("linux-libc-dev", "headers that BPF programs include"),
    ("libbpf-dev", "headers that the BPF programs of tests include"),
    ("qemu-system-x86", "runs other kernels"),
    ("busybox-static", "user space of the virtual machines"),
    ("xz-utils", "unpacks kernels and modules"),
    ("zstd", "unpacks kernels and modules"),
    ("lz4", "unpacks kernels"),
    ("iproute2", "network namespaces and veth pairs in tests"),
    ("mount", "tracefs and bpffs"),
    ("iperf3", "known traffic in a test"),
    ("iputils-ping", "known traffic in a test"),
    ("tcpdump", "packets as another program reads them"),
    ("gron", "a stripped program written in Go"),
];

/// Packages that are unpacked and not installed, because what they install starts by itself.
const UNPACKED: &[(&str, &str)] = &[("prometheus", "scrapes metrics in a test")];

/// Where the programs of an unpacked package are.
pub(crate) fn unpacked(package: &str) -> PathBuf {
    target().join("unpacked").join(package).join("usr/bin")
}

/// File systems that programs are attached or pinned through: type and place.
const MOUNTS: &[(&str, &str)] =
    &[("tracefs", "/sys/kernel/tracing"), ("bpf", "/sys/fs/bpf"), ("cgroup2", "/sys/fs/cgroup")];

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    finish(arguments)?;
    let missing = missing()?;
    if !missing.is_empty() {
        install(&missing)?;
    }
    for (package, purpose) in UNPACKED {
        if !unpacked(package).exists()
            && let Err(error) = unpack(package)
        {
            eprintln!("setup: MISSING {package} cannot be unpacked ({purpose}): {error:#}; what needs it will say so");
        }
    }
    mount()
}

fn unpack(package: &str) -> Result<()> {
    eprintln!("setup: unpacking {package}");
    let scratch = Scratch::new("unpack")?;
    let download = || {
        let options = ["-qq", "-o", "Acquire::Retries=3", "-o", "APT::Sandbox::User=root", "download", package];
        execute(command("apt-get", options).current_dir(scratch.path()).stdout(std::io::stderr()))
    };
    if download().is_err() {
        execute(command("apt-get", ["-qq", "update"]).stdout(std::io::stderr())).ok();
        download()?;
    }
    let archive = files(scratch.path(), ".deb")?.pop().context("nothing was downloaded")?;
    // Half a package is none: it comes to its place in one step.
    let (place, part) =
        (target().join("unpacked").join(package), target().join("unpacked").join(format!("{package}.part")));
    fs::remove_dir_all(&part).ok();
    fs::create_dir_all(&part)?;
    execute(command("dpkg-deb", ["-x"]).arg(archive).arg(&part))?;
    fs::remove_dir_all(&place).ok();
    Ok(fs::rename(part, place)?)
}

fn missing() -> Result<Vec<&'static str>> {
    let known = text(&mut command("dpkg-query", ["-W", "-f", "${Package} ${db:Status-Status}\n"]))?;
    let installed: BTreeSet<&str> = known.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    Ok(PACKAGES.iter().map(|(name, _)| *name).filter(|name| !installed.contains(name)).collect())
}

fn install(wanted: &[&str]) -> Result<()> {
    if text(&mut command("id", ["-u"]))? != "0" {
        bail!("not root; please run: apt-get install --no-install-recommends {}", wanted.join(" "));
    }
    eprintln!("setup: installing {}", wanted.join(" "));
    let apt = |words: &[&str]| {
        let mut apt = command("apt-get", ["-qq", "-y", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"]);
        apt.args(words).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr());
        execute(&mut apt)
    };
    // An index that is only partly new (a third party's mirror is away) may still have all that is wanted.
    if let Err(error) = apt(&["update"]) {
        eprintln!("setup: {error:#}; going on with the package lists that are there");
    }
    const INSTALL: &[&str] = &["install", "--no-install-recommends"];
    if apt(&[INSTALL, wanted].concat()).is_err() {
        for package in wanted {
            apt(&[INSTALL, &[package]].concat()).ok();
        }
    }
    for package in missing()? {
        let purpose = PACKAGES.iter().find(|(name, _)| *name == package).map_or("", |(_, purpose)| purpose);
        eprintln!("setup: MISSING {package} cannot be installed ({purpose}); what needs it will say so");
    }
    Ok(())
}

fn mount() -> Result<()> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    for (kind, place) in MOUNTS {
        let mut mounted = mounts.lines().filter_map(|line| line.split_once(' ')?.1.split_once(' '));
        // Control groups are where the machine's manager has put them.
        let there =
            mounted.any(|(at, rest)| rest.starts_with(&format!("{kind} ")) && (at == *place || *kind == "cgroup2"));
        if there {
            continue;
        }
        match execute(&mut command("mount", ["-t", kind, kind, place])) {
            Ok(()) => eprintln!("setup: mounted {kind} on {place}"),
            Err(error) => eprintln!("setup: MISSING {place}: {error:#}"),
        }
    }
    Ok(())
}
