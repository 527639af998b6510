//! `ringfence inspect`: what is in an object, what it needs, what it would do. Needs no rights.

use std::path::PathBuf;

use ringfence::{Kernel, Object, Plan, Settings};
use ringfence_btf::TypeId;
use ringfence_object::{ExternKind, Map, Role};
use ringfence_plan::{Attach, Needed};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::source;

/// What is in an object, what it needs, what it would do. Loads nothing; no root needed.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    named: source::Named,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Write each program's final instructions into DIR/PROGRAM, one a line.
    #[arg(long, value_name = "DIR")]
    instructions: Option<PathBuf>,
    /// Write the types of all events into a file, as Rust (`.rs`) or C; `-` for stdout, without all else.
    #[arg(long, value_name = "FILE")]
    emit_types: Option<PathBuf>,
    /// Type of the events of a map, as for `run`. May be given several times.
    #[arg(long, value_name = "MAP=TYPE", value_parser = source::pair)]
    event: Vec<(String, String)>,
    /// Relocate (CO-RE) against these types, raw BTF of another kernel; all else is this kernel's.
    #[arg(long, value_name = "BTF")]
    kernel_btf: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    object: String,
    license: Option<String>,
    big_endian: bool,
    programs: Vec<ProgramRow>,
    maps: Vec<MapRow>,
    globals: Vec<GlobalRow>,
    externs: Vec<ExternRow>,
    events: Vec<crate::events::Row>,
    needs: Needs,
    notices: Vec<String>,
}

#[derive(Serialize)]
struct ProgramRow {
    name: String,
    section: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    attach_type: Option<String>,
    attach: Option<String>,
    /// Final instructions; those of the file where no plan could be made.
    instructions: usize,
    autoload: bool,
    problem: Option<String>,
}

#[derive(Serialize)]
struct MapRow {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    key: Option<String>,
    value: Option<String>,
    pinned: bool,
}

#[derive(Serialize)]
struct GlobalRow {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    section: String,
    size: u32,
    read_only: bool,
}

#[derive(Serialize)]
struct ExternRow {
    name: String,
    kind: &'static str,
    weak: bool,
}

#[derive(Serialize)]
struct Needs {
    capabilities: Vec<NeedRow>,
    kernel: Vec<NeedRow>,
}

#[derive(Serialize)]
struct NeedRow {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<&'static str>,
    because: String,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let source = source::open(&args.named)?;
    if let Some(path) = &args.emit_types {
        crate::emit::write(&source, path, &args.event)?;
        if path.as_os_str() == "-" {
            return Ok(());
        }
    }
    let events = crate::events::rows(&source, &args.event)?;
    let kernel = Kernel::running();
    let settings = match &args.kernel_btf {
        Some(path) => Settings::new().core_btf(source::btf(path)?),
        None => Settings::new(),
    };
    // Programs that are off by default are looked at too: inspect is for seeing.
    let programs = source.object.programs.iter();
    let settings = programs.fold(settings.fill_sizes(true), |settings, program| settings.program(&program.name, true));
    let plan = ringfence::plan(&source.object, &kernel, &settings);
    if let Some(dir) = &args.instructions {
        let plan = plan.as_ref().map_err(|error| Failure::new(Exit::Error, error))?;
        write_instructions(plan, dir)?;
    }
    let report = report(&source, plan.as_ref(), events);
    output::document(args.output, &report, || text(&report))?;
    Ok(())
}

fn write_instructions(plan: &Plan, dir: &std::path::Path) -> Result<(), Failure> {
    let failed = |error| Failure::new(Exit::Error, format_args!("cannot write into {}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    for program in &plan.programs {
        std::fs::write(dir.join(&program.name), program.listing(plan)).map_err(failed)?;
    }
    Ok(())
}

fn report(source: &source::Source, plan: Result<&Plan, &ringfence::Error>, events: Vec<crate::events::Row>) -> Report {
    let object = &source.object;
    let mut notices = object.notices.clone();
    if let Err(error) = &plan {
        notices.push(format!("no plan can be made: {error}"));
    }
    let plan = plan.ok();
    Report {
        object: source.label.clone(),
        license: object.license.clone(),
        big_endian: object.big_endian,
        programs: programs(object, plan),
        maps: object
            .maps
            .iter()
            .filter(|map| !matches!(map.role, Role::Kconfig))
            .map(|map| map_row(object, map))
            .collect(),
        globals: globals(object),
        externs: object
            .externs
            .iter()
            .map(|ext| ExternRow {
                name: ext.name.clone(),
                kind: match ext.kind {
                    ExternKind::Kconfig { .. } => "kconfig",
                    ExternKind::TypedKsym { .. } => "kernel variable",
                    ExternKind::Ksym => "kernel symbol",
                    ExternKind::Kfunc { .. } => "kfunc",
                },
                weak: ext.weak,
            })
            .collect(),
        events,
        needs: needs(plan),
        notices,
    }
}

fn programs(object: &Object, plan: Option<&Plan>) -> Vec<ProgramRow> {
    let row = |program: &ringfence_object::Program| {
        let planned = plan.and_then(|plan| plan.programs.iter().find(|planned| planned.function == program.function));
        let problem = plan.and_then(|plan| plan.problems.iter().find(|problem| problem.program == program.name));
        let section = ringfence_object::section(&program.section);
        ProgramRow {
            name: program.name.clone(),
            section: program.section.clone(),
            kind: planned.map(|p| p.kind).or(section.map(|s| s.def.kind)).map(|kind| kind.to_string()),
            // 0 is a hook's number and also stands for "none": the section's name tells which.
            attach_type: planned
                .map(|p| p.attach_type)
                .filter(|hook| hook.0 != 0 || section.is_some_and(|section| section.def.attach == Some(*hook)))
                .map(|hook| hook.to_string()),
            attach: planned.map(|p| match (&p.attach, section.and_then(|section| section.target)) {
                (Attach::Trace, Some(target)) => target.to_owned(),
                (attach, _) => attach.to_string(),
            }),
            instructions: planned.map_or_else(
                || object.functions.get(program.function.0).map_or(0, |function| function.insns.len()),
                |planned| planned.insns.len(),
            ),
            autoload: program.autoload,
            problem: problem.map(|problem| problem.error.to_string()),
        }
    };
    object.programs.iter().map(row).collect()
}

fn map_row(object: &Object, map: &Map) -> MapRow {
    let name = |id: Option<TypeId>| Some(object.btf.as_ref()?.c_declaration(id?, ""));
    MapRow {
        name: map.name.clone(),
        kind: map.kind.to_string(),
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        flags: map.flags,
        key: name(map.key_type),
        // The type of a data section is no type that C has a name for.
        value: name(map.value_type).filter(|_| !matches!(map.role, Role::Data(_))),
        pinned: map.pin_by_name,
    }
}

fn globals(object: &Object) -> Vec<GlobalRow> {
    let row = |global: &ringfence_object::Global| {
        let map = object.maps.get(global.map.0)?;
        Some(GlobalRow {
            kind: object.btf.as_ref().zip(global.ty).map(|(btf, ty)| btf.c_declaration(ty, "")).unwrap_or_default(),
            section: map.section.clone(),
            size: global.size,
            read_only: matches!(&map.role, Role::Data(data) if data.read_only),
            name: global.name.clone(),
        })
    };
    object.globals.iter().filter_map(row).collect()
}

fn needs(plan: Option<&Plan>) -> Needs {
    let mut needs = Needs { capabilities: Vec::new(), kernel: Vec::new() };
    for need in plan.map(|plan| plan.needs.as_slice()).unwrap_or_default() {
        let because = need.because.clone();
        match &need.what {
            Needed::Capability(name) => {
                needs.capabilities.push(NeedRow { name: (*name).to_owned(), since: None, because });
            }
            Needed::Kernel { feature, since } => {
                needs.kernel.push(NeedRow { name: feature.clone(), since: *since, because });
            }
        }
    }
    needs
}

/// The report for people.
fn text(report: &Report) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let license = report.license.as_deref().unwrap_or("none");
    let order = if report.big_endian { ", big-endian" } else { "" };
    let _ = writeln!(out, "{}   licence: {license}{order}", report.object);
    let mut part = |title: &str, body: String| {
        if !body.is_empty() {
            let _ = write!(out, "\n{title}\n{}", indent(&body));
        }
    };
    let rows = |some: bool, table: String| if some { table } else { String::new() };
    let dash = |text: &Option<String>| text.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    part(
        "Programs",
        rows(
            !report.programs.is_empty(),
            output::table(
                ["NAME", "SECTION", "TYPE", "ATTACH", "INSNS"],
                report.programs.iter().map(|p| {
                    let off = if p.autoload { "" } else { " (off by default)" };
                    [
                        p.name.clone(),
                        format!("{}{off}", p.section),
                        dash(&p.kind),
                        dash(&p.attach),
                        p.instructions.to_string(),
                    ]
                }),
            ),
        ),
    );
    let problems: String =
        report.programs.iter().filter_map(|p| Some(format!("{}: {}\n", p.name, p.problem.as_ref()?))).collect();
    part("Cannot be loaded as it is", problems);
    part(
        "Maps",
        rows(
            !report.maps.is_empty(),
            output::table(
                ["NAME", "TYPE", "KEY", "VALUE", "ENTRIES", "FLAGS"],
                report.maps.iter().map(|m| {
                    let side = |size: u32, name: &Option<String>| match name {
                        Some(name) => format!("{name} ({size})"),
                        None => size.to_string(),
                    };
                    let flags = if m.flags == 0 { "-".to_owned() } else { format!("{:#x}", m.flags) };
                    let entries = if m.max_entries == 0 { "-".to_owned() } else { m.max_entries.to_string() };
                    [
                        m.name.clone(),
                        m.kind.clone(),
                        side(m.key_size, &m.key),
                        side(m.value_size, &m.value),
                        entries,
                        flags,
                    ]
                }),
            ),
        ),
    );
    part(
        "Globals",
        rows(
            !report.globals.is_empty(),
            output::table(
                ["NAME", "TYPE", "SECTION", "BYTES", "SET BY"],
                report.globals.iter().map(|g| {
                    let set = if g.read_only { "--set before the load" } else { "--set, and the programs" };
                    [g.name.clone(), g.kind.clone(), g.section.clone(), g.size.to_string(), set.to_owned()]
                }),
            ),
        ),
    );
    part(
        "Externs",
        rows(
            !report.externs.is_empty(),
            output::table(
                ["NAME", "KIND", "MAY BE MISSING"],
                report
                    .externs
                    .iter()
                    .map(|e| [e.name.clone(), e.kind.to_owned(), if e.weak { "yes" } else { "no" }.to_owned()]),
            ),
        ),
    );
    part("Events", report.events.iter().map(crate::events::Row::text).collect());
    let need = |rows_of: &[NeedRow]| {
        rows(
            !rows_of.is_empty(),
            output::table(
                ["NEEDS", "SINCE", "BECAUSE"],
                rows_of.iter().map(|n| [n.name.clone(), n.since.unwrap_or("-").to_owned(), n.because.clone()]),
            ),
        )
    };
    part("Least capabilities", need(&report.needs.capabilities));
    part("Kernel features", need(&report.needs.kernel));
    part("Notices", report.notices.iter().map(|notice| format!("{notice}\n")).collect());
    out
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
