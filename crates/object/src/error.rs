use ringfence_btf as btf;

/// Compiles one C file into what this crate reads; every message that asks for a new object names it.
pub(crate) const COMPILE: &str = "clang -target bpf -O2 -g -c FILE.c";

/// Why a file, or a part of it, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is something else than an eBPF object.
    #[error("{object} is {what}, not an eBPF object: {advice}")]
    NotAnObject {
        /// The file.
        object: String,
        /// What it is.
        what: String,
        /// What to do.
        advice: String,
    },
    /// The file contradicts itself or ends too early.
    #[error("{object} is damaged or cut off: {what}; copy it again, or compile it again with `{COMPILE}`")]
    Damaged {
        /// The file.
        object: String,
        /// Where, and what is wrong.
        what: String,
    },
    /// The file asks for more than this reader is willing to take from a file.
    #[error("{object}: {what}: more than the limit of {limit}; split the object, or make this part smaller")]
    TooLarge {
        /// The file.
        object: String,
        /// What there is too much of.
        what: String,
        /// How much there may be.
        limit: u64,
    },
    /// Type information that cannot be read.
    #[error("{object}, section {section}: {source}; compile it again with `{COMPILE}`")]
    Btf {
        /// The file.
        object: String,
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// What is wrong.
        source: btf::Error,
    },
    /// A section that cannot be understood.
    #[error("{object}, section {section}: {what}")]
    Section {
        /// The file.
        object: String,
        /// The section.
        section: String,
        /// Cause, and what to do.
        what: String,
    },
    /// A map that is declared in a way that cannot be understood.
    #[error("{object}, map {map}: {what}")]
    Map {
        /// The file.
        object: String,
        /// The map.
        map: String,
        /// Cause, and what to do.
        what: String,
    },
    /// An attribute of a map that cannot be understood.
    #[error("{object}, map {map}, attribute {attribute}: {what}")]
    Attribute {
        /// The file.
        object: String,
        /// The map.
        map: String,
        /// The attribute.
        attribute: String,
        /// Cause, and what to do.
        what: String,
    },
    /// A name that the object leaves to the loader, and that cannot be understood.
    #[error("{object}, extern {name}: {what}")]
    Extern {
        /// The file.
        object: String,
        /// The extern.
        name: String,
        /// Cause, and what to do.
        what: String,
    },
    /// A function that cannot be used; the others of the object still can.
    #[error("{object}, function {function} (section {section}): {what}")]
    Function {
        /// The file.
        object: String,
        /// The function.
        function: String,
        /// Its section.
        section: String,
        /// Cause, and what to do.
        what: String,
    },
    /// An instruction that makes its function unusable.
    #[error("{object}, function {function} (section {section}), instruction {insn}: {what}")]
    Insn {
        /// The file.
        object: String,
        /// The function.
        function: String,
        /// Its section.
        section: String,
        /// Index in the function.
        insn: usize,
        /// Cause, and what to do.
        what: String,
    },
}
