//! Addresses as functions, files and lines: of the kernel, of programs, of what JIT compilers made.
//!
//! A process may have ended before its addresses are looked up, its files may be deleted or lie in a container. So [`Symbols::remember`]
//! is to be called when a process is first seen: it keeps where which file is mapped, and holds the files open.

mod jit;
mod kernel;
mod maps;

use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use blazesym::Pid;
use blazesym::symbolize::source::{Elf, Process as OwnProcess, Source};
use blazesym::symbolize::{Input, Sym, Symbolizer};

use kernel::Functions;
pub use kernel::Place;
use maps::{Mapping, Named, What};

/// Files that are held open; of further ones only names are known.
const MOST_FILES: usize = 512;
/// How long a process is left alone that has been looked at for an address that leads nowhere, least and most.
const LEAVE_ALONE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Processes that are remembered.
const MOST_PROCESSES: usize = 65_536;

/// A function at an address, or as much as is known of it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Symbol {
    /// The function, demangled; where it is not known, what the address lies in: `[libc.so.6]`.
    pub function: Rc<str>,
    /// The file that holds it, as its process sees it; `[kernel]`, the module, `[vdso]`, `[jit]`, or empty where nothing is known.
    pub module: Rc<str>,
    /// Source file, where debug information has it.
    pub file: Option<Rc<str>>,
    /// Line in it: of the call, for a function that called another.
    pub line: Option<u32>,
    /// It was compiled into the function behind it.
    pub inlined: bool,
    /// The function is known.
    pub known: bool,
}

/// A process's program: its number, and what tells it from those before and after it of that number.
pub type Image = (u32, u64);

/// Code that a process has mapped.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) addresses: Range<u64>,
    /// Where in the file it begins.
    pub(crate) offset: u64,
    /// `None`: it is of no file.
    pub(crate) file: Option<usize>,
}

#[derive(Debug, Default)]
struct Process {
    mappings: Vec<Mapping<usize>>,
    /// When it may be looked at again, and how long to leave it alone after that.
    again: Option<(Instant, Duration)>,
    jit: Option<File>,
    functions: Option<jit::Functions>,
}

#[derive(Debug)]
struct Held {
    path: Rc<str>,
    /// Where it is opened for reading its symbols.
    open: Option<PathBuf>,
    /// Keeps `open` right.
    _file: Option<File>,
}

/// What is known of programs, and what was found so far.
#[derive(Debug)]
pub struct Symbols {
    symbolizer: Symbolizer,
    processes: HashMap<Image, Process>,
    files: Vec<Held>,
    by_name: HashMap<Named, usize>,
    of_files: HashMap<(usize, u64), Rc<[Symbol]>>,
    of_kernel: HashMap<u64, Rc<[Symbol]>>,
    /// Of the kernel; read when first asked for.
    functions: Option<Functions>,
    texts: HashMap<String, Rc<str>>,
    own_vdso: Option<u64>,
}

impl Default for Symbols {
    fn default() -> Self {
        Symbols::new()
    }
}

impl Symbols {
    /// Knows nothing yet.
    pub fn new() -> Symbols {
        let symbolizer = Symbolizer::builder().enable_auto_reload(false).build();
        let own = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let vdso = maps::parse(&own).into_iter().find(|mapping| mapping.what == What::Vdso);
        Symbols {
            symbolizer,
            processes: HashMap::new(),
            files: Vec::new(),
            by_name: HashMap::new(),
            of_files: HashMap::new(),
            of_kernel: HashMap::new(),
            functions: None,
            texts: HashMap::new(),
            own_vdso: vdso.map(|mapping| mapping.addresses.start),
        }
    }

    /// Looks at a process while it is there: what it has mapped now. What was known of it before stays where nothing else is now.
    /// `false`: it has ended, or has no code of its own.
    pub fn remember(&mut self, image: Image) -> bool {
        let pid = image.0;
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/maps")) else { return false };
        let mappings = maps::parse(&text);
        if mappings.is_empty() || (self.processes.len() >= MOST_PROCESSES && !self.processes.contains_key(&image)) {
            return false;
        }
        let mappings = mappings.into_iter().map(|mapping| self.hold(pid, mapping)).collect();
        let process = self.processes.entry(image).or_default();
        process.mappings = maps::merge(mappings, std::mem::take(&mut process.mappings));
        if process.jit.is_none() && process.mappings.iter().any(|mapping| mapping.what == What::Anonymous) {
            process.jit = jit::open(pid);
        }
        true
    }

    /// Looks at a process again if a stack of it, innermost address first, leads to where nothing was mapped when it was last looked at: a
    /// library that came later. Addresses that a walk without frame pointers made up lead nowhere either, so that what is
    /// behind the innermost one is believed ever less often. `true`: it was looked at.
    pub fn follow(&mut self, image: Image, stack: &[u64]) -> bool {
        let Some(process) = self.processes.get(&image) else {
            return self.remember(image);
        };
        let covered = |address: &u64| maps::at(&process.mappings, *address).is_some();
        let now = Instant::now();
        let (may, wait) = process.again.map_or((true, LEAVE_ALONE.0), |(when, wait)| (now >= when, wait));
        let certain = stack.first().is_some_and(|address| !covered(address));
        if !may || stack.iter().all(covered) {
            return false;
        }
        let looked = self.remember(image);
        if let Some(process) = self.processes.get_mut(&image) {
            let wait = if certain { LEAVE_ALONE.0 } else { (wait * 2).min(LEAVE_ALONE.1) };
            process.again = now.checked_add(wait).map(|when| (when, wait));
        }
        looked
    }

    fn hold(&mut self, pid: u32, mapping: Mapping<Named>) -> Mapping<usize> {
        let Mapping { addresses, offset, what } = mapping;
        let what = match what {
            What::Vdso => What::Vdso,
            What::Anonymous => What::Anonymous,
            What::File(named) => What::File(match self.by_name.get(&named) {
                Some(known) => *known,
                None => {
                    // The very file that is mapped, whatever its path leads to by now; the path needs fewer rights.
                    let exact = format!("/proc/{pid}/map_files/{:x}-{:x}", addresses.start, addresses.end);
                    let by_path = format!("/proc/{pid}/root{}", named.path);
                    let may = self.files.len() < MOST_FILES;
                    let file = may.then(|| File::open(exact).or_else(|_| File::open(by_path)).ok()).flatten();
                    let open = file.as_ref().map(|file| format!("/proc/self/fd/{}", file.as_raw_fd()).into());
                    let path = self.text(named.path.strip_suffix(" (deleted)").unwrap_or(&named.path));
                    self.files.push(Held { path, open, _file: file });
                    self.by_name.insert(named, self.files.len() - 1);
                    self.files.len() - 1
                }
            }),
        };
        Mapping { addresses, offset, what }
    }

    fn text(&mut self, text: &str) -> Rc<str> {
        if let Some(known) = self.texts.get(text) {
            return Rc::clone(known);
        }
        let kept: Rc<str> = text.into();
        self.texts.insert(text.to_owned(), Rc::clone(&kept));
        kept
    }

    /// What lies at an address of the kernel: the function, and those that were compiled into it, innermost first. Never empty.
    pub fn kernel(&mut self, address: u64) -> Rc<[Symbol]> {
        if let Some(known) = self.of_kernel.get(&address) {
            return Rc::clone(known);
        }
        let found = self.kernel_place(address);
        let found = found.map(|place| (place.function.to_owned(), place.module.unwrap_or("[kernel]").to_owned()));
        let symbols = match found {
            Some((name, module)) => self.symbols(Plain { name, place: None, inlined: Vec::new() }, &module),
            None => self.unknown("[kernel]", "[kernel]"),
        };
        self.of_kernel.insert(address, Rc::clone(&symbols));
        symbols
    }

    /// The code that a process has mapped, sorted by address.
    pub(crate) fn code(&self, image: Image) -> impl Iterator<Item = Code> {
        let mappings = self.processes.get(&image).map(|process| process.mappings.as_slice()).unwrap_or_default();
        mappings.iter().map(|mapping| Code {
            addresses: mapping.addresses.clone(),
            offset: mapping.offset,
            file: if let What::File(file) = mapping.what { Some(file) } else { None },
        })
    }

    /// A file by its number in [`Code`]; `None`: it could not be opened when it was first seen.
    pub(crate) fn open(&self, file: usize) -> Option<File> {
        File::open(self.files.get(file)?.open.as_ref()?).ok()
    }

    /// The function of the kernel at an address; `None`: it is no code, or addresses are hidden.
    pub fn kernel_place(&mut self, address: u64) -> Option<Place<'_>> {
        self.functions.get_or_insert_with(Functions::read).at(address)
    }

    /// The file that a process has mapped at an address, and where in it.
    pub fn file_place(&self, image: Image, address: u64) -> Option<(&str, u64)> {
        let mapping = maps::at(&self.processes.get(&image)?.mappings, address)?;
        let What::File(file) = mapping.what else { return None };
        Some((&self.files.get(file)?.path, (address - mapping.addresses.start).saturating_add(mapping.offset)))
    }

    /// What lies at an address of a process, as [`Symbols::kernel`].
    pub fn user(&mut self, image: Image, address: u64) -> Rc<[Symbol]> {
        let Some(process) = self.processes.get_mut(&image) else { return self.unknown("[process ended]", "") };
        let Some(mapping) = maps::at(&process.mappings, address) else { return self.unknown("[unknown]", "") };
        let within = address - mapping.addresses.start;
        match mapping.what {
            What::File(file) => {
                let offset = within.saturating_add(mapping.offset);
                self.file(file, offset)
            }
            What::Vdso => self.vdso(within),
            What::Anonymous => {
                let functions = match (&mut process.functions, &mut process.jit) {
                    (Some(functions), _) => functions,
                    (none, Some(file)) => none.insert(jit::Functions::read(file)),
                    (none, None) => none.insert(jit::Functions::default()),
                };
                match functions.at(address).map(str::to_owned) {
                    Some(name) => self.symbols(Plain { name, place: None, inlined: Vec::new() }, "[jit]"),
                    None => self.unknown("[jit]", "[jit]"),
                }
            }
        }
    }

    fn file(&mut self, file: usize, offset: u64) -> Rc<[Symbol]> {
        if let Some(known) = self.of_files.get(&(file, offset)) {
            return Rc::clone(known);
        }
        let (path, open) = match self.files.get(file) {
            Some(held) => (Rc::clone(&held.path), held.open.clone()),
            None => return self.unknown("[unknown]", ""),
        };
        let found = open.and_then(|open| {
            let source = Source::Elf(Elf::new(open));
            let found = self.symbolizer.symbolize_single(&source, Input::FileOffset(offset)).ok()?;
            found.as_sym().map(Plain::of)
        });
        let symbols = match found {
            Some(plain) => self.symbols(plain, &path),
            None => self.unknown(&format!("[{}]", base(&path)), &path),
        };
        self.of_files.insert((file, offset), Rc::clone(&symbols));
        symbols
    }

    /// All processes of a kind have the same one: ours is looked at.
    fn vdso(&mut self, within: u64) -> Rc<[Symbol]> {
        let found = self.own_vdso.and_then(|start| {
            let source =
                Source::Process(OwnProcess { debug_syms: false, perf_map: false, ..OwnProcess::new(Pid::Slf) });
            let address = start.checked_add(within)?;
            let found = self.symbolizer.symbolize_single(&source, Input::AbsAddr(address)).ok()?;
            found.as_sym().map(Plain::of)
        });
        match found {
            Some(plain) => self.symbols(plain, "[vdso]"),
            None => self.unknown("[vdso]", "[vdso]"),
        }
    }

    fn unknown(&mut self, name: &str, module: &str) -> Rc<[Symbol]> {
        let (function, module) = (self.text(name), self.text(module));
        Rc::new([Symbol { function, module, file: None, line: None, inlined: false, known: false }])
    }

    /// The chain of one address: each function with the line at which the address is in it. blazesym gives the outermost one first.
    fn symbols(&mut self, plain: Plain, module: &str) -> Rc<[Symbol]> {
        let module = self.text(module);
        let mut chain = Vec::with_capacity(plain.inlined.len() + 1);
        let all = std::iter::once((plain.name, plain.place, false))
            .chain(plain.inlined.into_iter().map(|(name, place)| (name, place, true)));
        for (name, place, inlined) in all {
            let function = self.text(&name);
            let (file, line) = match place {
                Some((file, line)) => (Some(self.text(&file)), line),
                None => (None, None),
            };
            chain.push(Symbol { function, module: Rc::clone(&module), file, line, inlined, known: true });
        }
        chain.reverse();
        chain.into()
    }
}

/// The last part of a path.
pub fn base(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

type Line = Option<(String, Option<u32>)>;

/// A symbol that borrows nothing of the symbolizer.
struct Plain {
    name: String,
    place: Line,
    inlined: Vec<(String, Line)>,
}

impl Plain {
    fn of(sym: &Sym<'_>) -> Plain {
        let place =
            |info: &blazesym::symbolize::CodeInfo<'_>| (info.to_path().to_string_lossy().into_owned(), info.line);
        Plain {
            name: sym.name.to_string(),
            place: sym.code_info.as_deref().map(place),
            inlined: sym
                .inlined
                .iter()
                .map(|call| (call.name.to_string(), call.code_info.as_ref().map(place)))
                .collect(),
        }
    }
}
