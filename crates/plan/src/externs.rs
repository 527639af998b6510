//! What the object leaves for the loader to find: kernel configuration, kernel variables, kernel functions.
//!
//! Each is looked for when the first planned program refers to it, so that one that is missing stops only
//! the programs that need it; `.kconfig` as a whole is filled when anything refers to it. The rules are libbpf's
//! (`bpf_object__resolve_externs` and what it calls).

use std::cell::OnceCell;
use std::collections::BTreeMap;

use ringfence_btf::{Btf, Def, Kind, TypeId, essential_name};
use ringfence_kernel::{Feature, Kernel};
use ringfence_object::{Extern, ExternId, ExternKind, KconfigType, Object};

use crate::{Error, core, kconfig};

/// What an extern turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found<'k> {
    /// A variable in `.kconfig`.
    Kconfig {
        /// Bytes from its start.
        offset: u32,
    },
    /// A kernel variable or function with a type.
    Typed {
        id: TypeId,
        /// `None`: the kernel itself.
        module: Option<&'k str>,
    },
    /// A kernel symbol's address.
    Address(u64),
    /// Weak, and the kernel does not have it.
    Missing,
}

/// A type of the kernel or of one of its modules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelType<'k> {
    pub(crate) btf: &'k Btf,
    pub(crate) id: TypeId,
    /// `None`: the kernel itself.
    pub(crate) module: Option<&'k str>,
}

/// Finds externs.
pub(crate) struct Externs<'a> {
    object: &'a Object,
    kernel: &'a Kernel,
    /// Configuration that the user gave.
    given: BTreeMap<&'a str, &'a str>,
    found: Vec<OnceCell<Result<Found<'a>, Error>>>,
}

impl<'a> Externs<'a> {
    pub(crate) fn new(object: &'a Object, kernel: &'a Kernel, kconfig: Option<&'a str>) -> Result<Self, Error> {
        let given = kconfig::parse(kconfig.unwrap_or_default())?;
        Ok(Externs { object, kernel, given, found: vec![OnceCell::new(); object.externs.len()] })
    }

    /// What this extern is in this kernel.
    pub(crate) fn find(&self, id: ExternId) -> Result<Found<'a>, Error> {
        let (Some(ext), Some(cell)) = (self.object.externs.get(id.0), self.found.get(id.0)) else {
            return Err(Error::Extern { name: format!("#{}", id.0), problem: "the object has no such extern".into() });
        };
        cell.get_or_init(|| self.look(ext)).clone()
    }

    fn look(&self, ext: &'a Extern) -> Result<Found<'a>, Error> {
        match ext.kind {
            ExternKind::Kconfig { value, size, offset } => {
                self.kconfig_value(ext, value, size).map(|_| Found::Kconfig { offset })
            }
            ExternKind::TypedKsym { ty } => self.variable(ext, ty),
            ExternKind::Kfunc { proto } => self.function(ext, proto),
            ExternKind::Ksym => self.symbol(ext),
        }
    }

    /// An address. All symbols that the object names are looked for at once: each look reads the whole of kallsyms.
    fn symbol(&self, ext: &Extern) -> Result<Found<'a>, Error> {
        let symbols = self.object.externs.iter().filter(|ext| ext.kind == ExternKind::Ksym);
        self.kernel.prefetch_symbols(&symbols.map(|ext| ext.name.as_str()).collect::<Vec<_>>())?;
        match self.kernel.symbol(&ext.name)? {
            Some(address) => Ok(Found::Address(address)),
            None if ext.weak => Ok(Found::Missing),
            None => Err(problem(ext, "the kernel has no symbol of this name (/proc/kallsyms)".to_owned())),
        }
    }

    /// The contents of `.kconfig`, of `size` bytes. Values that cannot be had stay zero: the programs that use
    /// them are not planned.
    pub(crate) fn kconfig_contents(&self, size: u32) -> Vec<u8> {
        let mut contents = vec![0; size as usize];
        for ext in &self.object.externs {
            let ExternKind::Kconfig { value, size, offset } = ext.kind else { continue };
            let Ok(Some(bytes)) = self.kconfig_value(ext, value, size) else { continue };
            let end = offset.saturating_add(size) as usize;
            if let Some(slot) = contents.get_mut(offset as usize..end).filter(|slot| slot.len() == bytes.len()) {
                slot.copy_from_slice(&bytes);
            }
        }
        contents
    }

    /// `None`: weak and not set.
    fn kconfig_value(&self, ext: &Extern, kind: KconfigType, size: u32) -> Result<Option<Vec<u8>>, Error> {
        let name = ext.name.as_str();
        if name.starts_with("CONFIG_") {
            let text = match self.given.get(name) {
                Some(text) => Some(*text),
                None => self.kernel.config(name)?,
            };
            return match text {
                Some(text) => kconfig::encode(text, kind, size).map(Some).map_err(|what| problem(ext, what)),
                None if ext.weak => Ok(None),
                None => Err(problem(
                    ext,
                    "the kernel's configuration does not set it; declare it __weak if it may be missing, or give it \
                     as kernel configuration text"
                        .to_owned(),
                )),
            };
        }
        // Values of the loader's own (libbpf, bpf_object__resolve_externs).
        let number = match name {
            "LINUX_KERNEL_VERSION" => match self.kernel.version_code() {
                0 => return Err(problem(ext, "the kernel's version is not known".to_owned())),
                version => u64::from(version),
            },
            "LINUX_HAS_BPF_COOKIE" => u64::from(self.kernel.has(Feature::BpfCookie)),
            "LINUX_HAS_SYSCALL_WRAPPER" => u64::from(self.kernel.has(Feature::SyscallWrapper)),
            _ if name.starts_with("LINUX_") && ext.weak => 0,
            _ => {
                let what = "__kconfig variables are CONFIG_..., LINUX_KERNEL_VERSION, LINUX_HAS_BPF_COOKIE and \
                            LINUX_HAS_SYSCALL_WRAPPER";
                return Err(problem(ext, what.to_owned()));
            }
        };
        kconfig::encode_number(number, kind, size).map(Some).map_err(|what| problem(ext, what))
    }

    /// A kernel variable (`bpf_object__resolve_ksym_var_btf_id`).
    fn variable(&self, ext: &'a Extern, ty: TypeId) -> Result<Found<'a>, Error> {
        let found = self.typed(ext, &ext.name, Kind::Var)?;
        let Some(KernelType { btf, id, module }) = found else { return Ok(Found::Missing) };
        let Def::Var { ty: target, .. } = btf.get(id)?.def else { return Ok(Found::Missing) };
        let (local, local_type) = self.local(ext, ty)?;
        if core::compatible(local, local_type, btf, btf.resolve(target)?.id)? {
            return Ok(Found::Typed { id, module });
        }
        Err(problem(ext, "the kernel's variable of this name has another type".to_owned()))
    }

    /// A kernel function (`bpf_object__resolve_ksym_func_btf_id`): its flavour does not count, and a weak one with
    /// another prototype is as good as missing.
    fn function(&self, ext: &'a Extern, proto: TypeId) -> Result<Found<'a>, Error> {
        let found = self.typed(ext, essential_name(&ext.name), Kind::Func)?;
        let Some(KernelType { btf, id, module }) = found else { return Ok(Found::Missing) };
        let Def::Func { proto: target, .. } = btf.get(id)?.def else { return Ok(Found::Missing) };
        let (local, local_proto) = self.local(ext, proto)?;
        if core::compatible(local, local_proto, btf, target)? {
            return Ok(Found::Typed { id, module });
        }
        if ext.weak {
            return Ok(Found::Missing);
        }
        Err(problem(ext, "the kernel's function of this name has other parameters or returns something else".into()))
    }

    fn local(&self, ext: &Extern, ty: TypeId) -> Result<(&'a Btf, TypeId), Error> {
        let btf = self.object.btf.as_ref();
        let btf = btf.ok_or_else(|| Error::NoObjectBtf { what: format!("the extern {}", ext.name) })?;
        Ok((btf, btf.resolve(ty)?.id))
    }

    /// By name: in the kernel itself, then in its modules.
    fn typed(&self, ext: &Extern, name: &str, kind: Kind) -> Result<Option<KernelType<'a>>, Error> {
        let found = find_typed(self.kernel, name, kind)?;
        if found.is_some() || ext.weak {
            return Ok(found);
        }
        if self.kernel.btf()?.is_none() {
            return Err(Error::NoKernelBtf { what: format!("the extern {}", ext.name) });
        }
        let what = if kind == Kind::Func { "function" } else { "variable" };
        let mut text = format!("neither the kernel's types nor those of its modules have a {what} {name}");
        if let Err(error) = self.kernel.modules() {
            text = format!("the kernel's types have no {what} {name}, and its modules cannot be asked: {error}");
        }
        Err(problem(ext, text))
    }
}

/// A type by name: in the kernel itself, then in its modules.
///
/// Modules that cannot be listed count as none (libbpf, `load_module_btfs`): the caller says so where it matters.
pub(crate) fn find_typed<'a>(kernel: &'a Kernel, name: &str, kind: Kind) -> Result<Option<KernelType<'a>>, Error> {
    let Some(btf) = kernel.btf()? else { return Ok(None) };
    if let Some(id) = btf.find(name, kind) {
        return Ok(Some(KernelType { btf, id, module: None }));
    }
    let mut modules = kernel.modules().unwrap_or_default().iter();
    Ok(modules.find_map(|module| {
        let id = module.btf.find_own(name, kind)?;
        Some(KernelType { btf: &module.btf, id, module: Some(&module.name) })
    }))
}

fn problem(ext: &Extern, problem: String) -> Error {
    Error::Extern { name: ext.name.clone(), problem }
}
