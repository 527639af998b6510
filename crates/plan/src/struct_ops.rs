//! struct_ops: a structure of the object's made into the kernel's structure of the same name.
//!
//! The kernel wraps the structure `X` into `struct bpf_struct_ops_X`; that is the map's value. Members go by
//! name; one that this kernel lacks must be zero. The rules are libbpf's (`bpf_map__init_kern_struct_ops`).

use std::collections::{BTreeMap, BTreeSet};

use ringfence_btf::{Btf, Composite, Def, Kind, Member, TypeId, essential_name};
use ringfence_kernel::Kernel;
use ringfence_object::{FunctionId, Map, Object, Role, StructOps};

use crate::error::no_such;
use crate::externs::{KernelType, find_typed};
use crate::model::StructOpsPlan;
use crate::settings::{Given, Value};
use crate::{Error, globals};

/// What every wrapper's name begins with.
const WRAPPER: &str = "bpf_struct_ops_";
/// Largest value; the kernel's are a few hundred bytes.
const MAX_VALUE: u32 = 1 << 20;

/// A struct_ops map in terms of the kernel, and what its programs have to say when they are loaded.
#[derive(Debug)]
pub(crate) struct Converted<'k> {
    pub(crate) plan: StructOpsPlan,
    pub(crate) value_size: u32,
    /// The kernel's structure.
    pub(crate) structure: TypeId,
    pub(crate) module: Option<&'k str>,
    /// `(program, index of the kernel's member)`.
    pub(crate) members: Vec<(FunctionId, u32)>,
}

/// An object with what the settings put into its struct_ops variables.
#[derive(Debug)]
pub(crate) struct Shadow {
    pub(crate) object: Object,
    /// Programs that the settings took out of a variable.
    pub(crate) taken_out: BTreeSet<FunctionId>,
}

/// Whether a setting of a global is about a struct_ops variable.
pub(crate) fn is_member(object: &Object, path: &str) -> bool {
    let (name, _) = globals::split(path);
    object.maps.iter().any(|map| map.name == name && matches!(map.role, Role::StructOps(_)))
}

/// Sets members of struct_ops variables: numbers and text as those of other variables, pointers to functions by the name
/// of a program, and to nothing by an empty name. `None`: no setting is about one.
///
/// # Errors
/// There is no such member or program, or the value does not fit.
pub(crate) fn shadow(object: &Object, given: &[(String, Given)]) -> Result<Option<Shadow>, Error> {
    if !given.iter().any(|(path, _)| is_member(object, path)) {
        return Ok(None);
    }
    let mut shadow = Shadow { object: object.clone(), taken_out: BTreeSet::new() };
    let Shadow { object: changed, taken_out } = &mut shadow;
    for (path, given) in given {
        let (name, rest) = globals::split(path);
        let mut maps = changed.maps.iter_mut().filter(|map| map.name == name);
        let Some(Role::StructOps(ops)) = maps.next().map(|map| &mut map.role) else { continue };
        let Some(btf) = &object.btf else { continue };
        let place = globals::inside(btf, path, ops.ty, rest)?;
        let is_function = match btf.resolve(place.ty)?.def {
            Def::Ptr(to) => matches!(btf.resolve(to)?.def, Def::FuncProto(_)),
            _ => false,
        };
        if !is_function {
            globals::write(btf, path, place, given, &mut ops.bytes)?;
            continue;
        }
        let program = match given {
            Given::Text(text) | Given::Value(Value::Text(text)) => text.as_str(),
            Given::Value(_) => {
                let problem = "it holds a program: give the program's name, or an empty one for none".to_owned();
                return Err(Error::Global { path: path.clone(), problem });
            }
        };
        let at = u32::try_from(place.bit / 8).unwrap_or(u32::MAX);
        taken_out.extend(ops.functions.iter().filter(|(offset, _)| *offset == at).map(|(_, function)| *function));
        ops.functions.retain(|(offset, _)| *offset != at);
        if !program.is_empty() {
            let found = object.programs.iter().find(|known| known.name == program);
            let names = || object.programs.iter().map(|known| known.name.as_str());
            let found = found.ok_or_else(|| no_such("program", program, names()))?;
            ops.functions.push((at, found.function));
            ops.functions.sort_by_key(|(offset, _)| *offset);
        }
    }
    Ok(Some(shadow))
}

/// Names that [`convert`] will look for in the kernel's BTF.
pub(crate) fn names(ops: &StructOps) -> [String; 2] {
    let name = essential_name(&ops.type_name);
    [format!("{WRAPPER}{name}"), name.to_owned()]
}

/// Makes the value that the kernel expects.
///
/// `is_ours` tells whether a function is a struct_ops program.
pub(crate) fn convert<'k>(
    object: &Object,
    map: &Map,
    ops: &StructOps,
    kernel: &'k Kernel,
    is_ours: impl Fn(FunctionId) -> bool,
) -> Result<Converted<'k>, Error> {
    let problem = |problem: String| Error::StructOps { map: map.name.clone(), problem };
    let local = object.btf.as_ref();
    let local = local.ok_or_else(|| Error::NoObjectBtf { what: format!("the struct_ops map {}", map.name) })?;
    if kernel.btf()?.is_none() {
        return Err(Error::NoKernelBtf { what: format!("the struct_ops map {}", map.name) });
    }
    let [wrapper_name, name] = names(ops);
    let missing = |name: &str| problem(format!("this kernel has no struct {name}: nothing in it can be replaced so"));
    let found = find_typed(kernel, &wrapper_name, Kind::Struct)?;
    let KernelType { btf, id: wrapper_id, module } = found.ok_or_else(|| missing(&wrapper_name))?;
    let structure = btf.find(&name, Kind::Struct).ok_or_else(|| missing(&name))?;
    let wrapper = composite(btf, wrapper_id)?.ok_or_else(|| missing(&wrapper_name))?;
    let target = composite(btf, structure)?.ok_or_else(|| missing(&name))?;
    let data = wrapper.members().filter_map(Result::ok).find(|member| member.ty == structure);
    let data = data.ok_or_else(|| problem(format!("the kernel's struct {wrapper_name} holds no struct {name}")))?;
    let source = composite(local, ops.ty)?.ok_or_else(|| problem(format!("the object's {name} is no struct")))?;
    if wrapper.size > MAX_VALUE {
        return Err(problem(format!("the kernel's struct {wrapper_name} has {} bytes", wrapper.size)));
    }

    let functions: BTreeMap<u32, FunctionId> = ops.functions.iter().copied().collect();
    let mut value = vec![0; wrapper.size as usize];
    let mut programs = Vec::new();
    let mut members = Vec::new();
    for member in source.members() {
        let member = member?;
        let copy = Copy { local, btf, member, source: &ops.bytes, start: data.bit_offset / 8, value: &mut value };
        let function = functions.get(&(member.bit_offset / 8)).copied();
        let Some((at, index)) = copy.run(&target, function.is_some()).map_err(problem)? else { continue };
        let Some(function) = function else { continue };
        if !is_ours(function) {
            return Err(problem(format!("member {} names a function that is no struct_ops program", member.name)));
        }
        programs.push((at, function));
        members.push((function, index));
    }
    if programs.len() < functions.len() {
        return Err(problem("a function is at a place where the structure has no member".to_owned()));
    }
    let module_name = module.map(str::to_owned);
    let plan = StructOpsPlan { btf_vmlinux_value: wrapper_id, module: module_name, value, programs, link: ops.link };
    Ok(Converted { plan, value_size: wrapper.size, structure, module, members })
}

/// One member on its way from the object's structure to the kernel's.
struct Copy<'a> {
    local: &'a Btf,
    btf: &'a Btf,
    member: Member<'a>,
    source: &'a [u8],
    /// Where the structure starts in the wrapper.
    start: u32,
    value: &'a mut [u8],
}

impl Copy<'_> {
    /// For a function pointer: its offset in the wrapper and its index in the kernel's structure.
    fn run(self, target: &Composite<'_>, is_function: bool) -> Result<Option<(u32, u32)>, String> {
        let name = self.member.name;
        let damaged = |error: ringfence_btf::Error| format!("member {name}: {error}");
        let size = self.local.size_of(self.member.ty).map_err(damaged)?;
        let from = (self.member.bit_offset / 8) as usize;
        let to = from.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
        let bytes = self.source.get(from..to).ok_or_else(|| format!("member {name} lies outside the variable"))?;
        let zero = !is_function && bytes.iter().all(|byte| *byte == 0);
        let theirs = (0u32..).zip(target.members().filter_map(Result::ok)).find(|(_, theirs)| theirs.name == name);
        let Some((index, theirs)) = theirs else {
            if zero {
                return Ok(None);
            }
            return Err(format!(
                "this kernel's structure has no member {name}; leave it out, or zero, for this kernel"
            ));
        };
        if self.member.bit_size != 0 || theirs.bit_size != 0 {
            return Err(format!("member {name} is a bit-field, and those cannot be set"));
        }
        let ours_is = self.local.resolve(self.member.ty).map_err(damaged)?.def;
        let theirs_is = self.btf.resolve(theirs.ty).map_err(damaged)?.def;
        if ours_is.kind() != theirs_is.kind() {
            let (ours, theirs) = (ours_is.kind(), theirs_is.kind());
            return Err(format!("member {name} is {ours:?} here and {theirs:?} in this kernel"));
        }
        let at = self.start.saturating_add(theirs.bit_offset / 8);
        if let Def::Ptr(pointee) = theirs_is {
            if !is_function {
                return if zero {
                    Ok(None)
                } else {
                    Err(format!("member {name} is a pointer to something else than a program"))
                };
            }
            let Def::FuncProto(_) = self.btf.resolve(pointee).map_err(damaged)?.def else {
                return Err(format!("member {name} is no function pointer in this kernel"));
            };
            return Ok(Some((at, index)));
        }
        if is_function {
            return Err(format!("member {name} holds a function and is no pointer"));
        }
        let their_size = self.btf.size_of(theirs.ty).map_err(damaged)?;
        if size != their_size {
            return Err(format!("member {name} has {size} bytes here and {their_size} in this kernel"));
        }
        let end = (at as usize).saturating_add(bytes.len());
        let slot =
            self.value.get_mut(at as usize..end).ok_or_else(|| format!("member {name} lies outside its structure"))?;
        slot.copy_from_slice(bytes);
        Ok(None)
    }
}

fn composite(btf: &Btf, id: TypeId) -> Result<Option<Composite<'_>>, Error> {
    Ok(match btf.resolve(id)?.def {
        Def::Struct(body) => Some(body),
        _ => None,
    })
}
