//! What the user names: an object file, or a built-in program.

use std::path::Path;
use std::sync::Arc;

use ringfence::Object;
use ringfence_btf::Btf;
use ringfence_plan::near::nearest;

use crate::exit::{Exit, Failure};

/// The largest object file that is read. The largest real ones are a few MiB, with DWARF.
const MAX_OBJECT: u64 = 256 << 20;

/// Built-in programs: name, what it shows, compiled object.
pub const BUILT_IN: &[(&str, &str, &[u8])] =
    &[("opens", "files opened, with the result", include_bytes!("../../../bpf/opens.bpf.o"))];

/// An object and where it comes from.
pub struct Source {
    /// Path or name, as the user wrote it.
    pub label: String,
    /// The object.
    pub object: Object,
    /// Types of its DWARF, where it has any.
    pub debug: Option<Btf>,
}

/// The object that a command is about.
#[derive(clap::Args)]
pub struct Named {
    /// Object file, or name of a built-in program.
    file: String,
    /// Take a program for one in this section (`SEC("..")`), where its own says nothing or something else:
    /// `tail_1=socket`, `prog=kprobe/do_unlinkat`. May be given several times.
    #[arg(long, value_name = "PROGRAM=SECTION", value_parser = pair)]
    section: Vec<(String, String)>,
}

/// Behind a name that is unknown: what it can have been.
fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, known).join(", ") {
        near if near.is_empty() => near,
        near => format!("; did you mean {near}?"),
    }
}

/// `NAME=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE is wanted".to_owned()),
    }
}

/// Reads an object file, or the built-in program of that name when there is no such file.
pub fn open(Named { file: name, section }: &Named) -> Result<Source, Failure> {
    let (file_name, bytes) = read(name)?;
    let fail = |error: &dyn std::fmt::Display| Failure::new(Exit::Error, format_args!("{name}: {error}"));
    let mut object = Object::parse(&file_name, &bytes).map_err(|error| fail(&error))?;
    for (program, section) in section {
        let names = || object.programs.iter().map(|program| program.name.as_str());
        if ringfence_object::section(section).is_none() {
            let near = hint(section, ringfence_object::SECTIONS.iter().map(|def| def.name));
            return Err(fail(&format_args!("no program can be in a section `{section}`{near}")));
        }
        if !names().any(|name| name == program) {
            return Err(fail(&format_args!("it has no program `{program}`{}", hint(program, names()))));
        }
        for found in object.programs.iter_mut().filter(|found| found.name == *program) {
            found.section.clone_from(section);
        }
    }
    // DWARF only helps to name event types: damage there stops nothing.
    let debug = ringfence_object::debug_types(&bytes).ok().flatten();
    Ok(Source { label: name.to_owned(), object, debug })
}

fn read(name: &str) -> Result<(String, Vec<u8>), Failure> {
    let path = Path::new(name);
    let built_in = BUILT_IN.iter().find(|(known, _, _)| *known == name);
    match (path.metadata(), built_in) {
        (Err(_), Some((known, _, bytes))) => return Ok(((*known).to_owned(), bytes.to_vec())),
        (Ok(meta), _) if meta.is_dir() => {
            return Err(Failure::new(Exit::Error, format_args!("{name} is a directory, not an object file")));
        }
        (Ok(meta), _) if meta.len() > MAX_OBJECT => {
            return Err(Failure::new(
                Exit::Error,
                format_args!("{name} is larger than any object file ({} bytes)", meta.len()),
            ));
        }
        (Err(error), None) => {
            let known: Vec<_> = BUILT_IN.iter().map(|(known, _, _)| *known).collect();
            let hint = format!("no such file, and no built-in program (those are: {})", known.join(", "));
            let why = if error.kind() == std::io::ErrorKind::NotFound { hint } else { error.to_string() };
            return Err(Failure::new(Exit::Error, format_args!("{name}: {why}")));
        }
        (Ok(_), _) => {}
    }
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_OBJECT).read_to_end(&mut bytes))
        .map_err(|error| Failure::new(Exit::Error, format_args!("{name}: {error}")))?;
    let file_name = path.file_name().map_or_else(|| name.to_owned(), |base| base.to_string_lossy().into_owned());
    Ok((file_name, bytes))
}

/// Reads a file of raw BTF.
pub fn btf(path: &Path) -> Result<Btf, Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::new(Exit::Error, format_args!("{}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| fail(&error))?;
    Btf::parse(Arc::new(bytes)).map_err(|error| fail(&error))
}
