//! Words of C that are known without any header.

/// Names that headers give to integers: what they are, and behind which other name.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("u8", "unsigned char"),
    ("u16", "unsigned short"),
    ("u32", "unsigned int"),
    ("u64", "unsigned long long"),
    ("s8", "signed char"),
    ("s16", "short"),
    ("s32", "int"),
    ("s64", "long long"),
    ("__u8", "unsigned char"),
    ("__u16", "unsigned short"),
    ("__u32", "unsigned int"),
    ("__u64", "unsigned long long"),
    ("__s8", "signed char"),
    ("__s16", "short"),
    ("__s32", "int"),
    ("__s64", "long long"),
    ("uint8_t", "unsigned char"),
    ("uint16_t", "unsigned short"),
    ("uint32_t", "unsigned int"),
    ("uint64_t", "unsigned long"),
    ("int8_t", "signed char"),
    ("int16_t", "short"),
    ("int32_t", "int"),
    ("int64_t", "long"),
    ("uintptr_t", "unsigned long"),
    ("intptr_t", "long"),
    ("u_char", "unsigned char"),
    ("u_short", "unsigned short"),
    ("u_int", "unsigned int"),
    ("u_long", "unsigned long"),
    ("uint", "unsigned int"),
    ("ulong", "unsigned long"),
    ("__le16", "__u16"),
    ("__le32", "__u32"),
    ("__le64", "__u64"),
    ("__be16", "__u16"),
    ("__be32", "__u32"),
    ("__be64", "__u64"),
    ("__sum16", "__u16"),
    ("__wsum", "__u32"),
    ("bool", "_Bool"),
    ("size_t", "unsigned long"),
    ("ssize_t", "long"),
    ("off_t", "long"),
    ("loff_t", "long long"),
    ("pid_t", "int"),
    ("uid_t", "unsigned int"),
    ("gid_t", "unsigned int"),
    ("dev_t", "unsigned int"),
    ("ino_t", "unsigned long"),
    ("umode_t", "unsigned short"),
    ("mode_t", "unsigned int"),
    ("time_t", "long"),
    ("ktime_t", "long long"),
    ("sector_t", "unsigned long long"),
    ("sa_family_t", "unsigned short"),
    ("in_addr_t", "__be32"),
    ("in_port_t", "__be16"),
];

/// Words between a type and its name that say nothing about the layout.
pub(super) const QUALIFIERS: &[&str] = &[
    "const",
    "volatile",
    "restrict",
    "__restrict",
    "__restrict__",
    "__const",
    "__volatile__",
    "register",
    "extern",
    "static",
    "inline",
    "__inline",
    "__inline__",
    "__extension__",
    "auto",
    "_Atomic",
    "__weak",
    "__hidden",
    "__always_inline",
    "__kptr",
    "__kptr_untrusted",
    "__percpu_kptr",
    "__user",
    "__rcu",
    "__percpu",
    "__arena",
    "__ksym",
    "__kconfig",
];

/// What `mode` calls sizes.
pub(super) const MODES: &[(&str, u32)] = &[("byte", 1), ("QI", 1), ("HI", 2), ("SI", 4), ("word", 8), ("DI", 8)];

/// The words of an integer type, in any order.
#[derive(Default)]
pub(super) struct Words {
    base: Option<&'static str>,
    long: u32,
    short: bool,
    signed: bool,
    unsigned: bool,
}

impl Words {
    pub(super) fn is_empty(&self) -> bool {
        self.base.is_none() && self.long == 0 && !self.short && !self.signed && !self.unsigned
    }

    /// Whether the word is one of them.
    pub(super) fn add(&mut self, word: &str) -> bool {
        match word {
            "long" => self.long = self.long.saturating_add(1),
            "short" => self.short = true,
            "signed" | "__signed__" | "__signed" => self.signed = true,
            "unsigned" => self.unsigned = true,
            "int" => self.base = self.base.or(Some("int")),
            "char" => self.base = Some("char"),
            "_Bool" => self.base = Some("_Bool"),
            "float" => self.base = Some("float"),
            "double" => self.base = Some("double"),
            "void" => self.base = Some("void"),
            "__int128" | "__int128_t" => self.base = Some("__int128"),
            "__uint128_t" => (self.base, self.unsigned) = (Some("__int128"), true),
            _ => return false,
        }
        true
    }

    pub(super) fn name(&self) -> Option<&'static str> {
        Some(match (self.base.unwrap_or("int"), self.short, self.long, self.unsigned) {
            ("int", true, 0, false) => "short",
            ("int", true, 0, true) => "unsigned short",
            ("int", false, 0, false) => "int",
            ("int", false, 0, true) => "unsigned int",
            ("int", false, 1, false) => "long",
            ("int", false, 1, true) => "unsigned long",
            ("int", false, 2, false) => "long long",
            ("int", false, 2, true) => "unsigned long long",
            ("char", false, 0, true) => "unsigned char",
            ("char", false, 0, false) if self.signed => "signed char",
            ("double", false, 1, false) => "long double",
            ("__int128", false, 0, true) => "unsigned __int128",
            (plain, false, 0, false) => plain,
            _ => return None,
        })
    }
}
