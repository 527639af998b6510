//! Programs of a plan: instructions completed with file descriptors, loaded by several threads, logs read on failure.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ringfence_btf::{Btf, Def};
use ringfence_plan::{FixupWith, LoadTarget, MapPlan, PlanMap, ProgramPlan};
use ringfence_sys as sys;
use ringfence_uapi::{Insn, ProgramType};
use rustix::io::Errno;
use sys::{BtfFd, Log, ProgLoad, ProgramFd, Target, flags};

use super::{Run, log};
use crate::error::{Cause, Error, Kind, Refusal, Result};
use crate::map::Map;
use crate::program::Program;
use crate::usdt::Specs;

const LOADING: &str = "loading it";
/// Time that is left at the pace of the programs so far and that is worth threads: one starts in 0.1 to 0.5 ms (the latter on a
/// busy machine). Instructions do not tell: a loop of thirty can take the verifier milliseconds.
const WORTH: Duration = Duration::from_millis(1);
/// More threads than this have not been seen to help: the verifier allocates under locks.
const MOST_THREADS: usize = 8;

/// A program that was not tried, because one before it had failed.
fn not_tried(plan: &ProgramPlan, object: &str) -> Error {
    Error::Load {
        object: object.to_owned(),
        program: plan.name.clone(),
        section: plan.section.clone(),
        step: LOADING,
        cause: Cause::invalid("a program before it has failed").into(),
    }
}

type Maps<'m> = [Result<&'m Map, &'m Error>];

impl Run<'_> {
    /// Loads every program. With `stop`, none is begun after one has failed; those before it in the order of the plan are always tried,
    /// so which error comes first does not depend on chance.
    pub(super) fn programs(&self, maps: &Maps<'_>, stop: bool) -> Vec<Result<Program>> {
        let plans = &self.plan.programs;
        let loaded: Vec<OnceLock<Result<Program>>> = plans.iter().map(|_| OnceLock::new()).collect();
        // Programs that extend or trace another program of the same object have to wait for it.
        let waits = |plan: &ProgramPlan| matches!(plan.target, LoadTarget::Program { .. }) && !self.target_given(plan);
        let (first, second): (Vec<usize>, Vec<usize>) = (0..plans.len()).partition(|at| !waits(&plans[*at]));
        for wave in [first, second] {
            // The first place in the wave that has failed.
            let failed = AtomicUsize::new(usize::MAX);
            let next = AtomicUsize::new(0);
            let one = || {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(at) = wave.get(place) else { return false };
                if stop && place > failed.load(Ordering::Relaxed) {
                    return false;
                }
                let result = self.program(&plans[*at], maps, &loaded);
                if result.is_err() {
                    failed.fetch_min(place, Ordering::Relaxed);
                }
                // Each place is worked on once.
                let _ = loaded[*at].set(result);
                true
            };
            std::thread::scope(|scope| {
                let help = |threads: usize| {
                    for _ in 0..threads {
                        // A thread that cannot be had is one less.
                        let builder = std::thread::Builder::new().name("ringfence-load".to_owned());
                        let _ = builder.spawn_scoped(scope, || while one() {});
                    }
                };
                // More than this thread, as soon as it is worth it.
                let mut more = match self.loader.threads {
                    Some(threads) => {
                        help(threads.min(wave.len()).saturating_sub(1));
                        0
                    }
                    None => std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS) - 1,
                };
                let begun = Instant::now();
                let mut done = 0;
                while one() {
                    done += 1;
                    let left = wave.len().saturating_sub(next.load(Ordering::Relaxed));
                    if more > 0 && begun.elapsed() * left as u32 >= WORTH * done {
                        help(more.min(left));
                        more = 0;
                    }
                }
            });
            if stop && failed.into_inner() < usize::MAX {
                break;
            }
        }
        let object = &self.plan.object;
        let result =
            |(place, plan): (OnceLock<_>, _)| place.into_inner().unwrap_or_else(|| Err(not_tried(plan, object)));
        loaded.into_iter().zip(plans).map(result).collect()
    }

    fn target_given(&self, plan: &ProgramPlan) -> bool {
        self.loader.targets.iter().any(|(name, _)| *name == plan.name)
    }

    fn program(&self, plan: &ProgramPlan, maps: &Maps<'_>, loaded: &[OnceLock<Result<Program>>]) -> Result<Program> {
        let fail = |step, cause: Cause| Error::Load {
            object: self.plan.object.clone(),
            program: plan.name.clone(),
            section: plan.section.clone(),
            step,
            cause: cause.into(),
        };
        if let (Some(Err(error)), true) = (&self.btf, super::needs_btf(plan.kind)) {
            return Err(error.clone());
        }
        if let (LoadTarget::Unknown(reason), false) = (&plan.target, self.target_given(plan)) {
            // A section that names no target is the object's affair, a target that is not there the kernel's.
            let kind = if plan.section.contains('/') { Kind::Unsupported } else { Kind::Invalid };
            return Err(fail("finding what it belongs to", Cause::new(kind, reason.as_str())));
        }
        if plan.kind == ProgramType::UNSPEC {
            let cause =
                Cause::invalid(format!("the section `{}` does not say what kind of program it is", plan.section));
            return Err(fail(LOADING, cause.action("give its type in the settings, or rename the section")));
        }
        let modules = self.kfunc_modules(plan).map_err(|cause| fail("finding its kernel functions", cause))?;
        let insns = self.complete(plan, maps).map_err(|cause| fail("completing its instructions", cause))?;
        let mut fd_array: Vec<Option<BorrowedFd<'_>>> = vec![None];
        fd_array.extend(modules.iter().map(|module| Some(module.as_fd())));
        let held = self.target(plan, loaded).map_err(|cause| fail("finding what it belongs to", cause))?;
        let btf = self.btf_fd();
        let (funcs, lines): (Vec<_>, Vec<_>) = match btf {
            Some(_) => (
                plan.funcs.iter().map(|(insn, ty)| sys::FuncInfo { insn: *insn, ty: ty.0 }).collect(),
                plan.lines.iter().map(line_info).collect(),
            ),
            None => Default::default(),
        };
        let load = ProgLoad {
            attach_type: plan.attach_type,
            name: &plan.kernel_name,
            flags: plan.flags,
            kernel_version: plan.kernel_version,
            btf,
            funcs: &funcs,
            lines: &lines,
            target: held.as_target(),
            fd_array: if modules.is_empty() { &[] } else { &fd_array },
            token: self.loader.token,
            ..ProgLoad::new(plan.kind, &insns, &plan.license)
        };
        let (fd, log) = self.verify(plan, &load).map_err(|error| match self.owned(plan, maps) {
            Some(cause) if error.errno() == Some(Errno::INVAL.raw_os_error()) => {
                fail(LOADING, cause.errno(Errno::INVAL))
            }
            _ => error,
        })?;
        for map in &plan.bind {
            if let Some(Ok(map)) = maps.get(map.0) {
                // Only so that tools can find the map from the program: libbpf does not mind either when it fails. To
                // try is cheaper than to ask first whether this kernel can (5.10).
                let _ = sys::prog_bind_map(fd.as_fd(), map.as_fd());
            }
        }
        let usdt = self.usdt.get_or_init(|| Specs::of(maps.iter().filter_map(|map| map.as_ref().ok().copied())));
        Ok(Program::new(fd, self.plan, plan, self.kernel, log, usdt.clone()))
    }

    /// Asks the verifier; when it refuses, asks again with a log that is long enough.
    fn verify(&self, plan: &ProgramPlan, load: &ProgLoad<'_>) -> Result<(ProgramFd, String)> {
        let level = self.loader.log_level;
        if level == 0 {
            match self.with_memory(|| sys::prog_load(load, None)) {
                Ok(fd) => return Ok((fd, String::new())),
                Err(Errno::PERM) => return Err(self.refused(plan, Errno::PERM, "")),
                Err(_) => {}
            }
        }
        let mut log = Log::new(if level == 0 { 1 } else { level }, log::FIRST_SIZE);
        loop {
            let result = sys::prog_load(load, Some(&mut log));
            // A log that is too short fails a load that would go well otherwise (`bpf_vlog_finalize`).
            if matches!(result, Err(Errno::NOSPC)) && log.size() < log::LAST_SIZE {
                let size = log.true_size().unwrap_or(log.size() * 4).clamp(log.size() + 1, log::LAST_SIZE);
                log = Log::new(if level == 0 { 1 } else { level }, size);
                continue;
            }
            return match result {
                Ok(fd) => Ok((fd, log.text().into_owned())),
                Err(errno) => Err(self.refused(plan, errno, &log.text())),
            };
        }
    }

    fn refused(&self, plan: &ProgramPlan, errno: Errno, log: &str) -> Error {
        let read = log::read(log);
        let (object, program, section) = (self.plan.object.clone(), plan.name.clone(), plan.section.clone());
        if read.reason.is_empty() {
            let cause = crate::explain::prog_load(errno, plan, &self.plan.needs, self.kernel);
            return Error::Load { object, program, section, step: LOADING, cause: cause.into() };
        }
        let source = read.insn.and_then(|insn| log::source_of(plan, self.types.as_ref(), insn));
        let (kind, words, action) = crate::explain::refusal(&read.reason);
        Error::Refused(Box::new(Refusal {
            object,
            program,
            section,
            kind,
            errno: errno.raw_os_error(),
            reason: words.unwrap_or(read.reason),
            insn: read.insn,
            source: source.or(read.source),
            action: action.to_owned(),
            log: log.to_owned(),
        }))
    }

    /// The instructions with the file descriptors that they need.
    fn complete(&self, plan: &ProgramPlan, maps: &Maps<'_>) -> Result<Vec<Insn>, Cause> {
        let mut insns = plan.insns.clone();
        for fixup in &plan.fixups {
            let bad = || Cause::invalid("the plan refers to what is not in it");
            let (at, fd) = match &fixup.with {
                FixupWith::Map(map) => match maps.get(map.0).ok_or_else(bad)? {
                    Ok(map) => (fixup.insn, map.as_fd().as_raw_fd()),
                    Err(error) => return Err(because(error)),
                },
                FixupWith::ModuleBtf(module) => (fixup.insn + 1, self.module(module)?.as_fd().as_raw_fd()),
            };
            insns.get_mut(at).ok_or_else(bad)?.imm = fd;
        }
        Ok(insns)
    }

    /// Why this program cannot use a map that runs programs: it belongs to others.
    fn owned(&self, plan: &ProgramPlan, maps: &Maps<'_>) -> Option<Cause> {
        let uses = |plan: &ProgramPlan, map| plan.fixups.iter().any(|fixup| fixup.with == FixupWith::Map(map));
        let owned = |map: PlanMap| {
            let at = maps.get(map.0)?.ok().filter(|_| self.plan.maps.get(map.0).is_some_and(MapPlan::runs_programs))?;
            let other_type =
                || at.owner().filter(|owner| *owner != plan.kind).map(|owner| format!("programs of type {owner}"));
            let unlike = |other: &&ProgramPlan| {
                let frags = flags::BPF_F_XDP_HAS_FRAGS;
                (other.kind, other.attach_type, other.flags & frags)
                    != (plan.kind, plan.attach_type, plan.flags & frags)
            };
            let other_kind = || {
                let other = self.plan.programs.iter().filter(|other| uses(other, map)).find(unlike)?;
                Some(format!("programs like `{}` ({})", other.name, other.section))
            };
            let whose = other_type().or_else(other_kind)?;
            let why = format!(
                "its map `{}` belongs to {whose}: the kernel lets only programs of one kind share it",
                at.name()
            );
            Some(Cause::invalid(why).action("load them apart, each with maps of its own (`--only`, `Settings::only`)"))
        };
        plan.fixups.iter().find_map(|fixup| match &fixup.with {
            FixupWith::Map(map) => owned(*map),
            FixupWith::ModuleBtf(_) => None,
        })
    }

    fn kfunc_modules(&self, plan: &ProgramPlan) -> Result<Vec<Arc<BtfFd>>, Cause> {
        plan.kfunc_modules.iter().map(|module| self.module(module)).collect()
    }

    fn target(&self, plan: &ProgramPlan, loaded: &[OnceLock<Result<Program>>]) -> Result<Held, Cause> {
        if let Some((_, target)) = self.loader.targets.iter().find(|(name, _)| *name == plan.name) {
            let function = plan.section.split_once('/').map_or(plan.name.as_str(), |(_, function)| function);
            return Ok(Held::Program(target.clone(), function_in(target, function)?));
        }
        match &plan.target {
            LoadTarget::None => Ok(Held::None),
            LoadTarget::Unknown(reason) => Err(Cause::new(Kind::Unsupported, reason.as_str())),
            LoadTarget::Btf { id, module: None } => Ok(Held::Kernel(id.0)),
            LoadTarget::Btf { id, module: Some(module) } => Ok(Held::Module(self.module(module)?, id.0)),
            LoadTarget::Program { function } => {
                let target = self.sibling(plan, function, loaded)?;
                let id = function_in(&target, function)?;
                Ok(Held::Program(target, id))
            }
        }
    }

    /// The program of this very object that has the function.
    fn sibling(
        &self,
        plan: &ProgramPlan,
        function: &str,
        loaded: &[OnceLock<Result<Program>>],
    ) -> Result<Program, Cause> {
        let has = |other: &ProgramPlan| {
            let named = |id| self.types.as_ref().is_some_and(|btf| btf.get(id).is_ok_and(|ty| ty.name == function));
            other.name != plan.name && (other.name == function || other.funcs.iter().any(|(_, id)| named(*id)))
        };
        let places = self.plan.programs.iter().zip(loaded).filter(|(other, _)| has(other));
        for (other, place) in places {
            match place.get() {
                Some(Ok(program)) => return Ok(program.clone()),
                Some(Err(error)) => {
                    let mut cause = because(error);
                    cause.why = format!("the program `{}` that it belongs to failed: {}", other.name, cause.why);
                    return Err(cause);
                }
                None => {}
            }
        }
        Err(Cause::invalid(format!(
            "it belongs to the function `{function}` of another program, which nobody has named"
        ))
        .action("name the loaded program: `Loader::target`"))
    }
}

/// What `attach_btf_id` belongs to, kept open for the load.
enum Held {
    None,
    Kernel(u32),
    Module(Arc<BtfFd>, u32),
    Program(Program, u32),
}

impl Held {
    fn as_target(&self) -> Target<'_> {
        match self {
            Held::None => Target::None,
            Held::Kernel(btf_id) => Target::Kernel { btf_id: *btf_id },
            Held::Module(module, btf_id) => Target::Module { btf: module.as_fd(), btf_id: *btf_id },
            Held::Program(program, btf_id) => Target::Program { program: program.as_fd(), btf_id: *btf_id },
        }
    }
}

/// The function's type in the BTF that a loaded program was loaded with.
pub(crate) fn function_in(program: &Program, function: &str) -> Result<u32, Cause> {
    let fail = |errno| crate::explain::plain(errno).action("reading another program's BTF takes CAP_SYS_ADMIN");
    let id = program.fd().info().map_err(fail)?.btf_id;
    if id == 0 {
        return Err(Cause::invalid(format!(
            "the program `{}` was loaded without BTF: nothing can belong to it",
            program.name()
        )));
    }
    let bytes = sys::open_btf(id).and_then(|fd| fd.bytes()).map_err(fail)?;
    let bad = |error: ringfence_btf::Error| Cause::invalid(format!("the BTF of program `{}`: {error}", program.name()));
    let btf = Btf::parse(Arc::new(bytes)).map_err(bad)?;
    let mut names = Vec::new();
    for ty in btf.own_types() {
        let ty = ty.map_err(bad)?;
        if matches!(ty.def, Def::Func { .. }) {
            if ty.name == function {
                return Ok(ty.id.0);
            }
            names.push(ty.name);
        }
    }
    let near = crate::near::nearest(function, names).join(", ");
    let cause = Cause::invalid(format!("the program `{}` has no function `{function}`", program.name()));
    Err(if near.is_empty() { cause } else { cause.action(format!("it has {near}")) })
}

fn line_info(line: &ringfence_plan::LineInfo) -> sys::LineInfo {
    sys::LineInfo { insn: line.insn, file: line.file, text: line.text, line_column: line.line_column }
}

/// A failure that another one has caused.
fn because(error: &Error) -> Cause {
    let mut cause = Cause::new(error.kind(), error.to_string());
    cause.errno = error.errno();
    cause
}
