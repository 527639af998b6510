//! `ringfence check`: would each program load on this kernel, and if not, why.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ringfence::{Kernel, Kind, Loader, Program, Settings};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::run::failure;
use crate::source;

/// Loads every program on this kernel and takes it off again; one bad program does not hide the others.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    named: source::Named,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Also programs that are off by default (their section starts with `?`).
    #[arg(long)]
    all: bool,
    /// The licence of an object that has no licence section (`GPL`, `Dual MIT/GPL`).
    #[arg(long, value_name = "TEXT")]
    license: Option<String>,
    /// The verifier's whole log of each refused program.
    #[arg(long)]
    log: bool,
}

#[derive(Serialize)]
struct Report {
    object: String,
    programs: Vec<Row>,
    /// Sizes that the object leaves to its user, and what was taken for them.
    filled: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    section: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    verdict: Verdict,
    errno: Option<i32>,
    reason: Option<String>,
    #[serde(skip)]
    detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// It loads.
    Ok,
    /// Off by default, and not tried.
    Disabled,
    /// The object itself is at fault: no type, a broken relocation.
    Invalid,
    /// This kernel, or this platform, lacks something.
    Unsupported,
    /// The verifier refused it.
    Refused,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let source = source::open(&args.named)?;
    let kernel = Kernel::running();
    let off = source.object.programs.iter().filter(|program| args.all && !program.autoload);
    let settings =
        off.fold(Settings::new().fill_sizes(true), |settings, program| settings.program(&program.name, true));
    let settings = args.license.iter().fold(settings, |settings, text| settings.license(text));
    let plan = ringfence::plan(&source.object, &kernel, &settings).map_err(|error| failure(&error))?;
    let mut results: BTreeMap<_, _> = Loader::new(&plan, &kernel).load_each().into_iter().collect();
    // Programs that cannot share such a map may still load, each with maps of its own.
    if plan.maps.iter().any(ringfence_plan::MapPlan::runs_programs) {
        for (name, result) in results.iter_mut().filter(|(_, result)| result.is_err()) {
            let alone = ringfence::plan(&source.object, &kernel, &settings.clone().only([name.as_str()]));
            let alone = alone.map_err(|error| failure(&error))?;
            let mut loaded = Loader::new(&alone, &kernel).load_each().into_iter();
            if let Some((_, again)) = loaded.find(|(program, _)| program == name) {
                *result = again;
            }
        }
    }
    // A missing right says nothing about the object: there is no verdict.
    let denied =
        results.values().filter_map(|result| result.as_ref().err()).find(|error| error.kind() == Kind::Permission);
    if let Some(error) = denied {
        return Err(failure(error));
    }
    let row = |program: &ringfence_object::Program| {
        let planned = plan.programs.iter().find(|planned| planned.function == program.function);
        let kind = planned
            .map(|planned| planned.kind)
            .or(ringfence_object::section(&program.section).map(|known| known.def.kind));
        let (verdict, errno, reason, detail) = match results.get(&program.name) {
            Some(result) => verdict(result, args.log),
            None => {
                let why = "off by default; --all tries it too".to_owned();
                (Verdict::Disabled, None, Some(why), String::new())
            }
        };
        let (name, section) = (program.name.clone(), program.section.clone());
        Row { name, section, kind: kind.map(|kind| kind.to_string()), verdict, errno, reason, detail }
    };
    let programs: Vec<_> = source.object.programs.iter().map(row).collect();
    let filled =
        plan.maps.iter().flat_map(|map| map.filled.iter().map(|what| format!("{}: {what}", map.name))).collect();
    let report = Report { object: source.label.clone(), programs, filled };
    drop(results);
    output::document(args.output, &report, || text(&report))?;
    let count = |verdict| report.programs.iter().filter(|row| row.verdict == verdict).count();
    match report.programs.iter().map(|row| row.verdict).max() {
        None | Some(Verdict::Ok | Verdict::Disabled) => Ok(()),
        Some(worst) => {
            let (exit, what) = match worst {
                Verdict::Refused => (Exit::Refused, "refused by the verifier"),
                Verdict::Unsupported => (Exit::Unsupported, "not for this kernel"),
                _ => (Exit::Error, "invalid"),
            };
            let (bad, all) = (count(worst), report.programs.len());
            Err(Failure::new(exit, format_args!("{}: {bad} of {all} programs {what}", source.label)))
        }
    }
}

fn verdict(result: &Result<Program, ringfence::Error>, log: bool) -> (Verdict, Option<i32>, Option<String>, String) {
    let error = match result {
        Ok(_) => return (Verdict::Ok, None, None, String::new()),
        Err(error) => error,
    };
    let verdict = match error.kind() {
        Kind::Refused => Verdict::Refused,
        Kind::Unsupported => Verdict::Unsupported,
        _ => Verdict::Invalid,
    };
    let mut detail = error.to_string();
    if let (true, Some(log)) = (log, error.log()) {
        let _ = write!(detail, "\n{}", log.trim_end());
    }
    (verdict, error.errno(), Some(error.reason()), detail)
}

fn text(report: &Report) -> String {
    let rows = report.programs.iter().map(|row| {
        let verdict = format!("{:?}", row.verdict).to_lowercase();
        let kind = row.kind.clone().unwrap_or_else(|| "-".to_owned());
        [row.name.clone(), row.section.clone(), kind, verdict]
    });
    let mut out = output::table(["PROGRAM", "SECTION", "TYPE", "VERDICT"], rows);
    for filled in &report.filled {
        let _ = write!(out, "\nfilled in: {filled}");
    }
    if !report.filled.is_empty() {
        out.push('\n');
    }
    // One cause, said once: a platform that refuses a program type refuses all programs of it.
    let mut told: Vec<(&Row, Vec<&str>)> = Vec::new();
    for row in report.programs.iter().filter(|row| !row.detail.is_empty()) {
        let same = |(first, _): &&mut (&Row, Vec<&str>)| {
            first.reason.is_some() && first.reason == row.reason && !row.detail.contains('\n')
        };
        match told.iter_mut().find(same) {
            Some((_, others)) => others.push(&row.name),
            None => told.push((row, Vec::new())),
        }
    }
    for (row, others) in told {
        let _ = write!(out, "\n{}\n", row.detail.trim_end());
        if !others.is_empty() {
            let _ = writeln!(out, "the same for: {}", others.join(", "));
        }
    }
    out
}
