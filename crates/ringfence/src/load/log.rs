//! What a verifier's log says in one line, and where.

use ringfence_btf::Btf;
use ringfence_plan::ProgramPlan;

use crate::error::SourceLine;

/// Bytes of room for the first try: enough for most programs.
pub(super) const FIRST_SIZE: usize = 64 << 10;
/// The most that a log may take: the kernel allows 1 GiB, which nobody reads.
pub(super) const LAST_SIZE: usize = 64 << 20;

/// What was read from a log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reading {
    /// The line that says why.
    pub(crate) reason: String,
    /// The last instruction before it.
    pub(crate) insn: Option<usize>,
    /// The last source line before it.
    pub(crate) source: Option<SourceLine>,
}

/// Lines that the verifier writes after the reason: statistics (`print_verification_stats`).
const TRAILERS: [&str; 6] =
    ["processed ", "verification time", "stack depth", "max_states_per_insn", "peak_states", "mark_precise:"];

/// Reads a log of level 1. Never fails: an odd log gives its last line.
pub(crate) fn read(log: &str) -> Reading {
    let lines: Vec<&str> = log.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    // Linux 7.3 goes on with a diagnosis of its own behind the old message.
    let diagnosis = lines.iter().rposition(|line| line.starts_with("Verification failed:"));
    let before = diagnosis.unwrap_or(lines.len());
    let at = lines.iter().take(before).rposition(|line| is_reason(line));
    let mut reason = at.map_or(String::new(), |at| lines[at].to_owned());
    if let Some(said) = diagnosis.and_then(|at| lines[at].strip_prefix("Verification failed:")) {
        let said = said.trim();
        reason = if reason.is_empty() { said.to_owned() } else { format!("{reason} ({said})") };
    }
    let seen = &lines[..at.unwrap_or(before)];
    Reading {
        reason,
        insn: seen.iter().rev().find_map(|line| instruction(line)),
        source: seen.iter().rev().find_map(|line| source(line)),
    }
}

/// The source of an instruction as the plan's line information has it: also for kernels whose log has no file names.
pub(crate) fn source_of(plan: &ProgramPlan, btf: Option<&Btf>, insn: usize) -> Option<SourceLine> {
    let btf = btf?;
    let line = plan.lines.iter().take_while(|line| line.insn as usize <= insn).last()?;
    Some(SourceLine {
        file: btf.string(line.file).ok()?.to_owned(),
        line: line.line_column >> 10,
        text: btf.string(line.text).ok()?.trim().to_owned(),
    })
}

fn is_reason(line: &str) -> bool {
    !TRAILERS.iter().any(|trailer| line.starts_with(trailer))
        && !line.starts_with(';')
        && !line.starts_with("func#")
        && instruction(line).is_none()
        && !is_state(line)
}

/// `12: (85) call bpf_map_lookup_elem#1`
fn instruction(line: &str) -> Option<usize> {
    let (number, rest) = line.split_once(": ")?;
    let number = number.parse().ok()?;
    let mut code = rest.bytes();
    (code.next() == Some(b'(') && code.nth(2) == Some(b')')).then_some(number)
}

/// `12: R1=ctx() R10=fp0`, `from 3 to 7: R0=...`, `12: safe`: what the verifier knows at an instruction.
fn is_state(line: &str) -> bool {
    let state = |text: &str| {
        let text = text.trim_start();
        text == "safe"
            || text.starts_with("R0")
            || text.starts_with('R') && text.contains('=')
            || text.starts_with("frame")
    };
    match line.split_once(':') {
        Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => state(rest),
        Some((jump, rest)) if jump.starts_with("from ") => rest.is_empty() || state(rest),
        _ => false,
    }
}

/// `; int x = *p; @ prog.c:12` (6.8 and later), `; int x = *p;` (earlier).
fn source(line: &str) -> Option<SourceLine> {
    let line = line.strip_prefix(';')?.trim();
    let placed = line.rsplit_once(" @ ").and_then(|(text, place)| {
        let (file, number) = place.rsplit_once(':')?;
        Some(SourceLine { file: file.to_owned(), line: number.parse().ok()?, text: text.trim().to_owned() })
    });
    placed
        .or_else(|| Some(SourceLine { file: String::new(), line: 0, text: line.to_owned() }))
        .filter(|source| !source.text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
0: R1=ctx() R10=fp0
; int bad(void *ctx) @ bad.c:7
0: (61) r2 = *(u32 *)(r1 +0)          ; R1=ctx() R2_w=scalar()
; return *(int *)(long)x; @ bad.c:9
1: (61) r0 = *(u32 *)(r2 +0)
R2 invalid mem access 'scalar'
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
";

    #[test]
    fn the_last_line_that_means_something() {
        let read = read(LOG);
        assert_eq!(read.reason, "R2 invalid mem access 'scalar'");
        assert_eq!(read.insn, Some(1));
        let source = read.source.unwrap();
        assert_eq!((source.file.as_str(), source.line, source.text.as_str()), ("bad.c", 9, "return *(int *)(long)x;"));
    }

    #[test]
    fn a_log_of_an_old_kernel_names_no_file() {
        let read = read("; x = *p;\n3: (61) r0 = *(u32 *)(r2 +0)\nR2 !read_ok\n");
        assert_eq!((read.reason.as_str(), read.insn), ("R2 !read_ok", Some(3)));
        assert_eq!(read.source.unwrap().to_string(), "x = *p;");
    }

    #[test]
    fn states_are_not_reasons() {
        let log =
            "R0 min value is negative\n12: R1=ctx() R10=fp0\nfrom 3 to 9: R0=0 R10=fp0\n14: safe\nprocessed 1 insns\n";
        assert_eq!(read(log).reason, "R0 min value is negative");
    }

    #[test]
    fn the_diagnosis_of_new_kernels_is_kept() {
        let log = "4: (61) r0 = *(u32 *)(r2 +0)\nR2 invalid mem access 'scalar'\nVerification failed: Memory: bad pointer\nReason:\n  something\n";
        assert_eq!(read(log).reason, "R2 invalid mem access 'scalar' (Memory: bad pointer)");
        assert_eq!(read(""), Reading::default());
        assert_eq!(read("processed 2 insns"), Reading::default());
    }
}
