//! The way from an object to its plan, step by step.
//!
//! Which programs are wanted -> one pass over the kernel's types for every name that will be asked -> struct_ops ->
//! maps and their contents -> code -> what is needed. Nothing here changes anything: the same object, kernel facts
//! and settings give the same plan.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ringfence_btf::TypeId;
use ringfence_kernel::{Feature, Kernel};
use ringfence_object::{FunctionId, MapId, Object, Program, Role as MapRole, Target};
use ringfence_uapi::{AttachType, Helper, MapType, ProgramType};

use crate::arg_ctx::Contexts;
use crate::code::Filler;
use crate::core::Relocator;
use crate::error::no_such;
use crate::externs::Externs;
use crate::link::{Linked, Linker};
use crate::maps::{Maps, Place, Planner};
use crate::model::{LeftOut, LoadTarget, Plan, PlanMap, Problem, ProgramPlan, SlotTo, kernel_name};
use crate::needs::Origin;
use crate::programs::Role;
use crate::settings::Settings;
use crate::struct_ops::{self, Converted};
use crate::{Error, attach, fit, globals, maps, needs, since};

/// Characters of a licence that count.
const LICENSE_LEN: usize = 127;
/// Sections of unknown names for which a better one is looked for.
const MOST_HINTS: usize = 50;

/// What is to be done to load an object into a kernel.
///
/// Pure: the same input gives the same plan, and nothing is changed anywhere. The kernel is asked only for the facts
/// that this object needs.
///
/// # Errors
/// No plan can be made at all: the object is for machines of the other byte order, a setting does not fit the
/// object, or a fact about the kernel cannot be had. What concerns single programs is in [`Plan::problems`].
pub fn plan(object: &Object, kernel: &Kernel, settings: &Settings) -> Result<Plan, Error> {
    check_byte_order(object)?;
    let shadow = struct_ops::shadow(object, &settings.globals)?;
    let object = shadow.as_ref().map_or(object, |shadow| &shadow.object);
    let roles = roles(object, settings)?;
    let mut wanted = Wanted::new(object, settings)?;
    if let Some(shadow) = &shadow {
        wanted.take_out(object, &shadow.taken_out);
    }
    let license = license(object, settings)?;
    let core_kernel = settings.core_btf.as_ref().map(|btf| Kernel::from_btf(btf.clone()));
    let core_kernel = core_kernel.as_ref().unwrap_or(kernel);

    // Relocations need the kernel's types. Read first, they also answer what would else take attempts.
    if object.functions.iter().any(|function| !function.core.is_empty()) {
        core_kernel.btf()?;
        if let Ok(Some(btf)) = kernel.btf() {
            btf.len();
        }
    }
    let kinds: BTreeSet<ProgramType> = roles.iter().map(|role| role.kind).collect();
    let (btf, contexts) = fit::fit_btf(object, kernel, &kinds)?;
    let externs = Externs::new(object, kernel, settings.kconfig.as_deref())?;
    let mut ops = StructOpsMaps::new(object, kernel, &roles, &wanted);
    let planner = Planner { object, kernel, settings, with_btf: btf.is_some() };
    let mut maps = planner.plan(&externs, |id| ops.take(id))?;
    for (path, given) in settings.globals.iter().filter(|(path, _)| !struct_ops::is_member(object, path)) {
        globals::set(object, path, given, |map| maps.planned(map).map(maps::contents))?;
    }

    let relocator = match &object.btf {
        Some(local) => Ok(Relocator::new(local, core_kernel)),
        None => Err(Error::NoObjectBtf { what: "relocation against the kernel's types (CO-RE)".to_owned() }),
    };
    let mut programs = Programs {
        object,
        kernel,
        describe: btf.is_some() && kernel.has(Feature::BtfFunc),
        contexts,
        linker: Linker::new(object, relocator),
        filler: Filler::new(object, kernel, &externs),
        bind: read_only(object, &maps),
        // The kernel reads no more (bpf_prog_load).
        license: license.map(|text| text.chars().take(LICENSE_LEN).collect()),
        plans: Vec::new(),
        problems: Vec::new(),
        own_types: settings.core_btf.is_none(),
        origins: Vec::new(),
    };
    for ((id, program), role) in object.programs.iter().enumerate().zip(roles) {
        if wanted.reason(id).is_none()
            && let Err(error) = programs.add(program, role, ops.member(program.function), &mut maps)
        {
            programs.problems.push(Problem { program: program.name.clone(), error });
        }
    }
    let Programs { plans, origins, mut problems, .. } = programs;
    let mut left_out = wanted.left_out(object);
    left_out.extend(empty_slots(object, &mut maps, &plans));
    for (map, place) in object.maps.iter().zip(&maps.place) {
        match place {
            Place::Planned(_) => {}
            Place::Off(reason) => left_out.push(LeftOut { name: map.name.clone(), reason: reason.clone() }),
            Place::Broken(error) => {
                left_out.push(LeftOut { name: map.name.clone(), reason: error.to_string() });
                // Nobody else would say so: no program of it is planned.
                if matches!(&map.role, MapRole::StructOps(ops) if ops.functions.is_empty()) {
                    problems.push(Problem { program: map.name.clone(), error: error.clone() });
                }
            }
        }
    }
    let mut plan = Plan {
        object: object.name.clone(),
        btf,
        maps: maps.plans,
        programs: plans,
        problems,
        left_out,
        needs: Vec::new(),
    };
    plan.needs = needs::of(&plan, object, &origins);
    Ok(plan)
}

fn check_byte_order(object: &Object) -> Result<(), Error> {
    let here = cfg!(target_endian = "big");
    if object.big_endian == here {
        return Ok(());
    }
    let name = |big: bool| if big { "big-endian" } else { "little-endian" };
    Err(Error::ByteOrder {
        object: object.name.clone(),
        theirs: name(object.big_endian),
        ours: name(here),
        target: if here { "bpfeb" } else { "bpfel" },
    })
}

/// What the programs' licence is; `None`: nobody says.
fn license<'a>(object: &'a Object, settings: &'a Settings) -> Result<Option<&'a str>, Error> {
    match (&object.license, &settings.license) {
        (Some(stated), Some(given)) if stated != given => {
            Err(Error::LicenceStated { stated: stated.clone(), given: given.clone() })
        }
        (stated, given) => Ok(stated.as_deref().or(given.as_deref())),
    }
}

fn roles(object: &Object, settings: &Settings) -> Result<Vec<Role>, Error> {
    let named = settings.programs.keys().chain(settings.only.iter().flatten());
    for name in named {
        if !object.programs.iter().any(|program| program.name == *name) {
            return Err(no_such("program", name, object.programs.iter().map(|program| program.name.as_str())));
        }
    }
    Ok(object.programs.iter().map(|program| Role::new(program, settings.programs.get(&program.name))).collect())
}

/// Which programs and struct_ops maps are wanted, and why others are not.
struct Wanted {
    /// By program: `Some`: why it is left out.
    programs: Vec<Option<String>>,
    /// By map, for struct_ops maps.
    maps: BTreeMap<MapId, String>,
}

impl Wanted {
    fn new(object: &Object, settings: &Settings) -> Result<Wanted, Error> {
        let chosen = |program: &Program| settings.programs.get(&program.name).and_then(|choice| choice.load);
        let listed = |program: &Program| settings.only.as_ref().map(|only| only.contains(&program.name));
        let mut programs: Vec<Option<String>> = Vec::with_capacity(object.programs.len());
        for program in &object.programs {
            programs.push(match (chosen(program), listed(program)) {
                (Some(true), _) | (None, Some(true)) => None,
                (Some(false), _) | (None, Some(false)) => Some("the settings leave it out".to_owned()),
                (None, None) if program.autoload => None,
                (None, None) => Some("its section begins with ?: it is loaded only when asked for".to_owned()),
            });
        }
        let numbers: HashMap<FunctionId, usize> =
            object.programs.iter().enumerate().map(|(number, program)| (program.function, number)).collect();
        // A struct_ops program goes with the maps that name it (libbpf, bpf_object_adjust_struct_ops_autoload).
        let mut maps = BTreeMap::new();
        let mut uses: BTreeMap<usize, bool> = BTreeMap::new();
        for (id, map) in object.maps.iter().enumerate() {
            let MapRole::StructOps(ops) = &map.role else { continue };
            let members = ops.functions.iter().filter_map(|(_, function)| numbers.get(function).copied());
            let members: Vec<usize> = members.collect();
            let off = members.iter().filter_map(|id| object.programs.get(*id)).find(|p| chosen(p) == Some(false));
            let any_listed = members.iter().filter_map(|id| object.programs.get(*id)).any(|p| listed(p) == Some(true));
            let create = settings.maps.get(&map.name).and_then(|choice| choice.create);
            let reason = match (create, off, &settings.only) {
                (Some(true), _, _) => None,
                (Some(false), _, _) => Some("the settings leave it out".to_owned()),
                (None, Some(program), _) => Some(format!("the settings leave out its program {}", program.name)),
                (None, None, Some(_)) if any_listed => None,
                (None, None, Some(_)) => Some("the settings leave out its programs".to_owned()),
                (None, None, None) if ops.autocreate => None,
                (None, None, None) => Some("its section begins with ?: it is created only when asked for".to_owned()),
            };
            for program in members {
                *uses.entry(program).or_default() |= reason.is_none();
            }
            if let Some(reason) = reason {
                maps.insert(MapId(id), reason);
            }
        }
        for (program, used) in uses {
            let Some(slot) = programs.get_mut(program) else { continue };
            match (used, &slot) {
                (true, _) => *slot = None,
                (false, None) => *slot = Some("the struct_ops maps that it is for are left out".to_owned()),
                (false, Some(_)) => {}
            }
        }
        Ok(Wanted { programs, maps })
    }

    /// Programs that are in no struct_ops variable any more (libbpf, `bpf_map__init_kern_struct_ops`).
    fn take_out(&mut self, object: &Object, programs: &BTreeSet<FunctionId>) {
        let used = |function: FunctionId| {
            object.maps.iter().any(|map| {
                matches!(&map.role, MapRole::StructOps(ops) if ops.functions.iter().any(|(_, used)| *used == function))
            })
        };
        for (program, slot) in object.programs.iter().zip(&mut self.programs) {
            if programs.contains(&program.function) && !used(program.function) {
                *slot = Some("the settings took it out of its struct_ops map".to_owned());
            }
        }
    }

    fn reason(&self, program: usize) -> Option<&str> {
        self.programs.get(program)?.as_deref()
    }

    fn map_reason(&self, map: MapId) -> Option<&str> {
        self.maps.get(&map).map(String::as_str)
    }

    fn left_out(&self, object: &Object) -> Vec<LeftOut> {
        let programs = object.programs.iter().zip(&self.programs);
        let left = programs
            .filter_map(|(program, reason)| Some(LeftOut { name: program.name.clone(), reason: reason.clone()? }));
        left.collect()
    }
}

/// What a struct_ops program says when it is loaded.
#[derive(Clone, Debug)]
struct Membership {
    structure: TypeId,
    module: Option<String>,
    /// The member's place in the kernel's structure.
    member: u32,
}

/// The struct_ops maps of an object, made fit for a kernel.
struct StructOpsMaps<'a> {
    maps: BTreeMap<MapId, Result<Converted<'a>, Place>>,
    /// `Err`: why the map that names it cannot be made.
    members: BTreeMap<FunctionId, Result<Membership, Error>>,
}

impl<'a> StructOpsMaps<'a> {
    fn new(object: &'a Object, kernel: &'a Kernel, roles: &[Role], wanted: &Wanted) -> Self {
        let mut all = StructOpsMaps { maps: BTreeMap::new(), members: BTreeMap::new() };
        let programs = object.programs.iter().zip(roles);
        let ours = programs.filter(|(_, role)| role.kind == ProgramType::STRUCT_OPS).map(|(p, _)| p.function);
        let ours: HashSet<FunctionId> = ours.collect();
        for (id, map) in object.maps.iter().enumerate() {
            let MapRole::StructOps(ops) = &map.role else { continue };
            let id = MapId(id);
            if let Some(reason) = wanted.map_reason(id) {
                all.maps.insert(id, Err(Place::Off(reason.to_owned())));
                continue;
            }
            let converted = struct_ops::convert(object, map, ops, kernel, |function| ours.contains(&function));
            let converted = converted.and_then(|converted| all.assign(&map.name, converted));
            if let Err(error) = &converted {
                for (_, function) in &ops.functions {
                    all.members.insert(*function, Err(error.clone()));
                }
            }
            all.maps.insert(id, converted.map_err(Place::Broken));
        }
        all
    }

    /// A program serves one member of one structure, however many maps name it.
    fn assign(&mut self, map: &str, converted: Converted<'a>) -> Result<Converted<'a>, Error> {
        for (function, member) in &converted.members {
            let module = converted.module.map(str::to_owned);
            let new = Membership { structure: converted.structure, module, member: *member };
            match self.members.get(function) {
                Some(Ok(old)) if (old.structure, old.member) != (new.structure, new.member) => {
                    let problem = "one of its programs serves another member, or another structure, already";
                    return Err(Error::StructOps { map: map.to_owned(), problem: problem.to_owned() });
                }
                Some(_) => {}
                None => {
                    self.members.insert(*function, Ok(new));
                }
            }
        }
        Ok(converted)
    }

    fn take(&mut self, id: MapId) -> Option<Result<Converted<'a>, Place>> {
        self.maps.remove(&id)
    }

    fn member(&self, function: FunctionId) -> Option<&Result<Membership, Error>> {
        self.members.get(&function)
    }
}

/// Takes out of program arrays what is not planned: those slots stay empty.
fn empty_slots(object: &Object, maps: &mut Maps, plans: &[ProgramPlan]) -> Vec<LeftOut> {
    let planned: HashSet<FunctionId> = plans.iter().map(|plan| plan.function).collect();
    let mut left_out = Vec::new();
    for map in &mut maps.plans {
        map.slots.retain(|slot| {
            let SlotTo::Program(function) = slot.target else { return true };
            if !planned.contains(&function) {
                let name = object.functions.get(function.0).map_or("", |function| &function.name);
                let reason = format!("its program {name} is not loaded");
                left_out.push(LeftOut { name: format!("{}[{}]", map.name, slot.index), reason });
            }
            planned.contains(&function)
        });
    }
    left_out
}

/// Maps to bind to every program (libbpf, `bpf_object_load_prog`).
fn read_only(object: &Object, maps: &Maps) -> Vec<PlanMap> {
    let read_only = object.maps.iter().zip(&maps.place).filter_map(|(map, place)| match (&map.role, place) {
        (MapRole::Data(data), Place::Planned(at)) if data.read_only => Some(*at),
        _ => None,
    });
    // No program of the kernel's has more maps (MAX_USED_MAPS).
    read_only.take(64).collect()
}

/// Programs as they are planned, one after another.
struct Programs<'a> {
    object: &'a Object,
    kernel: &'a Kernel,
    /// Function and line records are passed on.
    describe: bool,
    contexts: Contexts,
    linker: Linker<'a>,
    filler: Filler<'a>,
    bind: Vec<PlanMap>,
    license: Option<String>,
    plans: Vec<ProgramPlan>,
    problems: Vec<Problem>,
    /// CO-RE asks the kernel's own types.
    own_types: bool,
    /// One for each of the plans.
    origins: Vec<Origin>,
}

impl Programs<'_> {
    fn add(
        &mut self,
        program: &Program,
        mut role: Role,
        member: Option<&Result<Membership, Error>>,
        maps: &mut Maps,
    ) -> Result<(), Error> {
        let mut linked = self.linker.link(program, self.kernel)?;
        self.has_jump_tables(program, &linked)?;
        let filled = self.filler.fill(&mut linked, maps)?;
        role.fit(self.kernel);
        let (target, hook) = match (role.kind, member.cloned().transpose()?) {
            (ProgramType::STRUCT_OPS, Some(Membership { structure, module, member })) => {
                (LoadTarget::Btf { id: structure, module }, AttachType(member))
            }
            (ProgramType::STRUCT_OPS, None) => {
                let reason = "no struct_ops map names it: put it into a structure in .struct_ops";
                (LoadTarget::Unknown(reason.to_owned()), role.hook)
            }
            _ => (role.load_target(self.kernel)?, role.hook),
        };
        if role.kind == ProgramType::UNSPEC {
            let helpful = self.problems.len() < MOST_HINTS;
            self.problem(program, Role::no_type(program, helpful));
        }
        if let Some(error) = self.unsupported(program, role.kind, hook) {
            self.problem(program, error);
        }
        if let Some(error) = self.licence(program, &role, &linked) {
            self.problem(program, error);
        }
        let function = |(id, _): &(FunctionId, usize)| self.object.functions.get(id.0);
        let relocated = linked.parts.iter().filter_map(function).any(|function| !function.core.is_empty());
        self.origins.push(Origin { reads_symbols: filled.reads_symbols, relocated: relocated && self.own_types });
        let names = self.kernel.has(Feature::Names);
        let (mut funcs, lines) = if self.describe { (linked.funcs, linked.lines) } else { Default::default() };
        funcs.iter_mut().for_each(|(_, function)| *function = self.contexts.describe(*function, role.kind));
        self.plans.push(ProgramPlan {
            function: program.function,
            name: program.name.clone(),
            kernel_name: if names { kernel_name(&program.name) } else { String::new() },
            section: program.section.clone(),
            kind: role.kind,
            attach_type: hook,
            flags: role.flags,
            license: self.license.clone().unwrap_or_default(),
            kernel_version: self.kernel_version(role.kind),
            insns: linked.insns,
            fixups: filled.fixups,
            funcs,
            lines,
            target,
            attach: role.attach(),
            bind: self.bind.clone(),
            kfunc_modules: filled.modules,
        });
        Ok(())
    }

    /// A table of jump targets is a map of a type that came late.
    fn has_jump_tables(&self, program: &Program, linked: &Linked) -> Result<(), Error> {
        let kind = MapType::INSN_ARRAY;
        let jumps = linked.open.iter().any(|(_, target)| matches!(target, Target::JumpTable { .. }));
        if !jumps || self.kernel.knows_map_type(kind) != Some(false) {
            return Ok(());
        }
        let what = format!("jump tables (maps of type {kind})");
        Err(Error::Unsupported { program: program.name.clone(), what, since: since::map_type(kind) })
    }

    fn problem(&mut self, program: &Program, error: Error) {
        self.problems.push(Problem { program: program.name.clone(), error });
    }

    /// Kernels before 5.0 load kprobes only with their own version.
    fn kernel_version(&self, kind: ProgramType) -> u32 {
        if kind != ProgramType::KPROBE {
            return 0;
        }
        self.object.version.unwrap_or_else(|| self.kernel.version_code())
    }

    /// A type or hook that this kernel's types do not name.
    fn unsupported(&self, program: &Program, kind: ProgramType, hook: AttachType) -> Option<Error> {
        let (since, hook_since) = (since::program_type(kind), since::attach_type(hook));
        let hooked = attach::must_know(kind, hook);
        let (what, since) = if kind != ProgramType::UNSPEC
            && since::worth_asking(since)
            && self.kernel.knows_program_type(kind) == Some(false)
        {
            (format!("program type {kind}"), since)
        } else if hooked && since::worth_asking(hook_since) && self.kernel.knows_attach_type(hook) == Some(false) {
            (format!("attach type {hook}"), hook_since)
        } else {
            return None;
        };
        Some(Error::Unsupported { program: program.name.clone(), what, since })
    }

    /// What the kernel refuses without a GPL-compatible licence, as far as instructions and type tell.
    fn licence(&self, program: &Program, role: &Role, linked: &Linked) -> Option<Error> {
        if self.license.as_deref().is_some_and(since::is_gpl) {
            return None;
        }
        let what = match role.kind {
            ProgramType::STRUCT_OPS => "is a struct_ops program".to_owned(),
            ProgramType::LSM => "is an LSM program".to_owned(),
            _ => {
                let calls = linked.insns.iter().find_map(|insn| {
                    let helper = Helper(insn.imm.cast_unsigned());
                    if insn.is_kfunc_call() {
                        Some("kernel functions (kfuncs)".to_owned())
                    } else if insn.is_helper_call() && since::GPL_HELPERS.contains(&helper) {
                        Some(format!("bpf_{helper}"))
                    } else {
                        None
                    }
                });
                format!("calls {}", calls?)
            }
        };
        let (program, license) = (program.name.clone(), self.license.clone());
        Some(Error::Licence { program, what, license })
    }
}
