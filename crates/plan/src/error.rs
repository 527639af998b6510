//! Why a plan, or one program of it, cannot be made: each with the place, the cause and what to do.

use crate::near::nearest;

/// Why a plan, or one program of it, cannot be made.
///
/// [`crate::plan`] returns one when no plan can be made at all; what concerns single programs is in
/// [`crate::Plan::problems`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object was compiled for machines of the other byte order.
    #[error(
        "object {object} was compiled for {theirs} machines and this one is {ours}; compile it with -target {target}"
    )]
    ByteOrder {
        /// The object.
        object: String,
        /// Its byte order.
        theirs: &'static str,
        /// Ours.
        ours: &'static str,
        /// The compiler's name for our byte order.
        target: &'static str,
    },
    /// The settings name something that the object does not have.
    #[error("the object has no {what} {name}{}", hint(near, known))]
    NoSuch {
        /// A program, a map, a global variable.
        what: &'static str,
        /// The name.
        name: String,
        /// Names close to it.
        near: Vec<String>,
        /// Names that there are, when none is close and they are few.
        known: Vec<String>,
    },
    /// A global variable cannot take the value that the settings give it.
    #[error("global {path}: {problem}")]
    Global {
        /// Its path, as given.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A setting of a map does not go with that map.
    #[error("map {map}: {problem}")]
    Map {
        /// The map.
        map: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The configuration text of the settings has a line that cannot be read.
    #[error("kernel configuration given by the user, line {line}: {problem}")]
    KconfigText {
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The section does not tell the program's type.
    #[error(
        "program {program}: section \"{section}\" tells no program type{}; say in which it should be \
         (--section {program}=NAME, or in Object::programs), or rename it",
        hint(near, &[])
    )]
    NoType {
        /// The program.
        program: String,
        /// Its section.
        section: String,
        /// Sections close to it.
        near: Vec<String>,
    },
    /// A CO-RE relocation cannot be resolved in this kernel.
    #[error("function {function}: {source}")]
    Core {
        /// The function that holds the relocation.
        function: String,
        /// What is wrong.
        source: Box<crate::core::Error>,
    },
    /// The object's parts do not fit together.
    #[error("function {function}, instruction {insn}: {problem}")]
    Link {
        /// The function.
        function: String,
        /// The instruction, from its start.
        insn: usize,
        /// What is wrong.
        problem: String,
    },
    /// More instructions than any kernel takes.
    #[error("program {program} has more than {max} instructions with its subprograms; the kernel takes no more", max = crate::link::MAX_INSNS)]
    TooLong {
        /// The program.
        program: String,
    },
    /// All programs together are larger than any real object.
    #[error("the programs have more than {max} instructions and relocations together, subprograms counted each time; load fewer of them at once", max = crate::link::MAX_TOTAL)]
    TooLongTogether,
    /// Something outside the object cannot be found, or is not what the object takes it for.
    #[error("extern {name}: {problem}")]
    Extern {
        /// Its name.
        name: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A struct_ops map does not fit the kernel's structure.
    #[error("struct_ops map {map}: {problem}")]
    StructOps {
        /// The map.
        map: String,
        /// What is wrong.
        problem: String,
    },
    /// The settings give a licence to an object that states another one.
    #[error("the object states its licence, \"{stated}\": it cannot be given another one (\"{given}\")")]
    LicenceStated {
        /// The object's.
        stated: String,
        /// That of the settings.
        given: String,
    },
    /// The kernel refuses this to programs whose licence it does not take for GPL.
    #[error(
        "program {program} {what}, which the kernel allows only under a GPL-compatible licence, and {}",
        licence(license)
    )]
    Licence {
        /// The program.
        program: String,
        /// What it does.
        what: String,
        /// The licence's text; `None`: the object has no licence section.
        license: Option<String>,
    },
    /// The kernel has no type information, and this needs it.
    #[error(
        "{what} needs the kernel's types, and it was built without them (CONFIG_DEBUG_INFO_BTF=y); give a BTF file made for this kernel"
    )]
    NoKernelBtf {
        /// What needs it.
        what: String,
    },
    /// The object has no type information, and this needs it.
    #[error("{what} needs the object's types, and it has none; compile it with clang -g -O2 -target bpf")]
    NoObjectBtf {
        /// What needs it.
        what: String,
    },
    /// A part of the object cannot be used.
    #[error(transparent)]
    Object(Box<ringfence_object::Error>),
    /// The object's own types are damaged.
    #[error("the object's BTF: {0}")]
    Btf(#[from] ringfence_btf::Error),
    /// A fact about the kernel could not be had.
    #[error(transparent)]
    Kernel(Box<ringfence_kernel::Error>),
    /// The kernel does not know the program's type, or the hook for which it is to be verified.
    #[error("program {program}: this kernel has no {what}{}", since.map_or(String::new(), |since| format!(" (it came with {since})")))]
    Unsupported {
        /// The program.
        program: String,
        /// What is missing.
        what: String,
        /// The release that brought it.
        since: Option<&'static str>,
    },
}

impl From<ringfence_kernel::Error> for Error {
    fn from(error: ringfence_kernel::Error) -> Error {
        Error::Kernel(Box::new(error))
    }
}

fn hint(near: &[String], known: &[String]) -> String {
    match (near, known) {
        ([], []) => String::new(),
        ([], known) => format!("; it has {}", known.join(", ")),
        (near, _) => format!("; did you mean {}?", near.join(" or ")),
    }
}

const LICENCE_HELP: &str = "char LICENSE[] SEC(\"license\") = \"GPL\"";

fn licence(license: &Option<String>) -> String {
    match license {
        Some(text) => format!("its licence is \"{text}\": {LICENCE_HELP} is wanted"),
        None => format!(
            "the object has no licence section: add {LICENCE_HELP} to its source, or give the licence that its authors name \
             elsewhere (`--license`, `Settings::license`)"
        ),
    }
}

/// For a name that the settings use and the object does not have.
pub(crate) fn no_such<'a>(what: &'static str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    // A file can hold any number of names.
    let known: Vec<&str> = known.take(2000).collect();
    let near = nearest(name, known.iter().copied());
    let few = known.len() <= 12;
    let known = known.into_iter().filter(|_| few).map(str::to_owned).collect();
    Error::NoSuch { what, name: name.to_owned(), near, known }
}
