//! docs/benchmarks.md: each benchmark owns the section under its heading.

use crate::tools::{command, text};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

const HEAD: &str = "# Benchmarks\n\nWritten by `cargo xtask bench`: do not edit. Trust the ratios: they are taken \
                    between neighbours in one run.\n";

/// The machine, in a line.
pub(super) fn machine() -> Result<String> {
    let release = text(&mut command("uname", ["-r"]))?;
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    Ok(format!("Linux {release}, {} x {}", crate::tools::cores(), model.unwrap_or("unknown processor")))
}

/// Replaces the section that begins with the same heading, or adds it.
pub(super) fn replace(file: &Path, section: &str) -> Result<()> {
    let page = fs::read_to_string(file).unwrap_or_else(|_| HEAD.to_string());
    fs::write(file, replaced(&page, section)).with_context(|| file.display().to_string())
}

fn replaced(page: &str, section: &str) -> String {
    let heading = section.lines().next().unwrap_or_default();
    let mut sections: Vec<String> = Vec::new();
    for line in page.lines() {
        if line.starts_with("## ") || sections.is_empty() {
            sections.push(String::new());
        }
        let last = sections.len() - 1;
        sections[last] += &format!("{line}\n");
    }
    match sections.iter_mut().find(|old| old.lines().next() == Some(heading)) {
        Some(old) => *old = section.to_string(),
        None => sections.push(section.to_string()),
    }
    let trimmed: Vec<&str> = sections.iter().map(|section| section.trim_end()).collect();
    trimmed.join("\n\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn a_section_replaces_its_own() {
        let page = "# B\n\nhead\n\n## One\n\nold\n\n## Two\n\nkept\n";
        assert_eq!(replaced(page, "## One\n\nnew\n"), "# B\n\nhead\n\n## One\n\nnew\n\n## Two\n\nkept\n");
        assert_eq!(replaced("# B\n", "## Three\n\nnew\n"), "# B\n\n## Three\n\nnew\n");
    }
}
