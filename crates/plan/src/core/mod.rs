//! CO-RE: instructions that depend on the layout of the kernel's types, made to fit one kernel.
//!
//! The compiler records for such an instruction a *local* type, a path into it and a question ("at which offset is
//! it?"). The type is looked up by name in the kernel's BTF, the path is followed there by member names, and the
//! answer is written into the instruction. The rules are libbpf's (`relo_core.c`), so that an object that relies on
//! them means the same here.
//!
//! Nothing here asks a kernel: it reads types.

mod compat;
mod patch;
#[cfg(test)]
mod real_tests;
mod spec;
#[cfg(test)]
mod tests;
mod value;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ringfence_btf::{self as btf, Btf, TypeId, essential_name};
use ringfence_kernel::{self as kernel, Kernel};
use ringfence_object::{CoreKind, CoreReloc};
use ringfence_uapi::Insn;

pub(crate) use compat::compatible;
use compat::{Fuel, same_kind};
pub use patch::Misfit;
use spec::{Spec, root_name};
use value::Value;

/// An instruction that cannot be made to fit the kernel.
#[derive(Clone, Debug, thiserror::Error)]
#[error("instruction {insn} depends on {what}: {why}")]
pub struct Error {
    /// The local type and path: `struct task_struct.pid (0:12 @ offset 2468)`.
    pub what: String,
    /// Index of the instruction in its function, as in the file.
    pub insn: usize,
    /// Why.
    pub why: Cause,
}

/// Why an instruction cannot be made to fit the kernel.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Cause {
    /// The kernel has no types to compare with.
    #[error("this kernel shows no types; it needs CONFIG_DEBUG_INFO_BTF=y, or give a file with its BTF")]
    NoKernelTypes,
    /// The relocation's path is not one.
    #[error("its path \"{path}\" makes no sense: {why}; the object is damaged, compile it again")]
    BadPath {
        /// As in the file.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Types are looked up by name.
    #[error("without a name it cannot be found in the kernel; name the type in the program's source")]
    Anonymous,
    /// Types of one name give different answers.
    #[error(
        "the kernel's types of that name disagree: {0}; access a member that only the one you mean has, or give a \
         BTF file with that type alone"
    )]
    Ambiguous(String),
    /// There is no answer to this question about this field.
    #[error("{of}: {why}")]
    Unanswerable {
        /// Type and path, here or in the kernel.
        of: String,
        /// Why.
        why: &'static str,
    },
    /// The answer does not fit the instruction.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// Types are damaged, or nested too deep to compare.
    #[error(transparent)]
    Btf(#[from] btf::Error),
    /// The kernel's types cannot be had.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
}

/// What kinds of relocation have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Group {
    Field,
    Type,
    Enumerator,
}

fn group(kind: CoreKind) -> Group {
    match kind {
        CoreKind::FieldByteOffset
        | CoreKind::FieldByteSize
        | CoreKind::FieldExists
        | CoreKind::FieldSigned
        | CoreKind::FieldLshiftU64
        | CoreKind::FieldRshiftU64 => Group::Field,
        CoreKind::TypeIdLocal
        | CoreKind::TypeIdTarget
        | CoreKind::TypeExists
        | CoreKind::TypeSize
        | CoreKind::TypeMatches => Group::Type,
        CoreKind::EnumvalExists | CoreKind::EnumvalValue => Group::Enumerator,
    }
}

/// What is written into an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    /// What the compiler wrote there, by the local type.
    local: Value,
    /// `None`: the kernel has nothing like it. The instruction is replaced by one that no verifier accepts where it
    /// can be reached, so that it only matters when the program does not guard it by asking whether the field exists.
    target: Option<Value>,
}

/// Where the kernel's types come from.
enum Targets<'a> {
    Kernel(&'a Kernel),
    #[cfg(test)]
    Given {
        main: &'a Btf,
        modules: &'a [Btf],
    },
}

impl<'a> Targets<'a> {
    fn main(&self) -> Result<Option<&'a Btf>, Cause> {
        match self {
            Targets::Kernel(kernel) => Ok(kernel.btf()?),
            #[cfg(test)]
            Targets::Given { main, .. } => Ok(Some(main)),
        }
    }

    fn modules(&self) -> Result<Vec<&'a Btf>, Cause> {
        match self {
            Targets::Kernel(kernel) => Ok(kernel.modules()?.iter().map(|module| &module.btf).collect()),
            #[cfg(test)]
            Targets::Given { modules, .. } => Ok(modules.iter().collect()),
        }
    }
}

/// A type of the kernel that may be the one that the program means.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    btf: &'a Btf,
    id: TypeId,
}

/// Applies the relocations of one object, and remembers what it found for the next ones.
pub(crate) struct Relocator<'a> {
    local: &'a Btf,
    targets: Targets<'a>,
    /// By local root type.
    candidates: HashMap<TypeId, Vec<Candidate<'a>>>,
    answers: HashMap<(TypeId, CoreKind, String), Answer>,
    fuel: Fuel,
}

impl<'a> Relocator<'a> {
    /// For relocations of an object with the types `local`. Asks the kernel nothing yet.
    pub(crate) fn new(local: &'a Btf, kernel: &'a Kernel) -> Self {
        Self::with(local, Targets::Kernel(kernel))
    }

    fn with(local: &'a Btf, targets: Targets<'a>) -> Self {
        Self { local, targets, candidates: HashMap::new(), answers: HashMap::new(), fuel: Fuel::new() }
    }

    /// Applies one relocation to `insns[reloc.insn]`, the instructions of the function as in the file.
    ///
    /// # Errors
    /// The relocation makes no sense, the kernel's types give several answers, or the answer does not fit the
    /// instruction. That the kernel does not have the type or field is no error: see [`Answer::target`].
    pub(crate) fn apply(&mut self, reloc: &CoreReloc, insns: &mut [Insn]) -> Result<(), Error> {
        let from_there = insns.get_mut(reloc.insn..).unwrap_or_default();
        let answer = self.answer(reloc);
        answer.and_then(|answer| Ok(patch::patch(from_there, &answer)?)).map_err(|why| {
            let spec = Spec::local(self.local, reloc);
            let what = spec.map_or_else(|_| root_name(self.local, reloc.ty), |spec| spec.to_string());
            Error { what, insn: reloc.insn, why }
        })
    }

    fn answer(&mut self, reloc: &CoreReloc) -> Result<Answer, Cause> {
        let key = (reloc.ty, reloc.kind, reloc.access.clone());
        if let Some(answer) = self.answers.get(&key) {
            return Ok(*answer);
        }
        let answer = self.calculate(reloc)?;
        self.answers.insert(key, answer);
        Ok(answer)
    }

    /// libbpf `bpf_core_calc_relo_insn`.
    fn calculate(&mut self, reloc: &CoreReloc) -> Result<Answer, Cause> {
        let spec = Spec::local(self.local, reloc)?;
        let local = spec.value(reloc.kind)?;
        if reloc.kind == CoreKind::TypeIdLocal {
            return Ok(Answer { local, target: Some(local) });
        }
        let mut found: Vec<(Candidate<'a>, Spec<'a>, Value)> = Vec::new();
        for candidate in self.candidates(reloc.ty)? {
            let Some(target) = spec.find_in(candidate.btf, candidate.id, &mut self.fuel)? else { continue };
            let value = target.value(reloc.kind)?;
            found.push((candidate, target, value));
        }
        let Some((_, first, value)) = found.first() else {
            return Ok(Answer { local, target: absent(reloc.kind) });
        };
        let value = *value;
        if found.iter().any(|(_, spec, other)| spec.bits != first.bits || other.value != value.value) {
            let candidates: Vec<String> =
                found.iter().map(|(candidate, spec, v)| format!("{} {spec} gives {}", candidate.id, v.value)).collect();
            return Err(Cause::Ambiguous(candidates.join(", ")));
        }
        // What one path rules out does not count for the next: a program that reads `a` and `b` means a type that has
        // both. libbpf prunes in the same way, and objects rely on it.
        self.candidates.insert(reloc.ty, found.into_iter().map(|(candidate, ..)| candidate).collect());
        Ok(Answer { local, target: Some(value) })
    }

    /// Types of the kernel of the same name and kind; of its modules only where the kernel itself has none
    /// (libbpf `bpf_core_find_cands`).
    fn candidates(&mut self, root: TypeId) -> Result<Vec<Candidate<'a>>, Cause> {
        let entry = match self.candidates.entry(root) {
            Entry::Occupied(known) => return Ok(known.get().clone()),
            Entry::Vacant(entry) => entry,
        };
        let ty = self.local.get(root)?;
        if ty.name.is_empty() {
            return Err(Cause::Anonymous);
        }
        let find = |btf: &'a Btf, found: &mut Vec<Candidate<'a>>| {
            for id in btf.candidates(essential_name(ty.name)) {
                if same_kind(btf.get(id)?.def.kind(), ty.def.kind()) {
                    found.push(Candidate { btf, id });
                }
            }
            Ok::<(), Cause>(())
        };
        let mut found = Vec::new();
        let main = self.targets.main()?;
        find(main.ok_or(Cause::NoKernelTypes)?, &mut found)?;
        if found.is_empty() {
            self.targets.modules()?.into_iter().try_for_each(|module| find(module, &mut found))?;
        }
        Ok(entry.insert(found).clone())
    }
}

/// The answer where the kernel has nothing of that name; `None`: there is no sensible one.
fn absent(kind: CoreKind) -> Option<Value> {
    match kind {
        CoreKind::FieldExists
        | CoreKind::TypeExists
        | CoreKind::TypeMatches
        | CoreKind::TypeSize
        | CoreKind::TypeIdTarget
        | CoreKind::EnumvalExists => Some(Value::default()),
        CoreKind::FieldByteOffset
        | CoreKind::FieldByteSize
        | CoreKind::FieldSigned
        | CoreKind::FieldLshiftU64
        | CoreKind::FieldRshiftU64
        | CoreKind::EnumvalValue
        | CoreKind::TypeIdLocal => None,
    }
}
