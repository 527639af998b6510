//! What the user chose, before it meets an object: names are checked by [`crate::plan`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use ringfence_btf::Btf;
use ringfence_uapi::{AttachType, MapType, ProgramType};

/// The user's choices. Each method takes the settings and gives them back, so that calls can be chained.
///
/// ```
/// use ringfence_plan::Settings;
/// let settings = Settings::new().global("target_pid", 42u32).only(["handle_exit"]).map_entries("events", 1 << 20);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub(crate) globals: Vec<(String, Given)>,
    pub(crate) only: Option<Vec<String>>,
    pub(crate) programs: BTreeMap<String, ProgramChoice>,
    pub(crate) maps: BTreeMap<String, MapChoice>,
    pub(crate) kconfig: Option<String>,
    pub(crate) core_btf: Option<Btf>,
    pub(crate) fill_sizes: bool,
    pub(crate) pins: Option<PathBuf>,
    pub(crate) license: Option<String>,
}

/// What a global variable is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Given {
    Value(Value),
    /// As typed on a command line: its meaning depends on the variable's type.
    Text(String),
}

/// What was chosen for one program.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ProgramChoice {
    pub(crate) load: Option<bool>,
    pub(crate) kind: Option<(ProgramType, AttachType)>,
    pub(crate) target: Option<String>,
}

/// What was chosen for one map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct MapChoice {
    pub(crate) create: Option<bool>,
    pub(crate) max_entries: Option<u32>,
    pub(crate) value_size: Option<u32>,
    pub(crate) flags: Option<u32>,
    pub(crate) inner: Option<InnerMap>,
    pub(crate) pin: Option<PathBuf>,
    pub(crate) reuse: Option<PathBuf>,
}

/// Shape of the maps that a map-in-map holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InnerMap {
    /// What they are.
    pub kind: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
}

/// A value for a global variable. Whether it fits is checked against the variable's type.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Value {
    /// For an integer, `bool` or `enum`.
    Int(i128),
    /// For a `bool` or an integer.
    Bool(bool),
    /// For any type: its bytes, all of them.
    Bytes(Vec<u8>),
    /// For an array of characters (zeros are added, one at least), or the name of an enumerator.
    Text(String),
}

macro_rules! from_integers {
    ($($int:ty)*) => { $(impl From<$int> for Value {
        fn from(value: $int) -> Value {
            Value::Int(i128::from(value))
        }
    })* };
}
from_integers!(u8 u16 u32 u64 i8 i16 i32 i64);

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Value {
        Value::Bytes(bytes)
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Value {
        Value::Bytes(bytes.to_vec())
    }
}

impl Settings {
    /// Everything as the object says.
    pub fn new() -> Settings {
        Settings::default()
    }

    /// Sets a global variable before the programs load: `target_pid`, an element `name[3]`, a member `cfg.field`.
    ///
    /// Also a member of a struct_ops variable: `control.name`; one that holds a program by the program's name
    /// (`control.init`), which with an empty name is taken out.
    pub fn global(mut self, path: impl Into<String>, value: impl Into<Value>) -> Settings {
        self.globals.push((path.into(), Given::Value(value.into())));
        self
    }

    /// The same from text, read by the variable's type: `42`, `-1`, `0xff`, `true`, `'c'`, the name of an
    /// enumerator, the text of a character array, `1,2,3` for the elements of another array.
    pub fn global_text(mut self, path: impl Into<String>, text: impl Into<String>) -> Settings {
        self.globals.push((path.into(), Given::Text(text.into())));
        self
    }

    /// The licence of an object that has no licence section, as the kernel wants it: `GPL`, `Dual MIT/GPL`. Objects that state
    /// theirs are not asked to change it.
    pub fn license(mut self, text: impl Into<String>) -> Settings {
        self.license = Some(text.into());
        self
    }

    /// Loads these programs and no others.
    pub fn only<S: Into<String>>(mut self, programs: impl IntoIterator<Item = S>) -> Settings {
        self.only = Some(programs.into_iter().map(Into::into).collect());
        self
    }

    /// Loads a program, or leaves it out, whatever the object says.
    pub fn program(mut self, name: impl Into<String>, load: bool) -> Settings {
        self.programs.entry(name.into()).or_default().load = Some(load);
        self
    }

    /// Gives a program its type and the hook for which it is verified.
    pub fn program_type(mut self, name: impl Into<String>, kind: ProgramType, attach: AttachType) -> Settings {
        self.programs.entry(name.into()).or_default().kind = Some((kind, attach));
        self
    }

    /// Gives a program the target that its section would name behind the `/`: `tcp_connect`, `module:function`,
    /// `syscalls/sys_enter_openat`, `/bin/bash:readline`.
    pub fn attach_target(mut self, name: impl Into<String>, target: impl Into<String>) -> Settings {
        self.programs.entry(name.into()).or_default().target = Some(target.into());
        self
    }

    /// Creates a map, or leaves it out, whatever the object says. Programs that need it cannot use it then.
    pub fn map(mut self, name: impl Into<String>, create: bool) -> Settings {
        self.maps.entry(name.into()).or_default().create = Some(create);
        self
    }

    /// Most entries of a map; bytes of a ring buffer.
    pub fn map_entries(mut self, name: impl Into<String>, entries: u32) -> Settings {
        self.maps.entry(name.into()).or_default().max_entries = Some(entries);
        self
    }

    /// Bytes of a map's values; of a data section, to make room behind its variables.
    pub fn map_value_size(mut self, name: impl Into<String>, bytes: u32) -> Settings {
        self.maps.entry(name.into()).or_default().value_size = Some(bytes);
        self
    }

    /// `BPF_F_*` of a map, instead of the object's.
    pub fn map_flags(mut self, name: impl Into<String>, flags: u32) -> Settings {
        self.maps.entry(name.into()).or_default().flags = Some(flags);
        self
    }

    /// Shape of the maps that a map-in-map holds.
    pub fn map_inner(mut self, name: impl Into<String>, inner: InnerMap) -> Settings {
        self.maps.entry(name.into()).or_default().inner = Some(inner);
        self
    }

    /// Pins a map there; one that is there already is taken instead when it has the same shape.
    pub fn map_pin(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Settings {
        self.maps.entry(name.into()).or_default().pin = Some(path.into());
        self
    }

    /// Takes the map that is pinned there and creates none.
    pub fn map_reuse(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Settings {
        self.maps.entry(name.into()).or_default().reuse = Some(path.into());
        self
    }

    /// Kernel configuration (`CONFIG_HZ=250`, a line each) that goes before that of the kernel.
    pub fn kconfig(mut self, text: impl Into<String>) -> Settings {
        self.kconfig = Some(text.into());
        self
    }

    /// Relocates the programs' accesses to kernel structures (CO-RE) against these types and not the kernel's.
    /// Everything else that needs types still asks the kernel.
    pub fn core_btf(mut self, btf: Btf) -> Settings {
        self.core_btf = Some(btf);
        self
    }

    /// Fills in the sizes that an object leaves to its own user-space part: entries of maps, the shape of inner
    /// maps, the depth of stack traces. [`crate::MapPlan::filled`] says what was done.
    pub fn fill_sizes(mut self, fill: bool) -> Settings {
        self.fill_sizes = fill;
        self
    }

    /// Directory for maps that the object pins by name, instead of `/sys/fs/bpf`.
    pub fn pins(mut self, root: impl Into<PathBuf>) -> Settings {
        self.pins = Some(root.into());
        self
    }
}
