//! What is to be watched, as it is written: `syscalls:openat`, `sched:*`, `kprobe:tcp_connect`, `uprobe:/bin/bash:readline(prompt:str)`.

use std::fmt;

use crate::error::{Error, Result};

/// Bytes of text that are read where nothing else is said, with the zero at its end.
pub(super) const TEXT: u16 = 128;

/// One place, or several by a pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// As it was written.
    pub text: String,
    pub(super) place: Place,
    /// Arguments of a user function, which nobody else names: name and type.
    pub(super) arguments: Vec<(String, Reading)>,
    /// What a function gives.
    pub(super) ret: Option<Reading>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// `syscalls:openat`: the call with its return.
    Syscall { name: String },
    /// `CATEGORY:NAME`.
    Tracepoint { category: String, name: String },
    /// `kprobe:`, `kretprobe:`, and with a trampoline asked for: `fentry:`, `fexit:`.
    Function { name: String, ret: bool, by: By },
    /// `uprobe:FILE:NAME`, `uretprobe:FILE:NAME`.
    User { file: String, function: String, ret: bool },
    /// `usdt:FILE:PROVIDER:NAME`.
    Usdt { file: String, provider: String, name: String },
}

/// How a kernel function is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    /// The cheaper one that works here.
    Any,
    Trampoline,
}

/// How an argument is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    Number {
        bytes: u16,
        signed: bool,
    },
    Bool,
    /// In hex.
    Pointer,
    /// Text up to a zero, and most bytes of it.
    Text(u16),
    /// Text whose length is the next argument: Rust's `&str`, Go's `string`.
    Sized(u16),
}

/// Names of [`Reading`]s.
const READINGS: &[(&str, Reading)] = &[
    ("i8", Reading::Number { bytes: 1, signed: true }),
    ("u8", Reading::Number { bytes: 1, signed: false }),
    ("i16", Reading::Number { bytes: 2, signed: true }),
    ("u16", Reading::Number { bytes: 2, signed: false }),
    ("i32", Reading::Number { bytes: 4, signed: true }),
    ("int", Reading::Number { bytes: 4, signed: true }),
    ("u32", Reading::Number { bytes: 4, signed: false }),
    ("uint", Reading::Number { bytes: 4, signed: false }),
    ("i64", Reading::Number { bytes: 8, signed: true }),
    ("long", Reading::Number { bytes: 8, signed: true }),
    ("u64", Reading::Number { bytes: 8, signed: false }),
    ("ulong", Reading::Number { bytes: 8, signed: false }),
    ("bool", Reading::Bool),
    ("ptr", Reading::Pointer),
    ("str", Reading::Text(TEXT)),
    ("strn", Reading::Sized(TEXT)),
];

impl Reading {
    fn parse(text: &str) -> Option<Reading> {
        READINGS.iter().find(|(name, _)| *name == text).map(|(_, reading)| *reading)
    }

    pub(super) fn name(self) -> &'static str {
        READINGS.iter().find(|(_, reading)| *reading == self).map_or("", |(name, _)| name)
    }

    /// Registers that it takes.
    pub(super) fn registers(self) -> u8 {
        if matches!(self, Reading::Sized(_)) { 2 } else { 1 }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Spec {
    /// Reads one.
    ///
    /// # Errors
    /// It is none; the message says what there is.
    pub fn parse(text: &str) -> Result<Spec> {
        let fail = |why: String| Error::Spec { spec: text.to_owned(), why };
        let (kind, rest) = text.split_once(':').ok_or_else(|| {
            fail(
                "it names no kind: syscalls:openat, sched:sched_switch, kprobe:tcp_connect, uprobe:FILE:FUNCTION"
                    .into(),
            )
        })?;
        let nothing = || fail(format!("what follows `{kind}:` is missing"));
        if rest.is_empty() {
            return Err(nothing());
        }
        let is_function = ["kprobe", "kretprobe", "fentry", "fexit", "uprobe", "uretprobe", "usdt"].contains(&kind);
        let (rest, ret) = match rest.rsplit_once('=').filter(|_| is_function) {
            Some((rest, name)) => (rest, Some(reading(name).map_err(fail)?)),
            None => (rest, None),
        };
        let (rest, arguments) =
            match rest.strip_suffix(')').and_then(|rest| rest.rsplit_once('(')).filter(|_| is_function) {
                Some((rest, list)) => (rest, arguments(list).map_err(fail)?),
                None => (rest, Vec::new()),
            };
        let is_return = ["kretprobe", "fexit", "uretprobe"].contains(&kind);
        if ret.is_some() && !is_return {
            return Err(fail(format!("`=TYPE` is what a function gives, and {kind} is at its start")));
        }
        let place = match kind {
            "kprobe" | "kretprobe" => Place::Function { name: rest.to_owned(), ret: is_return, by: By::Any },
            "fentry" | "fexit" => Place::Function { name: rest.to_owned(), ret: is_return, by: By::Trampoline },
            "uprobe" | "uretprobe" => {
                let (file, function) = rest
                    .split_once(':')
                    .filter(|(file, function)| !file.is_empty() && !function.is_empty())
                    .ok_or_else(|| fail(format!("{kind}:FILE:FUNCTION is wanted")))?;
                Place::User { file: file.to_owned(), function: function.to_owned(), ret: is_return }
            }
            "usdt" => {
                let mut parts = rest.splitn(3, ':').filter(|part| !part.is_empty()).map(str::to_owned);
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(file), Some(provider), Some(name)) => Place::Usdt { file, provider, name },
                    _ => return Err(fail("usdt:FILE:PROVIDER:NAME is wanted".into())),
                }
            }
            "syscalls" if !rest.starts_with("sys_enter") && !rest.starts_with("sys_exit") => {
                Place::Syscall { name: rest.to_owned() }
            }
            category => {
                let category = category.strip_prefix("tracepoint/").unwrap_or(category);
                match (category, rest.split_once(':')) {
                    ("tracepoint" | "tp", Some((category, name))) => {
                        Place::Tracepoint { category: category.to_owned(), name: name.to_owned() }
                    }
                    _ => Place::Tracepoint { category: category.to_owned(), name: rest.to_owned() },
                }
            }
        };
        Ok(Spec { text: text.to_owned(), place, arguments, ret })
    }
}

fn reading(name: &str) -> std::result::Result<Reading, String> {
    Reading::parse(name).ok_or_else(|| {
        let all: Vec<&str> = READINGS.iter().map(|(name, _)| *name).collect();
        format!("`{name}` is no type; there are {} (strn: text whose length is the next argument)", all.join(" "))
    })
}

/// `a:str,b:u32`.
fn arguments(list: &str) -> std::result::Result<Vec<(String, Reading)>, String> {
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, ty) = part.split_once(':').ok_or_else(|| format!("`{part}` is not NAME:TYPE"))?;
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!("`{name}` is no name of an argument"));
            }
            Ok((name.to_owned(), reading(ty.trim())?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let place = |text: &str| Spec::parse(text).map(|spec| spec.place).map_err(|error| error.to_string());
        let tracepoint =
            |category: &str, name: &str| Place::Tracepoint { category: category.into(), name: name.into() };
        assert_eq!(place("syscalls:openat"), Ok(Place::Syscall { name: "openat".into() }));
        assert_eq!(place("syscalls:sys_enter_openat"), Ok(tracepoint("syscalls", "sys_enter_openat")));
        assert_eq!(place("sched:*"), Ok(tracepoint("sched", "*")));
        assert_eq!(place("tracepoint:sched:sched_switch"), Ok(tracepoint("sched", "sched_switch")));
        let rust = "uprobe:/bin/demo:demo::work(name:strn,count:u32)";
        let spec = Spec::parse(rust).expect("a place");
        let user = Place::User { file: "/bin/demo".into(), function: "demo::work".into(), ret: false };
        assert_eq!(spec.place, user);
        let arguments = [
            ("name".to_owned(), Reading::Sized(TEXT)),
            ("count".to_owned(), Reading::Number { bytes: 4, signed: false }),
        ];
        assert_eq!(spec.arguments, arguments);
        let spec = Spec::parse("uretprobe:/bin/bash:readline=str").expect("a place");
        assert_eq!(spec.ret, Some(Reading::Text(TEXT)));
        for wrong in
            ["openat", "kprobe:", "uprobe:/bin/bash", "usdt:a:b", "kprobe:f=str", "uprobe:a:b(c)", "uprobe:a:b(c:d)"]
        {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
