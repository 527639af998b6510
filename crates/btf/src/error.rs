use crate::TypeId;

/// Why bytes are not the BTF that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The header is short, has another magic or points outside the data.
    #[error("BTF header: {0}")]
    Header(&'static str),
    /// A type record is cut off or has a kind that this reader does not know.
    #[error("BTF type {id}: {what}")]
    BadType {
        /// The damaged type.
        id: TypeId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A string offset points outside the string section, or what is there is not text.
    #[error("BTF string at offset {0:#x} is not in the string section, or is not text")]
    BadString(u32),
    /// A type id that this BTF does not have.
    #[error("BTF has no type {0}")]
    NoSuchType(TypeId),
    /// Types refer to each other deeper than any compiler writes them, or in a circle.
    #[error("BTF type {0} refers to itself, or is nested deeper than {max} levels", max = crate::read::MAX_DEPTH)]
    TooDeep(TypeId),
    /// A size that no object can have.
    #[error("BTF type {0} has no size: {1}")]
    NoSize(TypeId, &'static str),
    /// A struct or union that has no such member.
    #[error("BTF type {id} has no member {path}")]
    NoMember {
        /// The struct, union or whatever it is.
        id: TypeId,
        /// The path that was asked for.
        path: String,
    },
    /// More types or more string bytes than the format can number.
    #[error("BTF grew past what the format can number")]
    Full,
}
