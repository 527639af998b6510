//! Loading an object: a fresh process each time, from opening the file to the last program loaded.

use super::{geometric_mean, median, page, ratio};
use crate::objects;
use crate::tools::command;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::path::Path;

/// Objects of libbpf-tools, small to large.
const OBJECTS: &[&str] = &["softirqs", "exitsnoop", "tcpstates", "tcplife", "opensnoop", "runqlat"];
/// Loaded before the measured object when it is not the first of its process.
const FIRST: &str = "filelife";
const LOADERS: &[&str] = &["ringfence", "libbpf", "aya"];

/// What one process said about one object.
struct Sample {
    /// ms.
    time: f64,
    /// ms inside the execution of the finished plan.
    floor: f64,
    peak_kb: f64,
}

/// Runs a loader on these objects; what it said of the last. `None`: it refuses one of them.
fn sample(programs: &Path, loader: &str, objects: &[&str]) -> Result<Option<Sample>> {
    let path = |object: &&str| objects::place().join("libbpf-tools").join(format!("{object}.o"));
    let program = programs.join(format!("load-{loader}"));
    let mut command = command(&program.to_string_lossy(), objects.iter().map(path));
    let output = command.output().with_context(|| program.display().to_string())?;
    if !output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().last().context("a loader said nothing")?;
    let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [time, floor, peak_kb] = numbers[..] else { anyhow::bail!("a loader said {line:?}") };
    Ok(Some(Sample { time: time / 1e6, floor: floor / 1e6, peak_kb }))
}

/// Samples by loader, round by round; empty for a loader that refuses.
fn rounds(programs: &Path, objects: &[&str], rounds: usize) -> Result<Vec<Vec<Sample>>> {
    let mut samples: Vec<Vec<Sample>> = LOADERS.iter().map(|_| Vec::new()).collect();
    let mut refused = vec![false; LOADERS.len()];
    for round in 0..rounds {
        for turn in 0..LOADERS.len() {
            let at = (round + turn) % LOADERS.len();
            match refused[at] {
                true => {}
                false => match sample(programs, LOADERS[at], objects)? {
                    Some(sample) => samples[at].push(sample),
                    None => refused[at] = true,
                },
            }
        }
    }
    ensure!(!refused[0], "ringfence does not load {objects:?}");
    Ok(samples)
}

pub(super) fn measure(programs: &Path, count: usize) -> Result<String> {
    ensure!(objects::place().join("libbpf-tools").exists(), "no objects; `cargo xtask objects` makes them");
    let mut out = format!(
        "## Loading an object\n\n`cargo xtask bench load --write`; {}; {count} rounds, the loaders in turn, each load in \
         a fresh process, from opening the file to the last program loaded. `floor` is the time that Ringfence takes to \
         execute its finished plan: BTF, maps and programs given to the kernel. `next` is an object that is not the \
         first of its process. Median ms.\n\n\
         | object | floor | ringfence | libbpf | aya | ringfence / libbpf | / aya | next: ringfence | libbpf | ratio |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        page::machine()?
    );
    let (mut to_libbpf, mut next_to_libbpf, mut to_aya) = (Vec::new(), Vec::new(), Vec::new());
    let mut peaks: Vec<Vec<f64>> = LOADERS.iter().map(|_| Vec::new()).collect();
    for object in OBJECTS {
        eprintln!("bench load: {object}");
        let cold = rounds(programs, &[object], count)?;
        let next = rounds(programs, &[FIRST, object], count)?;
        for (peaks, samples) in peaks.iter_mut().zip(&cold) {
            peaks.extend(samples.iter().map(|sample| sample.peak_kb));
        }
        let times =
            |samples: &[Vec<Sample>], at: usize| samples[at].iter().map(|sample| sample.time).collect::<Vec<f64>>();
        let [ours, libbpf, aya] = [times(&cold, 0), times(&cold, 1), times(&cold, 2)];
        let [ours_next, libbpf_next] = [times(&next, 0), times(&next, 1)];
        let floor = median(cold[0].iter().map(|sample| sample.floor));
        let middle = |times: &[f64]| median(times.iter().copied());
        to_libbpf.push(ratio(&ours, &libbpf));
        next_to_libbpf.push(ratio(&ours_next, &libbpf_next));
        let aya_cells = match aya.is_empty() {
            true => ["refuses".to_string(), "-".to_string()],
            false => {
                to_aya.push(ratio(&ours, &aya));
                [format!("{:.2}", middle(&aya)), format!("{:.2}", ratio(&ours, &aya))]
            }
        };
        writeln!(
            out,
            "| {object} | {floor:.2} | {:.2} | {:.2} | {} | {:.2} | {} | {:.2} | {:.2} | {:.2} |",
            middle(&ours),
            middle(&libbpf),
            aya_cells[0],
            ratio(&ours, &libbpf),
            aya_cells[1],
            middle(&ours_next),
            middle(&libbpf_next),
            ratio(&ours_next, &libbpf_next),
        )?;
    }
    writeln!(
        out,
        "| geometric mean | | | | | {:.2} | {:.2} | | | {:.2} |\n",
        geometric_mean(&to_libbpf),
        geometric_mean(&to_aya),
        geometric_mean(&next_to_libbpf)
    )?;
    let peak = |at: usize| median(peaks[at].iter().copied()) / 1024.0;
    writeln!(
        out,
        "Largest resident memory of the process (VmHWM, program text included), median over all objects: \
         ringfence {:.1} MB, libbpf {:.1} MB, aya {:.1} MB.",
        peak(0),
        peak(1),
        peak(2)
    )?;
    Ok(out)
}
