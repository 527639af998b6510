//! `ringfence list`: the programs, maps, links and BTF of the whole machine, with those who hold them.

use std::time::SystemTime;

use ringfence::machine::{Btf, Holder, Id, Link, Machine, Map, Program};
use ringfence::{LinkDetails, PerfLinkDetails};
use serde_json::{Map as Object, Value, json};

use crate::exit::{Exit, Failure};
use crate::output;
use crate::run::{failure, say};

/// Lists what the kernel holds, whoever made it: by id, with the place where it runs and the process that owns it.
#[derive(clap::Args)]
pub struct Args {
    /// What to list.
    #[arg(value_enum)]
    what: What,
    /// A table that fits the terminal, one with everything (wide), or JSON, one object a line.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Only this one, with all that is known of it.
    #[arg(long, value_name = "N")]
    id: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum What {
    /// Programs, with what they are attached to.
    Programs,
    /// Maps, with their sizes and the memory that they take.
    Maps,
    /// Links: what keeps programs attached, and where.
    Links,
    /// Types: the kernel's own, modules', and what came with programs.
    Btf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
enum Format {
    /// What matters most, no wider than the terminal.
    #[default]
    Table,
    /// Everything.
    Wide,
    /// Everything, one object a line.
    Json,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let machine = Machine::read().map_err(|error| failure(&error))?;
    for notice in &machine.notices {
        say(&format!("note: {notice}"));
    }
    let chosen = |id: u32| args.id.is_none_or(|only| only == id);
    let programs: Vec<_> = machine.programs.iter().filter(|program| chosen(program.info.id)).collect();
    let maps: Vec<_> = machine.maps.iter().filter(|map| chosen(map.info.id)).collect();
    let links: Vec<_> = machine.links.iter().filter(|link| chosen(link.info.id)).collect();
    let btfs: Vec<_> = machine.btfs.iter().filter(|btf| chosen(btf.info.id)).collect();
    let documents = || match args.what {
        What::Programs => programs.iter().map(|one| program(&machine, one)).collect::<Vec<_>>(),
        What::Maps => maps.iter().map(|one| map(&machine, one)).collect(),
        What::Links => links.iter().map(|one| link(&machine, one)).collect(),
        What::Btf => btfs.iter().map(|one| btf(&machine, one)).collect(),
    };
    let text = match (args.output, args.id) {
        (Format::Json, _) => documents().iter().map(|row| format!("{row}\n")).collect(),
        (Format::Table | Format::Wide, Some(_)) => documents().iter().map(record).collect(),
        (Format::Wide, None) => wide(&documents()),
        (Format::Table, None) => match args.what {
            What::Programs => program_table(&machine, &programs),
            What::Maps => map_table(&machine, &maps),
            What::Links => link_table(&machine, &links),
            What::Btf => btf_table(&machine, &btfs),
        },
    };
    let what =
        if args.what == What::Btf { "BTF objects".to_owned() } else { format!("{:?}", args.what).to_lowercase() };
    if let (Some(id), true) = (args.id, text.is_empty()) {
        return Err(Failure::new(Exit::Error, format_args!("there is no {id} among the {what}")));
    }
    if args.output != Format::Json && text.lines().count() == 1 {
        say(&format!("the kernel holds no {what}"));
        return Ok(());
    }
    output::write(text.as_bytes())?;
    Ok(())
}

fn program_table(machine: &Machine, programs: &[&Program]) -> String {
    let row = |program: &&Program| {
        let places = machine.places(program.info.id).into_iter();
        let places: Vec<_> = places.map(|(hook, target)| place(program, &hook, &target)).collect();
        [
            program.info.id.to_string(),
            program.info.kind.to_string(),
            program.name.clone(),
            program.memory.map_or_else(|| "-".to_owned(), output::bytes),
            first(&places, "-"),
            owner(machine, program.id()),
        ]
    };
    let head = ["ID", "TYPE", "NAME", "MEMORY", "ATTACHED TO", "OWNER"];
    output::table_within(output::terminal_width(), head, programs.iter().map(row).collect(), &[1, 4, 5])
}

/// A place without the words that the program's type says already.
fn place(program: &Program, hook: &str, target: &str) -> String {
    if program.info.kind.to_string() == hook { target.to_owned() } else { format!("{hook} {target}") }
}

fn map_table(machine: &Machine, maps: &[&Map]) -> String {
    let row = |map: &&Map| {
        [
            map.info.id.to_string(),
            map.info.kind.to_string(),
            map.info.name.clone(),
            format!("{}/{}", map.info.key_size, map.info.value_size),
            map.info.max_entries.to_string(),
            map.memory.map_or_else(|| "-".to_owned(), output::bytes),
            owner(machine, map.id()),
        ]
    };
    let head = ["ID", "TYPE", "NAME", "KEY/VALUE", "ENTRIES", "MEMORY", "OWNER"];
    output::table_within(output::terminal_width(), head, maps.iter().map(row).collect(), &[1, 6])
}

fn link_table(machine: &Machine, links: &[&Link]) -> String {
    let row = |link: &&Link| {
        let program = match link.info.program_id {
            0 => "-".to_owned(),
            id => format!("{id} {}", machine.name(Id::Program(id))),
        };
        let target = if link.target.is_empty() { "-".to_owned() } else { link.target.clone() };
        [link.info.id.to_string(), link.hook.clone(), target, program, owner(machine, link.id())]
    };
    let head = ["ID", "HOOK", "TARGET", "PROGRAM", "OWNER"];
    output::table_within(output::terminal_width(), head, links.iter().map(row).collect(), &[1, 2, 3, 4])
}

fn btf_table(machine: &Machine, btfs: &[&Btf]) -> String {
    let row = |btf: &&Btf| {
        let users = machine.programs.iter().filter(|program| program.info.btf_id == btf.info.id);
        let users: Vec<_> = users.map(|program| format!("{} {}", program.info.id, program.name)).collect();
        let name = btf.info.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| "-".to_owned());
        let size = output::bytes(btf.info.size.into());
        [btf.info.id.to_string(), name, size, first(&users, "-"), owner(machine, btf.id())]
    };
    let head = ["ID", "NAME", "SIZE", "PROGRAM", "OWNER"];
    output::table_within(output::terminal_width(), head, btfs.iter().map(row).collect(), &[1, 3, 4])
}

/// The first of some, and how many more there are.
fn first(all: &[String], none: &str) -> String {
    match all {
        [] => none.to_owned(),
        [one] => one.clone(),
        [one, more @ ..] => format!("{one} +{}", more.len()),
    }
}

/// Who owns it: processes; else pins; else nobody.
fn owner(machine: &Machine, id: Id) -> String {
    let processes: Vec<_> = machine.owners(id).iter().map(|(pid, command)| format!("{command}[{pid}]")).collect();
    if !processes.is_empty() {
        return first(&processes, "");
    }
    let pins: Vec<_> = machine.pins(id).iter().map(|path| path.display().to_string()).collect();
    if !pins.is_empty() {
        return first(&pins, "");
    }
    if machine.holders(id).contains(&Holder::Kernel) { "the kernel".to_owned() } else { "nobody".to_owned() }
}

fn owners(machine: &Machine, id: Id) -> Value {
    machine.owners(id).iter().map(|(pid, command)| json!({ "pid": pid, "command": command })).collect()
}

fn pins(machine: &Machine, id: Id) -> Value {
    machine.pins(id).iter().map(|path| Value::from(path.display().to_string())).collect()
}

/// Wall clock, to the second, in UTC: what `load_time` is good for.
fn time(time: SystemTime) -> Value {
    let time = jiff::Timestamp::try_from(time).and_then(|time| time.round(jiff::Unit::Second));
    time.map_or(Value::Null, |time| Value::from(time.to_string()))
}

fn id_or_null(id: u32) -> Value {
    if id == 0 { Value::Null } else { Value::from(id) }
}

fn program(machine: &Machine, program: &Program) -> Value {
    let info = &program.info;
    let places = machine.places(info.id).into_iter();
    let places: Vec<_> = places.map(|(hook, target)| json!({ "hook": hook, "target": target })).collect();
    json!({
        "id": info.id,
        "type": info.kind.to_string(),
        "name": program.name,
        "kernel_name": info.name,
        "tag": info.tag.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "loaded_at": time(program.loaded),
        "uid": info.created_by_uid,
        "gpl": info.gpl_compatible,
        "xlated_bytes": info.xlated_len,
        "xlated_insns": info.xlated_len / 8,
        "jited_bytes": info.jited_len,
        "verified_insns": info.verified_insns,
        "memory_bytes": program.memory,
        "run_count": info.run_count,
        "run_time_ns": info.run_time_ns,
        "recursion_misses": info.recursion_misses,
        "map_ids": program.maps,
        "btf_id": id_or_null(info.btf_id),
        "ifindex": id_or_null(info.ifindex),
        "attached": places,
        "owners": owners(machine, program.id()),
        "pins": pins(machine, program.id()),
    })
}

fn map(machine: &Machine, map: &Map) -> Value {
    let info = &map.info;
    let users = machine.programs.iter().filter(|program| program.maps.contains(&info.id));
    json!({
        "id": info.id,
        "type": info.kind.to_string(),
        "name": info.name,
        "key_size": info.key_size,
        "value_size": info.value_size,
        "max_entries": info.max_entries,
        "flags": info.flags,
        "map_extra": info.map_extra,
        "frozen": map.frozen,
        "memory_bytes": map.memory,
        "btf_id": id_or_null(info.btf_id),
        "ifindex": id_or_null(info.ifindex),
        "program_ids": users.map(|program| program.info.id).collect::<Vec<_>>(),
        "owners": owners(machine, map.id()),
        "pins": pins(machine, map.id()),
    })
}

fn link(machine: &Machine, link: &Link) -> Value {
    let info = &link.info;
    json!({
        "id": info.id,
        "type": info.kind.to_string(),
        "hook": link.hook,
        "target": link.target,
        "program_id": id_or_null(info.program_id),
        "program": machine.name(link.id()),
        "details": details(&info.details),
        "owners": owners(machine, link.id()),
        "pins": pins(machine, link.id()),
    })
}

/// The kernel's own numbers, under its own names.
fn details(details: &LinkDetails) -> Value {
    use LinkDetails as L;
    use PerfLinkDetails as P;
    match details {
        L::RawTracepoint { name, cookie } => json!({ "tp_name": name, "cookie": cookie }),
        L::Tracing { attach_type, target_object, target_btf_id, cookie } => json!({
            "attach_type": attach_type.to_string(), "target_obj_id": target_object,
            "target_btf_id": target_btf_id, "cookie": cookie,
        }),
        L::Cgroup { id, attach_type } => json!({ "cgroup_id": id, "attach_type": attach_type.to_string() }),
        L::Iter { target } => json!({ "target_name": target }),
        L::Netns { inode, attach_type } => json!({ "netns_ino": inode, "attach_type": attach_type.to_string() }),
        L::Xdp { ifindex } => json!({ "ifindex": ifindex }),
        L::PerfEvent(event) => match event {
            P::Uprobe { ret, path, offset, cookie } => {
                json!({ "ret": ret, "file_name": path, "offset": offset, "cookie": cookie })
            }
            P::Kprobe { ret, function, offset, address, missed, cookie } => json!({
                "ret": ret, "func_name": function, "offset": offset, "addr": address, "missed": missed, "cookie": cookie,
            }),
            P::Tracepoint { name, cookie } => json!({ "tp_name": name, "cookie": cookie }),
            P::Event { kind, config, cookie } => json!({ "event_type": kind, "config": config, "cookie": cookie }),
            P::Unknown => json!({}),
        },
        L::KprobeMulti { count, flags, missed } => json!({ "count": count, "flags": flags, "missed": missed }),
        L::StructOps { map_id } => json!({ "map_id": map_id }),
        L::Netfilter { family, hook, priority, flags } => {
            json!({ "pf": family, "hooknum": hook, "priority": priority, "flags": flags })
        }
        L::Tcx { ifindex, attach_type } | L::Netkit { ifindex, attach_type } => {
            json!({ "ifindex": ifindex, "attach_type": attach_type.to_string() })
        }
        L::UprobeMulti { path, count, flags, pid } => {
            json!({ "path": path, "count": count, "flags": flags, "pid": pid })
        }
        L::Sockmap { map_id, attach_type } => json!({ "map_id": map_id, "attach_type": attach_type.to_string() }),
        _ => json!({}),
    }
}

fn btf(machine: &Machine, btf: &Btf) -> Value {
    let users = machine.programs.iter().filter(|program| program.info.btf_id == btf.info.id);
    let maps = machine.maps.iter().filter(|map| map.info.btf_id == btf.info.id);
    json!({
        "id": btf.info.id,
        "name": btf.info.name,
        "kernel": btf.info.kernel,
        "size_bytes": btf.info.size,
        "program_ids": users.map(|program| program.info.id).collect::<Vec<_>>(),
        "map_ids": maps.map(|map| map.info.id).collect::<Vec<_>>(),
        "owners": owners(machine, btf.id()),
        "pins": pins(machine, btf.id()),
    })
}

/// A cell or a line: what JSON says, for people.
fn plain(value: &Value) -> String {
    let short = |object: &Object<String, Value>| match (object.get("command"), object.get("hook")) {
        (Some(command), _) => format!("{}[{}]", plain(command), object.get("pid").map(plain).unwrap_or_default()),
        (_, Some(hook)) => format!("{} {}", plain(hook), object.get("target").map(plain).unwrap_or_default()),
        _ => object.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect::<Vec<_>>().join(" "),
    };
    let text = match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(object) => short(object),
    };
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Every member of every row as a column.
fn wide(rows: &[Value]) -> String {
    let members =
        |row: &Value| row.as_object().into_iter().flatten().map(|(_, value)| plain(value)).collect::<Vec<_>>();
    let head = rows.first().and_then(Value::as_object).into_iter().flatten();
    let head: Vec<_> = head.map(|(name, _)| name.to_uppercase()).collect();
    output::columns(&head, rows.iter().map(members))
}

/// Every member of one row as a line.
fn record(row: &Value) -> String {
    let members = row.as_object().into_iter().flatten();
    members.map(|(name, value)| format!("{name:<17}{}\n", plain(value))).collect()
}
