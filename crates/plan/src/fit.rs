//! The object's BTF, made ready for one kernel.
//!
//! Compilers leave to the loader what only the ELF file says (where variables are), and write what kernels do not take
//! (externs), or do not take yet. Type numbers and string offsets stay as they are: maps, functions and line records
//! refer to them.

use std::collections::BTreeSet;

use ringfence_btf::{self as btf, Btf, Builder, Def, Int, Linkage, New, Newer, Param, SectionVar, TypeId};
use ringfence_kernel::{Feature, Kernel};
use ringfence_object::{DatasecLayout, Object, Visibility};
use ringfence_uapi::ProgramType;

use crate::arg_ctx::{self, Contexts, SUBPROGRAMS};

const EXTERNS: &str = ".ksyms";

/// The bytes for BPF_BTF_LOAD (`None`: the object has no types, or the kernel takes none), and which of its types describe
/// a function to this kernel in programs of these types.
///
/// # Errors
/// The object's types are damaged.
pub(crate) fn fit_btf(
    object: &Object,
    kernel: &Kernel,
    kinds: &BTreeSet<ProgramType>,
) -> Result<(Option<Vec<u8>>, Contexts), btf::Error> {
    fit(object, kinds, |feature| kernel.has(feature))
}

/// `has` is only asked about what the object's types use.
fn fit(
    object: &Object,
    kinds: &BTreeSet<ProgramType>,
    has: impl Fn(Feature) -> bool,
) -> Result<(Option<Vec<u8>>, Contexts), btf::Error> {
    let mut contexts = Contexts::default();
    let Some(btf) = object.btf.as_ref().filter(|btf| !btf.is_empty() && has(Feature::Btf)) else {
        return Ok((None, contexts));
    };
    let mut fitting = Fitting { btf, out: Builder::copy_of(btf)?, int: None, stand_in: None };
    fitting.define_externs()?;
    let mut names = BTreeSet::new();
    for layout in &object.datasecs {
        if !names.insert(&layout.name) {
            return Err(btf::Error::BadType { id: layout.ty, what: "two data sections have one name" });
        }
        fitting.place_variables(layout)?;
    }
    let mut out = fitting.out;
    for function in &object.functions {
        let (SUBPROGRAMS, Some(id)) = (&*function.section, function.btf) else { continue };
        // Verified with what their callers know, which hidden visibility asks for (libbpf, `mark_btf_static`). So are those that
        // the kernel would refuse to verify alone.
        if function.visibility == Visibility::Hidden
            || takes_pointers(btf, id, kinds)? && !has(Feature::GlobalFuncPointers)
        {
            out.set_linkage(id, Linkage::Static)?;
        }
    }
    // What could be described otherwise takes a pointer, and is static without the second.
    if Contexts::are_used(object) && !has(Feature::ArgCtx) && has(Feature::GlobalFuncPointers) {
        contexts = Contexts::add(object, kinds, &mut out)?;
    }
    for what in Newer::ALL {
        if out.uses(what) && !has(feature(what)) {
            out.avoid(what)?;
        }
    }
    out.simplify_names()?;
    Ok((Some(out.finish()?), contexts))
}

/// Whether a function with global linkage takes a pointer to what is no context.
fn takes_pointers(btf: &Btf, id: TypeId, kinds: &BTreeSet<ProgramType>) -> Result<bool, btf::Error> {
    let Def::Func { proto, linkage: Linkage::Global } = btf.get(id)?.def else { return Ok(false) };
    let Def::FuncProto(proto) = btf.get(proto)?.def else { return Ok(false) };
    for param in proto.params() {
        if let Def::Ptr(to) = btf.resolve(param?.ty)?.def {
            let name = btf.resolve(to)?.name;
            if !arg_ctx::CONTEXTS.iter().any(|(kind, context)| kinds.contains(kind) && *context == name) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn feature(what: Newer) -> Feature {
    match what {
        Newer::Func => Feature::BtfFunc,
        Newer::Datasec => Feature::BtfDatasec,
        Newer::GlobalFunc => Feature::BtfFuncGlobal,
        Newer::Float => Feature::BtfFloat,
        Newer::DeclTag => Feature::BtfDeclTag,
        Newer::TypeTag => Feature::BtfTypeTag,
        Newer::Enum64 => Feature::BtfEnum64,
    }
}

struct Fitting<'a> {
    /// As in the file.
    btf: &'a Btf,
    out: Builder,
    /// Found or added when needed.
    int: Option<TypeId>,
    stand_in: Option<TypeId>,
}

impl Fitting<'_> {
    /// No kernel knows extern linkage, nor a function whose parameters have no name, as they may in a declaration.
    fn define_externs(&mut self) -> Result<(), btf::Error> {
        let mut protos = BTreeSet::new();
        for ty in self.btf.own_types() {
            let ty = ty?;
            match ty.def {
                Def::Func { proto, linkage } => {
                    if linkage == Linkage::Extern {
                        self.out.set_linkage(ty.id, Linkage::Global)?;
                    }
                    protos.insert(proto);
                }
                Def::Var { linkage: Linkage::Extern, .. } => self.out.set_linkage(ty.id, Linkage::Global)?,
                _ => {}
            }
        }
        protos.into_iter().try_for_each(|proto| self.name_params(proto))
    }

    fn name_params(&mut self, id: TypeId) -> Result<(), btf::Error> {
        let ty = self.btf.get(id)?;
        let Def::FuncProto(proto) = ty.def else { return Ok(()) };
        let mut params: Vec<Param<'_>> = proto.params().collect::<Result<_, _>>()?;
        // `...` has neither type nor name.
        let mut nameless =
            params.iter_mut().filter(|param| param.name.is_empty() && param.ty != TypeId::VOID).peekable();
        if nameless.peek().is_none() {
            return Ok(());
        }
        nameless.for_each(|param| param.name = "unnamed");
        self.out.replace(id, ty.name, New::FuncProto { ret: proto.ret, params: &params })
    }

    /// Writes sizes and offsets into a data section (libbpf, `btf_fixup_datasec`, `bpf_object__collect_externs`).
    fn place_variables(&mut self, layout: &DatasecLayout) -> Result<(), btf::Error> {
        let mut vars = Vec::with_capacity(layout.vars.len());
        for var in &layout.vars {
            let ty = self.btf.get(var.ty)?;
            let mut place = SectionVar { ty: var.ty, offset: var.offset, size: var.size };
            match ty.def {
                // A section holds variables only.
                Def::Func { .. } => place.ty = self.stand_in(),
                // Whatever the kernel's variable is, here it takes the place of a number.
                Def::Var { .. } if layout.name == EXTERNS => {
                    let int = self.int();
                    self.out.replace(ty.id, ty.name, New::Var { ty: int, linkage: Linkage::Global })?;
                }
                Def::Var { .. } if var.linkage == Linkage::Static => self.out.set_linkage(ty.id, Linkage::Static)?,
                _ => {}
            }
            vars.push(place);
        }
        // A section of unnamed constants: kernels before 5.12 want a variable in each (`btf_datasec_check_meta`).
        let size = layout.size;
        let def = if vars.is_empty() { New::Struct { size, members: &[] } } else { New::Datasec { size, vars: &vars } };
        self.out.replace(layout.ty, &layout.name, def)
    }

    /// Any integer of 4 bytes.
    fn int(&mut self) -> TypeId {
        if let Some(known) = self.int {
            return known;
        }
        let is_int = |ty: &btf::Type<'_>| matches!(ty.def, Def::Int(int) if int.bits == 32 && int.size == 4);
        let found = self.btf.own_types().filter_map(Result::ok).find(is_int).map(|ty| ty.id);
        let int = Int { size: 4, bits: 32, offset: 0, signed: true, char: false, bool: false };
        let id = found.unwrap_or_else(|| self.out.add("int", New::Int(int)));
        *self.int.insert(id)
    }

    /// The variable that stands for a kernel function in its section.
    fn stand_in(&mut self) -> TypeId {
        let int = self.int();
        *self
            .stand_in
            .get_or_insert_with(|| self.out.add("kernel_function", New::Var { ty: int, linkage: Linkage::Global }))
    }
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
