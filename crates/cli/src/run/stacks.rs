//! Stacks as lines: functions of the kernel and of programs in the place of addresses.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;

use ringfence_tools::symbols::{Symbol, Symbols, base};
use ringfence_value::{Layout, Path, Value};

/// Kernel addresses are negative.
const KERNEL: u64 = 1 << 63;
/// Where addresses of user space end, with five levels of page tables and with fewer.
const USER_END: u64 = 1 << 56;
/// Processes that are remembered.
const MOST_PROCESSES: usize = 4096;
/// Frames of one stack: more only where `kernel.perf_event_max_stack` was raised.
const MOST_FRAMES: usize = 1024;
/// Ends of the names of members that hold a stack, where they are lists of 64-bit numbers.
const NAMES: &[&str] =
    &["stack", "stacks", "stack_trace", "stacktrace", "trace", "callchain", "frames", "ips", "callers", "backtrace"];
/// Members that say whose it is, the best first.
const PROCESSES: &[&str] = &["tgid", "pid"];

/// Names of functions; read when first asked for.
#[derive(Default)]
pub struct Names {
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    symbols: Symbols,
    /// When a process of this number was started, as it was last seen.
    started: HashMap<u32, u64>,
}

/// Addresses of a stack, innermost first, as functions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stack {
    /// The member that holds it, or its number.
    pub path: String,
    pub frames: Vec<String>,
}

impl Names {
    /// `function+0x10 [module]`; `None`: it is no code of the kernel's, or addresses are hidden.
    pub fn kernel(&self, address: u64) -> Option<String> {
        if address < KERNEL {
            return None;
        }
        let mut inner = self.inner.borrow_mut();
        let place = inner.symbols.kernel_place(address)?;
        let module = place.module.map(|module| format!(" {module}")).unwrap_or_default();
        Some(format!("{}+{:#x}{module}", place.function, place.offset))
    }

    /// A stack, innermost address first, up to the first number that is no address: 0, or what a program without frame
    /// pointers has in that place. `process`: whose it is, for what is not the kernel's.
    pub fn lines(&self, process: Option<u32>, addresses: impl IntoIterator<Item = u64>) -> Vec<String> {
        let all: Vec<u64> = addresses.into_iter().take_while(is_address).take(MOST_FRAMES).collect();
        let user: Vec<u64> = all.iter().copied().filter(|address| *address < KERNEL).collect();
        let image = process.filter(|_| !user.is_empty()).and_then(|pid| self.inner.borrow_mut().look(pid, &user));
        let (mut lines, mut innermost) = (Vec::new(), true);
        for address in all {
            match image {
                _ if address >= KERNEL => {
                    lines.push(self.kernel(address).unwrap_or_else(|| format!("{address:#x}")));
                }
                Some(image) => self.inner.borrow_mut().user(image, address, innermost, &mut lines),
                None => lines.push(format!("{address:#x}")),
            }
            innermost = false;
        }
        lines
    }
}

fn is_address(number: &u64) -> bool {
    (1..USER_END).contains(number) || *number >= KERNEL
}

impl Inner {
    /// A process as it is now, or as it was when it was last seen.
    fn look(&mut self, pid: u32, stack: &[u64]) -> Option<(u32, u64)> {
        if let Some(now) = started(pid)
            && (self.started.len() < MOST_PROCESSES || self.started.contains_key(&pid))
            && self.started.insert(pid, now) != Some(now)
        {
            self.symbols.remember((pid, now));
        }
        let image = (pid, *self.started.get(&pid)?);
        self.symbols.follow(image, stack);
        Some(image)
    }

    fn user(&mut self, image: (u32, u64), address: u64, innermost: bool, lines: &mut Vec<String>) {
        // All but the innermost are return addresses: the call is before them.
        let call = if innermost { address } else { address - 1 };
        let found = self.symbols.user(image, call);
        if found.iter().any(|symbol| symbol.known) {
            return lines.extend(found.iter().map(words));
        }
        lines.push(match self.symbols.file_place(image, address) {
            Some((path, offset)) => format!("{}+{offset:#x}", base(path)),
            None => format!("{address:#x}"),
        });
    }
}

/// `main shop.c:9`, `write [libc.so.6]`.
fn words(symbol: &Symbol) -> String {
    let place = match (&symbol.file, symbol.line) {
        (Some(file), Some(line)) => format!("{}:{line}", base(file)),
        _ => format!("[{}]", base(&symbol.module).trim_matches(['[', ']'])),
    };
    let inlined = if symbol.inlined { " (inlined)" } else { "" };
    format!("{} {place}{inlined}", symbol.function)
}

/// When a process was started: tells it from others of its number.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A name may hold blanks and braces; the time is the 22nd field.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

impl Stack {
    /// Lines below the row that it belongs to.
    pub fn draw(&self, out: &mut String) {
        for (n, frame) in self.frames.iter().enumerate() {
            let title = if n == 0 { self.path.rsplit('.').next().unwrap_or_default() } else { "" };
            let _ = writeln!(out, "    {title:<16} {frame}");
        }
    }
}

/// As JSON has them: `_stacks`.
pub fn json(stacks: &[Stack]) -> serde_json::Value {
    stacks.iter().map(|stack| (stack.path.clone(), serde_json::Value::from(stack.frames.clone()))).collect()
}

/// The stacks that events of a type hold.
#[derive(Clone)]
pub struct Members {
    /// Of nothing but them, and whose they are.
    layout: Layout,
    stacks: Vec<String>,
    process: Option<String>,
}

impl Members {
    /// `None`: the type has none. `shown`: what is printed of it.
    pub fn of(whole: &Layout, shown: &Layout) -> Option<Members> {
        let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
        let fields = shown.fields();
        let stacks: Vec<String> =
            fields.into_iter().filter(|name| NAMES.iter().any(|end| last(name).ends_with(end))).collect();
        if stacks.is_empty() {
            return None;
        }
        let all = whole.fields();
        let process = PROCESSES.iter().find_map(|name| all.iter().find(|field| last(field) == *name)).cloned();
        let sizes = stacks.iter().flat_map(|name| size_names(name)).filter(|name| all.contains(name));
        let names = stacks.iter().cloned().chain(process.clone()).chain(sizes);
        let paths: Vec<Path> = names.filter_map(|name| Path::parse(&name)).collect();
        let layout = whole.select(paths.iter()).ok()?;
        Some(Members { layout, stacks, process })
    }

    /// Those of one event.
    pub fn stacks(&self, bytes: &[u8], names: &Names) -> Vec<Stack> {
        let Ok(value) = self.layout.value(bytes) else { return Vec::new() };
        // A selected member is called by its whole path.
        let member = |path: &str| match &value {
            Value::Record(members) => members.iter().find(|(name, _)| name == path).map(|(_, value)| value),
            _ => None,
        };
        let process = self.process.as_deref().and_then(member).and_then(Value::as_u64);
        let process = process.and_then(|pid| u32::try_from(pid).ok());
        let stack = |path: &String| {
            let Some(Value::List(all)) = member(path) else { return None };
            let addresses: Option<Vec<u64>> = all.iter().map(address).collect();
            // What the program says is there; the rest may be what was in that memory before.
            let bytes = size_names(path).iter().find_map(|name| member(name)?.as_i64());
            let filled = bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes / 8).unwrap_or(0));
            let frames = names.lines(process, addresses?.into_iter().take(filled));
            (!frames.is_empty()).then(|| Stack { path: path.clone(), frames })
        };
        self.stacks.iter().filter_map(stack).collect()
    }
}

/// Members that say how many bytes of a stack were filled: what `bpf_get_stack` returned.
fn size_names(stack: &str) -> [String; 2] {
    [format!("{stack}_sz"), format!("{stack}_size")]
}

fn address(value: &Value) -> Option<u64> {
    match value {
        Value::Unsigned(address) | Value::Pointer(address) => Some(*address),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_a_program() {
        let names = Names::default();
        let own = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let line = own.lines().find(|line| line.contains("r-xp") && line.contains('/')).expect("code");
        let start = u64::from_str_radix(line.split('-').next().expect("a start"), 16).expect("a number");
        let here = code_of_a_program as fn() as usize as u64;
        let lines = names.lines(Some(std::process::id()), [here, 16, start + 1, 0, 17]);
        assert!(lines.first().is_some_and(|line| line.contains("code_of_a_program")), "{lines:?}");
        assert_eq!(lines.get(1).map(String::as_str), Some("0x10"));
        // An end of the list is an end; of an unknown process nothing is known.
        assert!(lines.len() >= 3 && !lines.contains(&"0x11".to_owned()), "{lines:?}");
        assert_eq!(names.lines(None, [16]), ["0x10"]);
        assert_eq!(names.kernel(0x1000), None);
        // "n/l/trac": no frame pointer, but text.
        assert_eq!(names.lines(None, [16, 0x6361_7274_2f6c_656e, 17]), ["0x10"]);
    }
}
