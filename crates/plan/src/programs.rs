//! What each program is: its type and hook by its section or by the user, and what it belongs to at load time.

use ringfence_btf::Kind;
use ringfence_kernel::{Feature, Kernel};
use ringfence_object::{Program, SECTIONS, section};
use ringfence_uapi::{AttachType, ProgramType};

use crate::Error;
use crate::attach;
use crate::externs::{KernelType, find_typed};
use crate::model::{Attach, LoadTarget};
use crate::near::nearest;
use crate::settings::ProgramChoice;

/// `BPF_F_*` of BPF_PROG_LOAD.
const F_SLEEPABLE: u32 = 1 << 4;
const F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// What a program is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Role {
    /// [`ProgramType::UNSPEC`]: nobody says.
    pub(crate) kind: ProgramType,
    pub(crate) hook: AttachType,
    pub(crate) flags: u32,
    /// Of the section, without the target: `kprobe`.
    prefix: &'static str,
    /// What the section names behind the `/`, or the user in its place.
    target: Option<String>,
    /// The hook may be left out on kernels that cannot be told.
    hook_optional: bool,
}

impl Role {
    /// By the user's choice, then by the section.
    pub(crate) fn new(program: &Program, choice: Option<&ProgramChoice>) -> Role {
        let found = section(&program.section);
        let def = found.map(|found| found.def);
        let mut role = Role {
            kind: def.map_or(ProgramType::UNSPEC, |def| def.kind),
            hook: def.and_then(|def| def.attach).unwrap_or(AttachType(0)),
            flags: 0,
            prefix: def.map_or("", |def| def.name),
            target: found.and_then(|found| found.target).map(str::to_owned),
            hook_optional: def.is_some_and(|def| def.attach_optional),
        };
        if def.is_some_and(|def| def.sleepable) {
            role.flags |= F_SLEEPABLE;
        }
        if def.is_some_and(|def| def.frags) {
            role.flags |= F_XDP_HAS_FRAGS;
        }
        if let Some((kind, hook)) = choice.and_then(|choice| choice.kind) {
            if kind != role.kind {
                // What the section says is about another type.
                role = Role { flags: 0, prefix: "", target: None, hook_optional: false, ..role };
            }
            if kind == ProgramType::SYSCALL {
                role.flags |= F_SLEEPABLE;
            }
            (role.kind, role.hook) = (kind, hook);
        }
        if let Some(target) = choice.and_then(|choice| choice.target.clone()) {
            if role.prefix.is_empty() {
                role.prefix = attach::prefix(role.kind, role.hook, &target);
            }
            role.target = Some(target);
        }
        role
    }

    /// What depends on the kernel (libbpf, `libbpf_prepare_prog_load`).
    pub(crate) fn fit(&mut self, kernel: &Kernel) {
        if self.hook_optional && !kernel.has(Feature::ExpectedAttachType) {
            self.hook = AttachType(0);
        }
        if matches!(self.prefix, "usdt" | "usdt.s") && kernel.has(Feature::UprobeMulti) {
            self.hook = AttachType::TRACE_UPROBE_MULTI;
        }
        // Without links for many places it is attached to each by an event, which takes no program that was loaded for the link.
        let single = match self.hook {
            AttachType::TRACE_UPROBE_MULTI => {
                !kernel.knows_attach_type(self.hook).unwrap_or_else(|| kernel.has(Feature::UprobeMulti))
            }
            AttachType::TRACE_KPROBE_MULTI => !kernel.has(Feature::KprobeMulti),
            _ => false,
        };
        if single && self.kind == ProgramType::KPROBE {
            self.hook = AttachType(0);
        }
    }

    /// A section that tells no type; with names that were perhaps meant.
    pub(crate) fn no_type(program: &Program, helpful: bool) -> Error {
        let (program_name, section_name) = (program.name.clone(), program.section.clone());
        if !helpful {
            return Error::NoType { program: program_name, section: section_name, near: Vec::new() };
        }
        // Somebody who writes kprobes/tcp_connect means kprobe/tcp_connect.
        let names = || SECTIONS.iter().map(|def| def.name);
        let first = program.section.split('/').next().unwrap_or_default();
        // `socket_filter`, and what older loaders take for one: `classifier/main`.
        let start = names().filter(|name| first.starts_with(name)).max_by_key(|name| name.len());
        let near = match (start, nearest(&program.section, names())) {
            (Some(name), whole) if whole.is_empty() => vec![name.to_owned()],
            (None, whole) if whole.is_empty() => nearest(first, names()),
            (_, whole) => whole,
        };
        Error::NoType { program: program_name, section: section_name, near }
    }

    /// Where it goes when everything is attached.
    pub(crate) fn attach(&self) -> Attach {
        attach::from_section(self.prefix, self.kind, self.hook, self.target.as_deref())
    }

    /// The name and kind under which the kernel's BTF knows what the program belongs to at load time
    /// (libbpf, `btf_get_kernel_prefix_kind`); `None`: it belongs to nothing, or its target is not named.
    pub(crate) fn kernel_type(&self) -> Option<(String, Kind)> {
        let (_, name) = split_module(self.target.as_deref()?);
        if !matches!(self.kind, ProgramType::TRACING | ProgramType::LSM)
            || attach::is_multi(self.hook)
            || name.is_empty()
        {
            return None;
        }
        let (prefix, kind) = match self.hook {
            AttachType::TRACE_RAW_TP => ("btf_trace_", Kind::Typedef),
            AttachType::LSM_MAC | AttachType::LSM_CGROUP => ("bpf_lsm_", Kind::Func),
            AttachType::TRACE_ITER => ("bpf_iter_", Kind::Func),
            _ => ("", Kind::Func),
        };
        Some((format!("{prefix}{name}"), kind))
    }

    /// What `attach_btf_id` and its companions name.
    pub(crate) fn load_target(&self, kernel: &Kernel) -> Result<LoadTarget, Error> {
        let target = self.target.as_deref().filter(|target| !target.is_empty());
        match self.kind {
            ProgramType::EXT => Ok(match target {
                Some(function) => LoadTarget::Program { function: function.to_owned() },
                None => LoadTarget::Unknown(
                    "name the function that it replaces: SEC(\"freplace/FUNCTION\"), and give its program".to_owned(),
                ),
            }),
            ProgramType::TRACING | ProgramType::LSM if attach::is_multi(self.hook) => Ok(LoadTarget::None),
            ProgramType::TRACING | ProgramType::LSM => match self.kernel_type() {
                Some((name, kind)) => self.find(kernel, &name, kind),
                None => Ok(LoadTarget::Unknown(format!(
                    "its section names no target: write SEC(\"{}/TARGET\") or give one",
                    if self.prefix.is_empty() { "fentry" } else { self.prefix }
                ))),
            },
            _ => Ok(LoadTarget::None),
        }
    }

    fn find(&self, kernel: &Kernel, name: &str, kind: Kind) -> Result<LoadTarget, Error> {
        let unknown = |text: String| Ok(LoadTarget::Unknown(text));
        if kernel.btf()?.is_none() {
            return unknown(format!(
                "{name} is looked up in the kernel's types, and this kernel was built without them"
            ));
        }
        let (module, _) = split_module(self.target.as_deref().unwrap_or_default());
        let (found, place) = match module {
            None => (find_typed(kernel, name, kind)?, "this kernel and its modules have".to_owned()),
            Some("vmlinux") => {
                let own = kernel.btf()?;
                let found = own.and_then(|btf| Some(KernelType { btf, id: btf.find(name, kind)?, module: None }));
                (found, "this kernel has".to_owned())
            }
            Some(module) => {
                let mut modules = kernel.modules()?.iter();
                let found = modules.find(|loaded| loaded.name == module.replace('-', "_"));
                let Some(found) = found else {
                    return unknown(format!("the module {module} is not loaded, or has no types"));
                };
                let id = found.btf.find_own(name, kind);
                let found = id.map(|id| KernelType { btf: &found.btf, id, module: Some(&found.name) });
                (found, format!("the module {module} has"))
            }
        };
        if let Some(KernelType { id, module, .. }) = found {
            return Ok(LoadTarget::Btf { id, module: module.map(str::to_owned) });
        }
        let what = match self.hook {
            AttachType::TRACE_RAW_TP => "tracepoint",
            AttachType::LSM_MAC | AttachType::LSM_CGROUP => "LSM hook",
            AttachType::TRACE_ITER => "iterator",
            _ => "function",
        };
        let bare = split_module(self.target.as_deref().unwrap_or_default()).1;
        let modules = match kernel.modules() {
            Err(error) if module.is_none() => format!(" (its modules cannot be asked: {error})"),
            _ => String::new(),
        };
        unknown(format!("{place} no {what} {bare}{modules}"))
    }
}

/// `module:function`.
fn split_module(target: &str) -> (Option<&str>, &str) {
    match target.split_once(':') {
        Some((module, name)) => (Some(module), name),
        None => (None, target),
    }
}
