//! `ringfence audit`: what lives in the kernel without a process that owns it: why, and how to remove it.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write as _};
use std::time::{Duration, Instant};

use ringfence::machine::{self, Audit, Holder, Id, Orphan};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::output::{self, Wrote};
use crate::run::{count, failure, say};

/// Finds what no process owns: only pinned, or attached without a link, or held by something that the kernel does not tell.
#[derive(clap::Args)]
pub struct Args {
    /// Only these: program:12, map:9, link:3.
    #[arg(value_name = "OBJECT", value_parser = object)]
    objects: Vec<Id>,
    /// For people, or JSON, one object a line.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Ask of each whether to remove it.
    #[arg(long)]
    remove: bool,
    /// Remove without asking.
    #[arg(long, requires = "remove")]
    yes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// One object a line.
    Json,
}

fn object(text: &str) -> Result<Id, String> {
    let wrong = || format!("{text} is none of program:N, map:N, link:N, btf:N");
    let (kind, number) = text.split_once(':').ok_or_else(wrong)?;
    let number = number.parse().map_err(|_| wrong())?;
    match kind {
        "program" => Ok(Id::Program(number)),
        "map" => Ok(Id::Map(number)),
        "link" => Ok(Id::Link(number)),
        "btf" => Ok(Id::Btf(number)),
        _ => Err(wrong()),
    }
}

pub fn run(args: &Args) -> Result<(), Failure> {
    if args.remove && !args.yes && !std::io::stdin().is_terminal() {
        let message = "--remove asks, and nobody can answer: stdin is no terminal; --yes removes without asking";
        return Err(Failure::usage(message));
    }
    let mut audit = machine::audit().map_err(|error| failure(&error))?;
    for notice in &audit.machine.notices {
        say(&format!("note: {notice}"));
    }
    // Who cannot see all owners must not remove by the dozen.
    if args.remove && audit.machine.closed_processes > 0 {
        let may_look = rustix::thread::capabilities(None)
            .is_ok_and(|held| held.effective.contains(rustix::thread::CapabilitySet::SYS_PTRACE));
        let message = match (may_look, args.yes && args.objects.is_empty()) {
            (false, _) => {
                "--remove needs to know that nobody owns what it removes: run it with CAP_SYS_PTRACE, as root"
            }
            (true, true) => {
                "not all owners can be seen, so --yes needs the objects to be named: `audit program:12 --remove --yes`"
            }
            (true, false) => "",
        };
        if !message.is_empty() {
            return Err(Failure::new(Exit::Permission, message));
        }
    }
    let chosen = |orphan: &Orphan| args.objects.is_empty() || args.objects.contains(&orphan.id);
    audit.orphans.retain(chosen);
    if audit.orphans.is_empty() && args.output == Format::Table {
        say("everything has an owner");
    }
    let mut tally = Tally::default();
    for orphan in &audit.orphans {
        let head = match args.output {
            Format::Table => entry(&audit, orphan),
            Format::Json => String::new(),
        };
        if output::write(head.as_bytes())? == Wrote::NobodyReads {
            return Ok(());
        }
        let answer = if args.remove { removal(args, orphan)? } else { Answer::Keep };
        let outcome = match answer {
            Answer::Remove => Some(remove(orphan, &mut tally)),
            Answer::Keep => None,
            Answer::Quit => break,
        };
        let tail = match args.output {
            Format::Table => outcome.map_or_else(|| "\n".to_owned(), |outcome| format!("  {}\n\n", outcome.says())),
            Format::Json => format!("{}\n", document(&audit, orphan, outcome.as_ref())),
        };
        if output::write(tail.as_bytes())? == Wrote::NobodyReads {
            return Ok(());
        }
    }
    if !audit.orphans.is_empty() && args.output == Format::Table {
        let without = format!("{} without an owner", count(audit.orphans.len(), "entry").replace("entrys", "entries"));
        match args.remove {
            true => say(&format!("{without}, {} removed", tally.removed)),
            false => say(&format!("{without}; --remove asks of each whether to remove it")),
        }
    }
    match tally.failed {
        0 => Ok(()),
        failed => Err(Failure::new(tally.exit, format_args!("{} failed", count(failed, "removal")))),
    }
}

struct Tally {
    removed: usize,
    failed: usize,
    exit: Exit,
}

impl Default for Tally {
    fn default() -> Self {
        Tally { removed: 0, failed: 0, exit: Exit::Error }
    }
}

/// An entry, as lines for people.
fn entry(audit: &Audit, orphan: &Orphan) -> String {
    let name = if orphan.name.is_empty() { String::new() } else { format!("  {}", orphan.name) };
    let kind = if orphan.kind.is_empty() { String::new() } else { format!("  ({})", orphan.kind) };
    let mut out = format!("{}{name}{kind}\n", orphan.id);
    let width = output::terminal_width().unwrap_or(usize::MAX);
    line(&mut out, "why", &orphan.why, width);
    if let Id::Program(id) = orphan.id
        && let Some(program) = audit.machine.program(id)
        && let Ok(loaded) = jiff::Timestamp::try_from(program.loaded)
    {
        let loaded = loaded.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        line(&mut out, "loaded", &format!("{loaded} by user {}", program.info.created_by_uid), width);
    }
    let keeps: Vec<_> = orphan.keeps.iter().filter(|id| !matches!(id, Id::Btf(_))).collect();
    let keeps = keeps.iter().map(|id| format!("{id} {}", audit.machine.name(**id)).trim().to_owned());
    let keeps = keeps.collect::<Vec<_>>().join(", ");
    if !keeps.is_empty() {
        line(&mut out, "keeps", &keeps, width);
    }
    if orphan.memory > 0 {
        line(&mut out, "memory", &output::bytes(orphan.memory), width);
    }
    match &orphan.command {
        // Never broken: it is there to be copied.
        Some(command) => _ = writeln!(out, "  {:<8}{command}", "remove"),
        None => line(&mut out, "remove", &orphan.advice, width),
    }
    out
}

/// A titled line, broken at blanks so that it fits.
fn line(out: &mut String, title: &str, text: &str, width: usize) {
    const INDENT: usize = 10;
    let room = width.saturating_sub(INDENT).max(30);
    let mut title = title;
    let mut left = text;
    while !left.is_empty() {
        let end = left.char_indices().nth(room).map_or(left.len(), |(at, _)| left[..at].rfind(' ').unwrap_or(at));
        let (now, rest) = left.split_at(end);
        let _ = writeln!(out, "  {title:<8}{now}");
        (title, left) = ("", rest.trim_start());
    }
}

fn document(audit: &Audit, orphan: &Orphan, outcome: Option<&Outcome>) -> Value {
    let parts = |id: Id| match id {
        Id::Program(id) => ("program", id),
        Id::Map(id) => ("map", id),
        Id::Link(id) => ("link", id),
        Id::Btf(id) => ("btf", id),
    };
    let (object, id) = parts(orphan.id);
    let keeps = orphan.keeps.iter().map(|kept| {
        let (object, id) = parts(*kept);
        json!({ "object": object, "id": id, "name": audit.machine.name(*kept) })
    });
    let holder = match &orphan.holder {
        Some(Holder::Pin { path, process }) => {
            json!({ "kind": "pin", "path": path.display().to_string(), "seen_by_pid": process })
        }
        Some(Holder::Attachment(at)) => json!({ "kind": "attachment", "hook": at.hook, "target": at.target }),
        _ => Value::Null,
    };
    let mut document = json!({
        "object": object,
        "id": id,
        "kind": orphan.kind,
        "name": orphan.name,
        "why": orphan.why,
        "holder": holder,
        "keeps": keeps.collect::<Vec<_>>(),
        "memory_bytes": orphan.memory,
        "remove": orphan.command,
        "advice": orphan.advice,
    });
    if let (Some(outcome), Some(members)) = (outcome, document.as_object_mut()) {
        members.insert("removed".to_owned(), Value::from(outcome.error.is_none()));
        members.insert("outcome".to_owned(), Value::from(outcome.says()));
    }
    document
}

enum Answer {
    Remove,
    Keep,
    Quit,
}

/// Whether to remove it: asked on the terminal, unless `--yes` has said it.
fn removal(args: &Args, orphan: &Orphan) -> Result<Answer, Failure> {
    if !orphan.is_removable() {
        return Ok(Answer::Keep);
    }
    if args.yes {
        return Ok(Answer::Remove);
    }
    let mut ask = std::io::stderr().lock();
    write!(ask, "  remove it? [y]es, [n]o, [q]uit: ")?;
    ask.flush()?;
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        return Ok(Answer::Quit);
    }
    Ok(match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Answer::Remove,
        "q" | "quit" => Answer::Quit,
        _ => Answer::Keep,
    })
}

/// What became of a removal.
struct Outcome {
    id: Id,
    error: Option<String>,
    is_there: bool,
}

impl Outcome {
    fn says(&self) -> String {
        match (&self.error, self.is_there) {
            (Some(error), _) => format!("not removed: {error}"),
            (None, false) => format!("removed: {} is gone", self.id),
            (None, true) => format!("removed, but {} is still there: something else holds it", self.id),
        }
    }
}

/// The kernel frees most things a moment after their last holder is gone.
const FREED: Duration = Duration::from_millis(500);

fn remove(orphan: &Orphan, tally: &mut Tally) -> Outcome {
    match orphan.remove() {
        Err(error) => {
            tally.failed += 1;
            tally.exit = failure(&error).exit;
            Outcome { id: orphan.id, error: Some(error.to_string()), is_there: true }
        }
        Ok(()) => {
            tally.removed += 1;
            let start = Instant::now();
            while orphan.id.is_there() && start.elapsed() < FREED {
                std::thread::sleep(Duration::from_millis(5));
            }
            Outcome { id: orphan.id, error: None, is_there: orphan.id.is_there() }
        }
    }
}
