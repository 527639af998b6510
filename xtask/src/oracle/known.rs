//! The differences that are as they should be, and why.

use anyhow::{Context, Result};
use std::fmt;
use std::path::Path;

/// A row of `oracle/known.txt`. `*` stands for any; `,` is between several. What is behind a `:` in WHAT is part of what the
/// loader that refuses says.
pub(super) struct Row {
    pub(super) kernel: String,
    pub(super) object: String,
    pub(super) program: String,
    pub(super) what: String,
    pub(super) reason: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { kernel, object, program, what, reason } = self;
        write!(f, "{kernel} | {object} | {program} | {what} | {reason}")
    }
}

impl Row {
    fn parse(line: &str) -> Option<Row> {
        let mut fields = line.splitn(5, '|').map(|field| field.trim().to_string());
        let mut field = || fields.next().filter(|field| !field.is_empty());
        Some(Row { kernel: field()?, object: field()?, program: field()?, what: field()?, reason: field()? })
    }

    /// Whether this explains a difference.
    pub(super) fn explains(&self, difference: &super::report::Difference) -> bool {
        let is = |pattern: &str, text: &str| pattern == "*" || pattern.split(',').any(|one| one.trim() == text);
        let (what, says) = self.what.split_once(": ").unwrap_or((&self.what, ""));
        is(&self.kernel, difference.kernel)
            && is(&self.object, difference.object)
            && is(&self.program, &difference.finding.program)
            && what == difference.finding.what
            && difference.finding.detail.contains(says)
    }
}

/// The table.
pub(super) struct Known(pub(super) Vec<Row>);

impl Known {
    pub(super) fn read(file: &Path) -> Result<Known> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let row = |(at, line)| {
            let parsed = Row::parse(line);
            parsed.with_context(|| {
                format!("{}:{}: not KERNEL | OBJECT | PROGRAM | WHAT | REASON", file.display(), at + 1)
            })
        };
        Ok(Known(lines.map(row).collect::<Result<_>>()?))
    }
}
