//! `-o`: what is written, and where.

use std::io::IsTerminal;
use std::path::PathBuf;

use crate::exit::Failure;

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Table,
    Json,
    Folded,
    Svg,
    Pprof,
}

/// One output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub kind: Kind,
    /// `None`: stdout.
    pub file: Option<PathBuf>,
}

const NAMES: &[(&str, Kind)] = &[
    ("table", Kind::Table),
    ("json", Kind::Json),
    ("folded", Kind::Folded),
    ("svg", Kind::Svg),
    ("pprof", Kind::Pprof),
];
const ENDS: &[(&str, Kind)] = &[
    (".txt", Kind::Table),
    (".json", Kind::Json),
    (".folded", Kind::Folded),
    (".svg", Kind::Svg),
    (".pprof", Kind::Pprof),
    (".pb.gz", Kind::Pprof),
];

impl Target {
    pub fn parse(text: &str) -> Result<Target, String> {
        let name = NAMES.iter().find(|(name, _)| *name == text).map(|(_, kind)| (*kind, None));
        let file = || ENDS.iter().find(|(end, _)| text.ends_with(end)).map(|(_, kind)| (*kind, Some(text.into())));
        let (kind, file) = name.or_else(file).ok_or_else(|| {
            let all = |list: &[(&str, Kind)]| list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            format!("it is none of {}, and no file that ends with one of {}", all(NAMES), all(ENDS))
        })?;
        Ok(Target { kind, file })
    }
}

/// What can be known to fail is said before anything is measured.
pub fn check(targets: &[Target]) -> Result<(), Failure> {
    if targets.iter().filter(|target| target.file.is_none()).count() > 1 {
        return Err(Failure::usage("only one -o can go to stdout; give the others a file"));
    }
    for target in targets {
        match &target.file {
            None if target.kind == Kind::Pprof && std::io::stdout().is_terminal() => {
                return Err(Failure::usage("pprof is not for reading: -o profile.pb.gz, or send it into a pipe"));
            }
            None => {}
            Some(file) => {
                let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
                if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
                    return Err(Failure::usage(format_args!("there is no directory {}", directory.display())));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_name_and_end() {
        let parsed = |text: &str| Target::parse(text).map(|target| (target.kind, target.file.is_some()));
        assert_eq!(parsed("svg"), Ok((Kind::Svg, false)));
        assert_eq!(parsed("a/b.svg"), Ok((Kind::Svg, true)));
        assert_eq!(parsed("x.pb.gz"), Ok((Kind::Pprof, true)));
        assert!(parsed("x.gz").expect_err("unknown").contains(".pb.gz"));
    }
}
