//! Executing a plan: the one step that changes the kernel.
//!
//! Everything that is made is owned by a value from the moment it exists, so a load that fails half-way leaves nothing: file
//! descriptors close as they are dropped, and pins that this load has made are removed.

mod log;
mod maps;
mod programs;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ringfence_btf::Btf;
use ringfence_kernel::{Feature, Kernel};
use ringfence_plan::Plan;
use ringfence_sys as sys;
use ringfence_uapi::ProgramType;
use rustix::io::Errno;
use sys::BtfFd;

use crate::error::{Cause, Error, Kind, Result};
use crate::loaded::Loaded;
use crate::map::Map;
use crate::program::Program;
use crate::usdt::Specs;
pub(crate) use maps::same_shape;
use maps::{Made, Pins};
pub(crate) use programs::function_in;

/// Loads all of a plan, or nothing.
///
/// ```no_run
/// # fn show(plan: ringfence::Plan, kernel: ringfence::Kernel) -> Result<(), ringfence::Error> {
/// let loaded = ringfence::load(&plan, &kernel)?;
/// let links = loaded.attach_all()?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The plan has a problem, the kernel refuses a map, or the verifier refuses a program: of several, the first in the
/// order of the plan.
pub fn load(plan: &Plan, kernel: &Kernel) -> Result<Loaded> {
    Loader::new(plan, kernel).load()
}

/// How a plan is to be loaded, where [`load`] is not enough.
///
/// ```no_run
/// # fn show(plan: ringfence::Plan, kernel: ringfence::Kernel, shared: ringfence::Map) -> Result<(), ringfence::Error> {
/// let loaded = ringfence::Loader::new(&plan, &kernel).map("counts", &shared).threads(1).load()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Loader<'a> {
    plan: &'a Plan,
    kernel: &'a Kernel,
    targets: Vec<(String, Program)>,
    maps: Vec<(String, Map)>,
    token: Option<BorrowedFd<'a>>,
    log_level: u32,
    threads: Option<usize>,
}

impl<'a> Loader<'a> {
    /// Loads this plan into this kernel, which must be the running one.
    pub fn new(plan: &'a Plan, kernel: &'a Kernel) -> Self {
        Loader { plan, kernel, targets: Vec::new(), maps: Vec::new(), token: None, log_level: 0, threads: None }
    }

    /// The program in which `program` (freplace, or tracing of a program) finds its function.
    pub fn target(mut self, program: &str, target: &Program) -> Self {
        self.targets.push((program.to_owned(), target.clone()));
        self
    }

    /// A map to use instead of making the plan's map of this name.
    pub fn map(mut self, name: &str, map: &Map) -> Self {
        self.maps.push((name.to_owned(), map.clone()));
        self
    }

    /// A BPF token: rights that a bpffs delegates.
    pub fn token(mut self, token: BorrowedFd<'a>) -> Self {
        self.token = Some(token);
        self
    }

    /// What the verifier writes for programs that it accepts too: 1 the path to the error, 2 every path, 4 statistics. The log is
    /// [`Program::log`]. Without this a log is only asked for when a program is refused.
    pub fn log_level(mut self, level: u32) -> Self {
        self.log_level = level;
        self
    }

    /// How many threads load programs; without this as many as pay off.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Loads all, or nothing.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self) -> Result<Loaded> {
        let plan = self.plan;
        if let Some(problem) = plan.problems.first() {
            return Err(self.problem(problem));
        }
        let run = Run::start(self);
        if let Some(error) = run.fatal() {
            return Err(error.clone());
        }
        let mut pins = Pins::default();
        let made = plan.maps.iter().map(|map| run.map(map, &mut pins)).collect::<Result<Vec<Made>>>()?;
        let maps: Vec<_> = made.iter().map(|made| Ok(&made.map)).collect();
        let programs = run.programs(&maps, true).into_iter().collect::<Result<Vec<Program>>>()?;
        run.fill_slots(&made, &programs)?;
        pins.keep();
        let (notices, struct_ops) = (run.notices(), run.struct_ops(&made, &programs)?);
        let maps = made.into_iter().map(|made| made.map).collect();
        Ok(Loaded::new(plan, run.types, maps, programs, struct_ops, notices))
    }

    /// Loads each program for itself, and says for each whether that went well: one that fails, or a map that cannot be
    /// made, does not hide the others. In the order of the plan, its problems last. Pins that this makes are removed again.
    pub fn load_each(&self) -> Vec<(String, Result<Program>)> {
        let run = Run::start(self);
        let mut pins = Pins::default();
        let made: Vec<_> = self.plan.maps.iter().map(|map| run.map(map, &mut pins)).collect();
        let maps: Vec<_> = made.iter().map(|made| made.as_ref().map(|made| &made.map)).collect();
        // What is known without asking the kernel is the better reason.
        let known = |name: &str| self.plan.problems.iter().find(|problem| problem.program == name);
        let mut results: Vec<(String, Result<Program>)> = Vec::new();
        for (plan, result) in self.plan.programs.iter().zip(run.programs(&maps, false)) {
            let result = known(&plan.name).map_or(result, |problem| Err(self.problem(problem)));
            results.push((plan.name.clone(), result));
        }
        for problem in &self.plan.problems {
            if !self.plan.programs.iter().any(|plan| plan.name == problem.program) {
                results.push((problem.program.clone(), Err(self.problem(problem))));
            }
        }
        results
    }

    fn problem(&self, problem: &ringfence_plan::Problem) -> Error {
        let (object, program) = (self.plan.object.clone(), Some(problem.program.clone()));
        Error::Plan { object, program, source: Box::new(problem.error.clone()) }
    }
}

/// What all steps of one load share.
struct Run<'a> {
    loader: &'a Loader<'a>,
    plan: &'a Plan,
    kernel: &'a Kernel,
    /// The object's BTF in the kernel; `None`: it has none.
    btf: Option<Result<BtfFd>>,
    /// The same as bytes, to look names up.
    types: Option<Btf>,
    /// BTF of kernel modules, by name: opened when it is needed.
    modules: Mutex<Vec<(String, Arc<BtfFd>)>>,
    /// What its static probes read: one for all programs, which share its entries.
    usdt: OnceLock<Option<Arc<Specs>>>,
}

impl<'a> Run<'a> {
    fn start(loader: &'a Loader<'a>) -> Run<'a> {
        let (plan, kernel) = (loader.plan, loader.kernel);
        let types = plan.btf.as_ref().and_then(|bytes| Btf::parse(Arc::new(bytes.clone())).ok());
        let mut run = Run { loader, plan, kernel, btf: None, types, modules: Mutex::default(), usdt: OnceLock::new() };
        run.btf = plan.btf.as_deref().map(|bytes| run.load_btf(bytes));
        run
    }

    fn load_btf(&self, bytes: &[u8]) -> Result<BtfFd> {
        let token = self.loader.token;
        let mut errno = match self.with_memory(|| sys::btf_load(bytes, token, None)) {
            Ok(fd) => return Ok(fd),
            Err(errno) => errno,
        };
        let mut log = sys::Log::new(1, log::FIRST_SIZE);
        if errno != Errno::PERM {
            match sys::btf_load(bytes, token, Some(&mut log)) {
                Ok(fd) => return Ok(fd),
                Err(second) => errno = second,
            }
        }
        let text = log.text().trim_end().to_owned();
        let mut cause = match errno {
            Errno::PERM => crate::explain::permission(errno, &self.plan.needs, self.kernel, "BTF".to_owned()),
            _ => crate::explain::plain(errno),
        };
        if let Some(last) = text.lines().last() {
            cause.why = format!("the kernel refuses it: {last}");
        }
        Err(Error::Btf { object: self.plan.object.clone(), cause: cause.into(), log: text })
    }

    /// The error because of which nothing of this can work.
    ///
    /// A kernel that refuses the BTF for what is in it still takes programs and maps without it: they only lose
    /// their types (`bpf_object__sanitize_and_load_btf` of libbpf does the same).
    fn fatal(&self) -> Option<&Error> {
        let error = self.btf.as_ref()?.as_ref().err()?;
        let needed = self.plan.programs.iter().any(|program| needs_btf(program.kind));
        (needed || error.kind() == Kind::Permission).then_some(error)
    }

    fn btf_fd(&self) -> Option<BorrowedFd<'_>> {
        self.btf.as_ref().and_then(|btf| btf.as_ref().ok()).map(BtfFd::as_fd)
    }

    fn notices(&self) -> Vec<String> {
        self.btf
            .iter()
            .filter_map(|btf| btf.as_ref().err())
            .map(|error| format!("{error}; loaded without it"))
            .collect()
    }

    /// Does it, and once more with the limit on locked memory raised where an old kernel counts BPF memory for it: asked only when
    /// it failed, so that new kernels are not asked at all.
    fn with_memory<T>(&self, mut step: impl FnMut() -> sys::Result<T>) -> sys::Result<T> {
        match step() {
            Err(Errno::PERM) if !self.kernel.has(Feature::MemcgAccounting) && raise_memlock() => step(),
            result => result,
        }
    }

    /// BTF of a kernel module.
    fn module(&self, name: &str) -> Result<Arc<BtfFd>, Cause> {
        let mut known = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, fd)) = known.iter().find(|(module, _)| module == name) {
            return Ok(fd.clone());
        }
        let modules = self.kernel.modules().map_err(|error| Cause::new(Kind::Permission, error.to_string()))?;
        let module = modules.iter().find(|module| module.name == name).ok_or_else(|| {
            Cause::new(Kind::Unsupported, format!("the kernel module `{name}` is not loaded, or has no BTF"))
                .action(format!("load it: `modprobe {name}`"))
        })?;
        let fd = sys::open_btf(module.id)
            .map_err(|errno| crate::explain::plain(errno).action("opening a module's BTF takes CAP_SYS_ADMIN"))?;
        let fd = Arc::new(fd);
        known.push((name.to_owned(), fd.clone()));
        Ok(fd)
    }
}

impl std::fmt::Debug for Loader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loader({})", self.plan.object)
    }
}

/// Programs that are nothing without types.
fn needs_btf(kind: ProgramType) -> bool {
    matches!(kind, ProgramType::EXT | ProgramType::STRUCT_OPS)
}

/// Raises the limit on locked memory as far as this process may. `false`: it is as it was.
pub(crate) fn raise_memlock() -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Memlock);
    let all = [Rlimit { current: None, maximum: None }, Rlimit { current: now.maximum, maximum: now.maximum }];
    now.current.is_some() && all.into_iter().any(|limit| limit != now && setrlimit(Resource::Memlock, limit).is_ok())
}
