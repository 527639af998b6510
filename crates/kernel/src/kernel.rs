use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ringfence_btf::{Btf, Kind};
use ringfence_sys::{self as sys, Errno};
use ringfence_uapi::{AttachType, Helper, LinkType, MapType, ProgramType};

use crate::symbols::{self, Found};
use crate::{Error, Feature, Lockdown, Module, Sysctl, config, hardening, modules, names, probe, tracefs, version};

/// One kernel. Cheap to clone: clones share what was asked.
///
/// Facts of the running kernel are asked when they are first wanted. Answers that would not be about the kernel (no
/// permission to try) are not kept.
#[derive(Clone)]
pub struct Kernel {
    facts: Arc<Facts>,
    /// Types that the user gives in the place of the kernel's own.
    given: Option<Btf>,
}

/// Where facts come from.
enum Source {
    /// The kernel that runs this process.
    Running,
    /// Types, and nothing else.
    Types(Btf),
}

struct Facts {
    source: Source,
    btf: OnceLock<Result<Option<Btf>, Error>>,
    modules: OnceLock<Result<Vec<Module>, Error>>,
    features: [Answer; Feature::ALL.len()],
    enumerators: [OnceLock<Option<HashSet<u32>>>; 5],
    config: OnceLock<Result<String, Error>>,
    symbols: Mutex<HashMap<String, Result<Option<u64>, Error>>>,
    version: OnceLock<u32>,
    release: OnceLock<String>,
    tracepoints: Mutex<HashMap<(String, String), u64>>,
}

/// Yes, no, or not yet known.
#[derive(Default)]
struct Answer(AtomicU8);

impl Answer {
    fn get(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            number => Some(number == 2),
        }
    }

    fn set(&self, answer: Option<bool>) {
        if let Some(yes) = answer {
            self.0.store(1 + u8::from(yes), Ordering::Relaxed);
        }
    }
}

/// The enumerations that [`Kernel`] is asked for, as places in `Facts::enumerators`.
#[derive(Clone, Copy)]
enum Names {
    Helper,
    Map,
    Program,
    Attach,
    Link,
}

impl Names {
    fn enumeration(self) -> (&'static str, &'static str) {
        match self {
            Names::Helper => (Helper::ENUM, Helper::PREFIX),
            Names::Map => (MapType::ENUM, MapType::PREFIX),
            Names::Program => (ProgramType::ENUM, ProgramType::PREFIX),
            Names::Attach => (AttachType::ENUM, AttachType::PREFIX),
            Names::Link => (LinkType::ENUM, LinkType::PREFIX),
        }
    }
}

impl Facts {
    fn new(source: Source) -> Arc<Facts> {
        Arc::new(Facts {
            source,
            btf: OnceLock::new(),
            modules: OnceLock::new(),
            features: std::array::from_fn(|_| Answer::default()),
            enumerators: [const { OnceLock::new() }; 5],
            config: OnceLock::new(),
            symbols: Mutex::default(),
            version: OnceLock::new(),
            release: OnceLock::new(),
            tracepoints: Mutex::default(),
        })
    }

    fn btf(&self) -> Result<Option<&Btf>, Error> {
        if let Source::Types(btf) = &self.source {
            return Ok(Some(btf));
        }
        let load = || match sys::kernel_btf("vmlinux") {
            Ok(bytes) => Btf::parse(bytes).map(Some).map_err(|cause| Error::Btf { name: "vmlinux".to_owned(), cause }),
            // Where sysfs is there, a kernel without the file was built without types.
            Err(Errno::NOENT) if std::path::Path::new("/sys/kernel").exists() => Ok(None),
            Err(cause) => {
                let path = "/sys/kernel/btf/vmlinux".to_owned();
                let hint = "the kernel's types are read there: mount sysfs (`mount -t sysfs sysfs /sys`)";
                Err(Error::Read { path, cause, hint })
            }
        };
        self.btf.get_or_init(load).as_ref().map(Option::as_ref).map_err(Error::clone)
    }

    /// The types, where somebody has asked for one before: then each further question costs less than a system call.
    fn types_at_hand(&self) -> Option<&Btf> {
        self.btf.get()?.as_ref().ok()?.as_ref().filter(|btf| btf.is_indexed())
    }

    fn feature(&self, feature: Feature) -> Option<bool> {
        let cell = |feature: Feature| self.features.get(feature as usize);
        if let Some(known) = cell(feature)?.get() {
            return Some(known);
        }
        if self.types_at_hand().is_some_and(|btf| feature.is_proved_by(btf)) {
            cell(feature)?.set(Some(true));
            return Some(true);
        }
        if let Source::Running = self.source {
            let group = probe::GROUPS.iter().find(|group| group.features.contains(&feature));
            let new =
                group.filter(|group| group.features.iter().all(|one| cell(*one).is_none_or(|c| c.get().is_none())));
            if let Some(group) = new
                && (group.together)() == Some(true)
            {
                group.features.iter().filter_map(|one| cell(*one)).for_each(|cell| cell.set(Some(true)));
                return Some(true);
            }
            cell(feature)?.set(probe::single(feature));
        }
        if cell(feature)?.get().is_none() {
            let types = self.btf().ok().flatten();
            cell(feature)?.set(types.and_then(|btf| feature.in_types(btf)));
        }
        if cell(feature)?.get().is_none() && feature == Feature::SyscallWrapper {
            let wrapped = symbols::search(&symbols::SYSCALL_WRAPPERS).ok().filter(|_| self.is_running());
            cell(feature)?.set(wrapped.map(|symbols| symbols.found.values().any(|found| *found != Found::No)));
        }
        cell(feature)?.get()
    }

    fn is_running(&self) -> bool {
        matches!(self.source, Source::Running)
    }

    /// Whether an enumeration of the kernel's has this value; `None`: there are no types to ask.
    fn names(&self, names: Names, value: u32) -> Option<bool> {
        let load = || {
            let (enumeration, prefix) = names.enumeration();
            names::known(self.btf().ok().flatten()?, enumeration, prefix)
        };
        let known = self.enumerators.get(names as usize)?.get_or_init(load);
        known.as_ref().map(|values| values.contains(&value))
    }

    fn only_running(&self, fact: &'static str) -> Result<(), Error> {
        if self.is_running() { Ok(()) } else { Err(Error::OnlyTypes { fact }) }
    }
}

impl Kernel {
    /// The kernel that runs this process. Asks nothing yet.
    pub fn running() -> Kernel {
        Kernel { facts: Facts::new(Source::Running), given: None }
    }

    /// A kernel known only by its BTF: enough to relocate against, and to know which types, helpers and
    /// map types its headers name.
    pub fn from_btf(btf: Btf) -> Kernel {
        Kernel { facts: Facts::new(Source::Types(btf)), given: None }
    }

    /// The same kernel, but with these types instead of its own (a BTF file that the user gives). Modules go with
    /// the kernel's own types, so it has none; what the kernel can do stays as it was.
    pub fn with_btf(&self, btf: Btf) -> Kernel {
        Kernel { facts: self.facts.clone(), given: Some(btf) }
    }

    /// This is the kernel that runs this process.
    pub fn is_running(&self) -> bool {
        self.facts.is_running()
    }

    /// Types of the kernel itself; `None`: it was built without.
    ///
    /// # Errors
    /// They cannot be read, or are damaged.
    pub fn btf(&self) -> Result<Option<&Btf>, Error> {
        match &self.given {
            Some(btf) => Ok(Some(btf)),
            None => self.facts.btf(),
        }
    }

    /// Modules with BTF, in the order of their BTF ids. None where the kernel is known by its types alone.
    ///
    /// # Errors
    /// They cannot be read, or are damaged.
    pub fn modules(&self) -> Result<&[Module], Error> {
        if self.given.is_some() || !self.is_running() {
            return Ok(&[]);
        }
        let Some(btf) = self.facts.btf()? else { return Ok(&[]) };
        self.facts.modules.get_or_init(|| modules::load(btf)).as_deref().map_err(Error::clone)
    }

    /// Whether the kernel can do this, as far as can be known: `false` also when nothing tells
    /// ([`Kernel::feature`] tells the difference).
    pub fn has(&self, feature: Feature) -> bool {
        self.feature(feature) == Some(true)
    }

    /// Whether the kernel can do this. Of the running kernel it is found in its types, where they prove it and are at
    /// hand, else by trying, or, without the right to try, in its types again; `None`: nothing tells.
    pub fn feature(&self, feature: Feature) -> Option<bool> {
        self.facts.feature(feature)
    }

    /// Whether the kernel's headers name this helper. Which kinds of program may call it is another question.
    /// `None`: it has no types to look in, and may not be asked.
    pub fn knows_helper(&self, helper: Helper) -> Option<bool> {
        self.ask(Names::Helper, helper.0, || probe::helper(helper))
    }

    /// Whether the kernel's headers name this kind of map; its configuration may still leave it out. `None`: it has
    /// no types to look in, and may not be asked.
    pub fn knows_map_type(&self, kind: MapType) -> Option<bool> {
        self.ask(Names::Map, kind.0, || probe::map_type(kind))
    }

    /// Whether the kernel's headers name this kind of program; its configuration may still leave it out. `None`: it
    /// has no types to look in, and may not be asked.
    pub fn knows_program_type(&self, kind: ProgramType) -> Option<bool> {
        self.ask(Names::Program, kind.0, || probe::program_type(kind))
    }

    /// Whether the kernel's headers name this hook. `None`: it has no types to look in.
    pub fn knows_attach_type(&self, hook: AttachType) -> Option<bool> {
        self.ask(Names::Attach, hook.0, || None)
    }

    /// Whether the kernel's headers name this kind of link. `None`: it has no types to look in.
    pub fn knows_link_type(&self, kind: LinkType) -> Option<bool> {
        self.ask(Names::Link, kind.0, || None)
    }

    fn ask(&self, names: Names, value: u32, probe: impl FnOnce() -> Option<bool>) -> Option<bool> {
        let named = self.facts.names(names, value);
        named.or_else(|| if self.is_running() { probe() } else { None })
    }

    /// Text of a configuration value (`CONFIG_HZ` -> `250`), as it is written there: texts in quotes. `None`: it
    /// is not set.
    ///
    /// # Errors
    /// Neither `/boot/config-RELEASE` nor `/proc/config.gz` can be read; the kernel is known by its types alone.
    pub fn config(&self, key: &str) -> Result<Option<&str>, Error> {
        self.facts.only_running("the configuration")?;
        let text = self.facts.config.get_or_init(|| config::text(self.release()));
        Ok(config::value(text.as_ref().map_err(Error::clone)?, key))
    }

    /// Address of a kernel symbol. `NAME.llvm.HASH` counts as `NAME`. The first question for a name costs a pass
    /// over all symbols (some 30 ms): ask for several by [`Kernel::prefetch_symbols`].
    ///
    /// # Errors
    /// kallsyms cannot be read or shows no addresses, or two symbols of that name have different addresses; the
    /// kernel is known by its types alone.
    pub fn symbol(&self, name: &str) -> Result<Option<u64>, Error> {
        let known = || self.facts.symbols.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(known) = known() {
            return known;
        }
        self.prefetch_symbols(&[name])?;
        known().unwrap_or(Ok(None))
    }

    /// Looks for many symbols in one pass.
    ///
    /// # Errors
    /// kallsyms cannot be read; the kernel is known by its types alone.
    pub fn prefetch_symbols(&self, names: &[&str]) -> Result<(), Error> {
        self.facts.only_running("the address of a symbol")?;
        let mut known = self.facts.symbols.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: Vec<&str> = names.iter().copied().filter(|name| !known.contains_key(*name)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let symbols = symbols::search(&wanted)?;
        for (name, found) in symbols.found {
            let address = match found {
                Found::No => Ok(None),
                _ if !symbols.addresses => Err(Error::HiddenAddresses),
                Found::At(address) => Ok(Some(address)),
                Found::Several(first, second) => Err(Error::AmbiguousSymbol { name: name.clone(), first, second }),
            };
            known.insert(name, address);
        }
        Ok(())
    }

    /// The function that a system call enters, as kprobes know it: `__x64_sys_openat`, or `__se_sys_openat` on
    /// kernels without wrappers.
    pub fn syscall_function(&self, syscall: &str) -> String {
        if !self.has(Feature::SyscallWrapper) {
            return format!("__se_sys_{syscall}");
        }
        let wrapper = symbols::SYSCALL_WRAPPERS.into_iter().find(|wrapper| match self.facts.btf() {
            Ok(Some(btf)) => btf.find(wrapper, Kind::Func).is_some(),
            _ => wrapper.starts_with(OWN_WRAPPER),
        });
        let prefix = wrapper.and_then(|wrapper| wrapper.strip_suffix("bpf")).unwrap_or(OWN_WRAPPER);
        format!("{prefix}{syscall}")
    }

    /// Id of a tracepoint for perf_event_open(2).
    ///
    /// # Errors
    /// tracefs is not mounted or cannot be read, or has no such tracepoint; the kernel is known by its types alone.
    pub fn tracepoint_id(&self, category: &str, name: &str) -> Result<u64, Error> {
        self.facts.only_running("the id of a tracepoint")?;
        let mut known = self.facts.tracepoints.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (category.to_owned(), name.to_owned());
        if let Some(id) = known.get(&key) {
            return Ok(*id);
        }
        // Only what was found is kept: tracefs may be mounted and modules loaded later.
        let id = tracefs::tracepoint_id(category, name)?;
        known.insert(key, id);
        Ok(id)
    }

    /// The directory in which tracefs is mounted.
    ///
    /// # Errors
    /// It is not mounted.
    pub fn tracefs(&self) -> Result<&'static str, Error> {
        self.facts.only_running("the place of tracefs")?;
        tracefs::root()
    }

    /// `uname -r`; empty for a kernel that is known by its types alone.
    pub fn release(&self) -> &str {
        self.facts.release.get_or_init(|| if self.is_running() { version::release() } else { String::new() })
    }

    /// `KERNEL_VERSION(a, b, c)`, with the quirks of Ubuntu and Debian undone as libbpf does. 0: not known, which
    /// is so for a kernel that is known by its types alone.
    pub fn version_code(&self) -> u32 {
        *self.facts.version.get_or_init(|| if self.is_running() { version::code() } else { 0 })
    }

    /// Number of CPUs that can ever be there: the number of values in a per-CPU map's entry. 1 for a kernel that is
    /// known by its types alone.
    ///
    /// # Errors
    /// `/sys/devices/system/cpu/possible` cannot be read.
    pub fn possible_cpus(&self) -> Result<u32, Error> {
        if !self.is_running() {
            return Ok(1);
        }
        sys::possible_cpus().map_err(|cause| Error::Read {
            path: "/sys/devices/system/cpu/possible".to_owned(),
            cause,
            hint: "the number of CPUs is read there: mount sysfs (`mount -t sysfs sysfs /sys`)",
        })
    }

    /// Bytes of a page: of this machine, whatever the kernel.
    pub fn page_size(&self) -> u32 {
        u32::try_from(sys::page_size()).unwrap_or(4096)
    }

    /// What lockdown forbids; `None`: the kernel has no such thing, securityfs is not mounted, or only types are
    /// known. It can be raised at any time, so it is read anew.
    pub fn lockdown(&self) -> Option<Lockdown> {
        self.is_running().then(hardening::lockdown).flatten()
    }

    /// Names of the security modules, in their order; `None`: securityfs is not mounted, or only types are known.
    pub fn lsms(&self) -> Option<Vec<String>> {
        self.is_running().then(hardening::lsms).flatten()
    }

    /// A number under /proc/sys, read anew; `None`: it is not there, or only types are known.
    pub fn sysctl(&self, sysctl: Sysctl) -> Option<i64> {
        self.is_running().then(|| sysctl.value()).flatten()
    }
}

/// How this machine's wrapped system calls begin (libbpf, arch_specific_syscall_pfx).
const OWN_WRAPPER: &str = if cfg!(target_arch = "x86_64") {
    "__x64_sys_"
} else if cfg!(target_arch = "aarch64") {
    "__arm64_sys_"
} else if cfg!(target_arch = "x86") {
    "__ia32_sys_"
} else if cfg!(target_arch = "s390x") {
    "__s390x_sys_"
} else if cfg!(target_arch = "arm") {
    "__arm_sys_"
} else if cfg!(any(target_arch = "riscv32", target_arch = "riscv64")) {
    "__riscv_sys_"
} else if cfg!(target_arch = "powerpc64") {
    "__powerpc_sys_"
} else {
    "__mips_sys_"
};

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.is_running() { "running" } else { "known by its types" };
        write!(f, "Kernel({name}{})", if self.given.is_some() { ", other types given" } else { "" })
    }
}
