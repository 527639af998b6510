//! docs/sections.md: what came of each section name on each kernel.

use super::report::{Cell, Report};
use crate::tools::{KERNELS, command, root, text};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

const PLACE: &str = "docs/sections.md";

const HEAD: &str = "\
# Every section name on every kernel

Written by `cargo xtask vm --write`: do not edit. The test `sections` of `crates/ringfence` loads a program for each name
that libbpf knows, attaches it and does what makes it run. The kernels are Debian's, in a virtual machine each, booted with
`bpf` among the security modules (5.10 leaves it out by itself); `here` is the machine that the command ran on.

- `fired`: attached, and its effect was read from a map
- `attached`: it cannot be made to run on this kernel
- `lacks`: the kernel does not have it; the number is the reason in the words of Ringfence or the verifier

";

/// What independent probes, made of bare system calls, have seen to work: on Debian's 5.10, and beside that on 7.3.
const PROBED: [(&str, &[&str]); 2] = [
    (
        "5.10",
        &[
            "kprobe",
            "kretprobe",
            "uprobe",
            "uretprobe",
            "tracepoint",
            "perf_event",
            "raw_tp",
            "tp_btf",
            "fentry",
            "fexit",
            "fmod_ret",
            "lsm",
            "iter",
            "iter.s",
            "xdp",
            "cgroup_skb/egress",
            "sk_lookup",
            "struct_ops",
        ],
    ),
    (
        "7.3",
        &[
            "kprobe.multi",
            "kprobe.session",
            "uprobe.multi",
            "uprobe.session",
            "fsession",
            "fentry.s",
            "fentry.multi",
            "lsm.s",
            "lsm_cgroup",
            "syscall",
            "tcx/ingress",
            "netkit/primary",
            "cgroup/connect_unix",
            "netfilter",
        ],
    ),
];

/// Fails when a cell is worse than the file says, or than what is known to work; writes the file when wanted.
pub(super) fn compare(reports: &[Report], here: Option<Report>, write: bool) -> Result<()> {
    let Some(here) = here.filter(|_| reports.iter().any(|report| !report.sections().is_empty())) else { return Ok(()) };
    let release = text(&mut command("uname", ["-r"]))?;
    let all: Vec<&Report> = reports.iter().chain([&here]).collect();
    let old = fs::read_to_string(root().join(PLACE)).unwrap_or_default();
    let mut worse = probed(&all);
    let before = read(&old);
    for report in &all {
        // Another machine of the reader's is not the one of the file.
        if report.kernel == "here" && !old.contains(&format!("`here` is {release}.")) {
            continue;
        }
        for (section, cell) in report.sections() {
            let was = before.get(&(section.clone(), report.kernel.clone()));
            if let Some(was) = was.filter(|was| rank(was) > rank(&cell.word)) {
                let Cell { word, why } = cell;
                worse.push(format!("{section} on {}: {PLACE} has `{was}`, now it is `{word}`: {why}", report.kernel));
            }
        }
    }
    if write {
        let all_there = KERNELS.iter().all(|series| all.iter().any(|report| report.kernel == *series));
        ensure!(all_there, "{PLACE} is written with all kernels ({}) or not at all", KERNELS.join(", "));
        fs::write(root().join(PLACE), page(&all, &release)?).context(PLACE)?;
        eprintln!("vm: wrote {PLACE}");
    }
    worse.iter().for_each(|line| eprintln!("vm: {line}"));
    ensure!(worse.is_empty() || write, "{} sections are worse than they should be", worse.len());
    Ok(())
}

/// How much was reached.
fn rank(word: &str) -> u8 {
    match word {
        "fired" => 3,
        "attached" => 2,
        "lacks" => 1,
        _ => 0,
    }
}

fn probed(reports: &[&Report]) -> Vec<String> {
    let mut worse = Vec::new();
    for (at, (kernel, _)) in PROBED.iter().enumerate() {
        let Some(report) = reports.iter().find(|report| report.kernel == *kernel) else { continue };
        // What the older one can, the newer one can as well.
        for section in PROBED.iter().take(at + 1).flat_map(|(_, sections)| sections.iter()) {
            match report.section(section).map(|cell| (cell.word.as_str(), cell.why.as_str())) {
                Some(("fired", _)) => {}
                Some((word, why)) => worse.push(format!("{section} on {kernel} works, and here it is `{word}`: {why}")),
                None => worse.push(format!("{section} on {kernel} was not tried")),
            }
        }
    }
    worse
}

/// The words of a page, by section and kernel.
fn read(page: &str) -> BTreeMap<(String, String), String> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>();
    let mut rows = page.lines().filter(|line| line.starts_with('|')).map(cells);
    let kernels = rows.next().unwrap_or_default();
    let mut words = BTreeMap::new();
    for row in rows {
        for (kernel, cell) in kernels.iter().zip(&row).skip(1) {
            let word = cell.split(" (").next().unwrap_or_default().to_string();
            words.insert((row.first().cloned().unwrap_or_default().replace('`', ""), kernel.clone()), word);
        }
    }
    words
}

fn page(reports: &[&Report], release: &str) -> Result<String> {
    let mut page = HEAD.to_string();
    writeln!(page, "`here` is {release}.\n")?;
    let kernels: Vec<&str> = reports.iter().map(|report| report.kernel.as_str()).collect();
    writeln!(page, "| section | {} |\n|---|{}", kernels.join(" | "), "---|".repeat(kernels.len()))?;
    let mut reasons: Vec<&str> = Vec::new();
    let names = reports.first().into_iter().flat_map(|report| report.sections().iter().map(|(name, _)| name));
    for name in names {
        let mut cells = Vec::new();
        for report in reports {
            let cell = report.section(name);
            let cell = cell.with_context(|| format!("{name} was not tried on {}", report.kernel))?;
            if cell.why.is_empty() {
                cells.push(cell.word.clone());
                continue;
            }
            let known = reasons.iter().position(|reason| *reason == cell.why);
            let number = known.unwrap_or_else(|| {
                reasons.push(&cell.why);
                reasons.len() - 1
            });
            cells.push(format!("{} ({})", cell.word, number + 1));
        }
        writeln!(page, "| `{name}` | {} |", cells.join(" | "))?;
    }
    writeln!(page, "\n## Reasons\n")?;
    for (at, reason) in reasons.iter().enumerate() {
        writeln!(page, "{}. {reason}", at + 1)?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::{page, read};
    use crate::vm::report::Report;

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let report = Report::of_sections("6.1", &[("xdp", "fired", ""), ("tc", "attached", "no | yes")]);
        let words = read(&page(&[&report], "6.18").unwrap());
        let word = |section: &str| words.get(&(section.to_string(), "6.1".to_string())).map(String::as_str);
        assert_eq!((word("xdp"), word("tc"), word("xxx")), (Some("fired"), Some("attached"), None));
    }
}
