//! libbpf behind owned values: as much of it as the comparison needs.

use libbpf_sys as sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::Mutex;

/// What libbpf printed since the last operation began.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

unsafe extern "C" {
    fn vsnprintf(to: *mut c_char, size: usize, format: *const c_char, list: *mut sys::__va_list_tag) -> c_int;
}

unsafe extern "C" fn print(
    level: sys::libbpf_print_level,
    format: *const c_char,
    list: *mut sys::__va_list_tag,
) -> c_int {
    if level == sys::LIBBPF_WARN {
        let mut line = vec![0u8; 1 << 20];
        // SAFETY: `line` is writable for its length; format and list are libbpf's and belong together.
        let length = unsafe { vsnprintf(line.as_mut_ptr().cast(), line.len(), format, list) };
        line.truncate(usize::try_from(length).unwrap_or(0).min(line.len() - 1));
        LOG.lock().unwrap().extend(line);
    }
    0
}

/// Once, before anything else.
pub fn prepare_process() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: plain values; a refusal is of no consequence where the kernel charges memory to cgroups.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &unlimited) };
    // SAFETY: `print` has the signature that libbpf asks for.
    unsafe { sys::libbpf_set_print(Some(print)) };
}

/// Makes these types those of the running kernel, for this process alone: libbpf has no other way to be told, except for
/// CO-RE. Their file is mounted over the kernel's in a mount namespace of our own.
pub fn pretend(btf: &Path) -> std::io::Result<()> {
    let btf = CString::new(btf.as_os_str().as_bytes())?;
    let check = |result: c_int| if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    // SAFETY: no memory is involved.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: constant strings, and null where mount(2) takes no string for these flags.
    check(unsafe { libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), private, ptr::null()) })?;
    let place = c"/sys/kernel/btf/vmlinux".as_ptr();
    // SAFETY: as above; `btf` outlives the call.
    check(unsafe { libc::mount(btf.as_ptr(), place, ptr::null(), libc::MS_BIND, ptr::null()) })
}

/// Why libbpf refused.
pub struct Failure {
    /// Positive.
    pub errno: i32,
    /// The line that says most.
    pub reason: String,
}

impl Failure {
    fn new(code: c_int) -> Failure {
        let log = std::mem::take(&mut *LOG.lock().unwrap());
        Failure { errno: code.abs(), reason: reason(&String::from_utf8_lossy(&log)) }
    }
}

/// The verifier's last word, or else libbpf's first.
fn reason(log: &str) -> String {
    let verifier = log
        .split_once("-- BEGIN PROG LOAD LOG --")
        .and_then(|(_, rest)| rest.split_once("-- END PROG LOAD LOG --"))
        .map(|(text, _)| text);
    let noise = ["processed ", "verification time", "stack depth", "insns processed"];
    let last = verifier.and_then(|text| {
        let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        lines.rfind(|line| !noise.iter().any(|noise| line.starts_with(noise)))
    });
    match last {
        Some(line) => format!("verifier: {line}"),
        None => {
            let mut lines = log.lines().filter(|line| !line.contains("Retrying without BTF"));
            lines.find(|line| line.starts_with("libbpf:")).unwrap_or_default().to_string()
        }
    }
}

/// A program of an object.
pub struct ProgramInfo {
    pub name: String,
    pub section: String,
    pub kind: String,
    pub autoload: bool,
}

/// An open object; closed with its owner.
pub struct Object {
    raw: *mut sys::bpf_object,
    programs: Vec<*mut sys::bpf_program>,
    maps: Vec<*mut sys::bpf_map>,
    /// Maps made in place of the object's own.
    made: Vec<OwnedFd>,
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: `raw` came from `bpf_object__open_file` and is closed once.
        unsafe { sys::bpf_object__close(self.raw) }
    }
}

fn options(name: *const c_char) -> sys::bpf_object_open_opts {
    sys::bpf_object_open_opts {
        sz: size_of::<sys::bpf_object_open_opts>() as sys::size_t,
        object_name: name,
        ..Default::default()
    }
}

fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: libbpf's strings end in a zero and live as long as their object.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

impl Object {
    /// Opens an object.
    pub fn open(file: &Path) -> Result<Object, Failure> {
        LOG.lock().unwrap().clear();
        let file = CString::new(file.as_os_str().as_bytes()).expect("a path has no zero byte");
        // SAFETY: the strings and options outlive the call; libbpf copies what it keeps.
        Object::opened(unsafe { sys::bpf_object__open_file(file.as_ptr(), &options(ptr::null())) })
    }

    /// Opens the bytes of an object of that name.
    pub fn open_bytes(name: &str, bytes: &[u8]) -> Result<Object, Failure> {
        LOG.lock().unwrap().clear();
        let name = CString::new(name).expect("a file's name has no zero byte");
        let (start, size) = (bytes.as_ptr().cast(), bytes.len() as sys::size_t);
        // SAFETY: as in `open`; libbpf reads the bytes while it opens, and later from its own copy of what it needs.
        Object::opened(unsafe { sys::bpf_object__open_mem(start, size, &options(name.as_ptr())) })
    }

    fn opened(raw: *mut sys::bpf_object) -> Result<Object, Failure> {
        if raw.is_null() {
            return Err(Failure::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)));
        }
        let (mut programs, mut maps) = (Vec::new(), Vec::new());
        let (mut program, mut map) = (ptr::null_mut(), ptr::null_mut());
        loop {
            // SAFETY: `raw` is open, and `program` is null or one of its own.
            program = unsafe { sys::bpf_object__next_program(raw, program) };
            if program.is_null() {
                break;
            }
            programs.push(program);
        }
        loop {
            // SAFETY: as above.
            map = unsafe { sys::bpf_object__next_map(raw, map) };
            if map.is_null() {
                break;
            }
            // SAFETY: `map` belongs to `raw`. A pinned map would outlive this process.
            unsafe { sys::bpf_map__set_pin_path(map, ptr::null()) };
            maps.push(map);
        }
        Ok(Object { raw, programs, maps, made: Vec::new() })
    }

    /// The object's programs, in libbpf's order.
    pub fn programs(&self) -> Vec<ProgramInfo> {
        let info = |&program: &*mut sys::bpf_program| {
            // SAFETY: `program` belongs to the open object.
            unsafe {
                ProgramInfo {
                    name: text(sys::bpf_program__name(program)),
                    section: text(sys::bpf_program__section_name(program)),
                    kind: text(sys::libbpf_bpf_prog_type_str(sys::bpf_program__type(program))),
                    autoload: sys::bpf_program__autoload(program),
                }
            }
        };
        self.programs.iter().map(info).collect()
    }

    /// Loads only one program, by its place in [`Object::programs`].
    pub fn only(&mut self, index: usize) {
        let mut struct_ops = false;
        for (at, &program) in self.programs.iter().enumerate() {
            // SAFETY: `program` belongs to the open object, which is not loaded yet.
            unsafe {
                sys::bpf_program__set_autoload(program, at == index);
                struct_ops |= at == index && sys::bpf_program__type(program) == sys::BPF_PROG_TYPE_STRUCT_OPS;
            }
        }
        // A struct_ops map brings along every program that it names.
        if !struct_ops {
            for &map in &self.maps {
                // SAFETY: `map` belongs to the open object, which is not loaded yet.
                unsafe {
                    if sys::bpf_map__type(map) == sys::BPF_MAP_TYPE_STRUCT_OPS {
                        sys::bpf_map__set_autocreate(map, false);
                    }
                }
            }
        }
    }

    /// Puts a map of another kind in the place of each struct_ops map, so that the kernel is not asked for one.
    pub fn without_struct_ops(&mut self) {
        for &map in &self.maps {
            // SAFETY: the maps belong to the open object, which is not loaded yet; libbpf duplicates the descriptor.
            unsafe {
                if sys::bpf_map__type(map) == sys::BPF_MAP_TYPE_STRUCT_OPS {
                    let fd = create(sys::BPF_MAP_TYPE_HASH, 4, 4, 1);
                    if fd >= 0 {
                        sys::bpf_map__reuse_fd(map, fd);
                        self.made.push(OwnedFd::from_raw_fd(fd));
                    }
                }
            }
        }
    }

    /// Gives sizes to the maps that real user space sizes at run time; whether there was any.
    pub fn fill_in(&mut self) -> bool {
        const RINGS: &[u32] = &[sys::BPF_MAP_TYPE_RINGBUF, sys::BPF_MAP_TYPE_USER_RINGBUF];
        const WITHOUT_ENTRIES: &[u32] = &[
            sys::BPF_MAP_TYPE_PERF_EVENT_ARRAY,
            sys::BPF_MAP_TYPE_SK_STORAGE,
            sys::BPF_MAP_TYPE_TASK_STORAGE,
            sys::BPF_MAP_TYPE_INODE_STORAGE,
            sys::BPF_MAP_TYPE_CGRP_STORAGE,
            sys::BPF_MAP_TYPE_STRUCT_OPS,
            sys::BPF_MAP_TYPE_CGROUP_STORAGE,
            sys::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
        ];
        const OUTER: &[u32] = &[sys::BPF_MAP_TYPE_HASH_OF_MAPS, sys::BPF_MAP_TYPE_ARRAY_OF_MAPS];
        let mut filled = false;
        for &map in &self.maps {
            // SAFETY: the maps belong to the open object, which is not loaded yet.
            unsafe {
                let kind = sys::bpf_map__type(map);
                let inner = sys::bpf_map__inner_map(map);
                let fd = if !inner.is_null() && sys::bpf_map__max_entries(inner) == 0 {
                    let kind = sys::bpf_map__type(inner);
                    match RINGS.contains(&kind) {
                        true => create(kind, 0, 0, 4096),
                        false => create(kind, sys::bpf_map__key_size(inner), sys::bpf_map__value_size(inner), 1),
                    }
                } else if inner.is_null() && OUTER.contains(&kind) {
                    create(sys::BPF_MAP_TYPE_HASH, 4, 4, 16)
                } else {
                    -1
                };
                if fd >= 0 {
                    sys::bpf_map__set_inner_map_fd(map, fd);
                    self.made.push(OwnedFd::from_raw_fd(fd));
                    filled = true;
                }
                if sys::bpf_map__max_entries(map) == 0 && !WITHOUT_ENTRIES.contains(&kind) {
                    sys::bpf_map__set_max_entries(map, if RINGS.contains(&kind) { 4096 } else { 1 });
                    filled = true;
                }
                const KEYED: &[u32] = &[sys::BPF_MAP_TYPE_HASH, sys::BPF_MAP_TYPE_ARRAY];
                if sys::bpf_map__key_size(map) == 0 && KEYED.contains(&kind) {
                    sys::bpf_map__set_key_size(map, 4);
                    filled = true;
                }
                let value = match kind {
                    sys::BPF_MAP_TYPE_STACK_TRACE => 127 * 8,
                    sys::BPF_MAP_TYPE_HASH | sys::BPF_MAP_TYPE_ARRAY | sys::BPF_MAP_TYPE_BLOOM_FILTER => 8,
                    _ => 0,
                };
                if sys::bpf_map__value_size(map) == 0 && value != 0 {
                    sys::bpf_map__set_value_size(map, value);
                    filled = true;
                }
            }
        }
        filled
    }

    /// Creates the maps and relocates the programs, but loads none.
    pub fn prepare(&mut self) -> Result<(), Failure> {
        LOG.lock().unwrap().clear();
        // SAFETY: `raw` is open and not loaded yet.
        match unsafe { sys::bpf_object__prepare(self.raw) } {
            0 => Ok(()),
            code => Err(Failure::new(code)),
        }
    }

    /// Loads what is not switched off.
    pub fn load(&mut self) -> Result<(), Failure> {
        LOG.lock().unwrap().clear();
        // SAFETY: `raw` is open and not loaded yet.
        match unsafe { sys::bpf_object__load(self.raw) } {
            0 => Ok(()),
            code => Err(Failure::new(code)),
        }
    }

    /// A program's instructions as text, by its place in [`Object::programs`]. After [`Object::prepare`].
    pub fn instructions(&self, index: usize) -> String {
        const WIDE: u8 = 0x18;
        let program = self.programs[index];
        // SAFETY: `program` belongs to the object; libbpf keeps `count` instructions there until it is closed.
        let instructions = unsafe {
            std::slice::from_raw_parts(sys::bpf_program__insns(program), sys::bpf_program__insn_cnt(program) as usize)
        };
        let (mut lines, mut second) = (String::new(), false);
        for instruction in instructions {
            let wide = !second && instruction.code == WIDE;
            let map =
                wide && [sys::BPF_PSEUDO_MAP_FD, sys::BPF_PSEUDO_MAP_VALUE].contains(&instruction.src_reg().into());
            let value = if map { self.map(instruction.imm) } else { instruction.imm.to_string() };
            let (code, offset) = (instruction.code, instruction.off);
            let (to, from) = (instruction.dst_reg(), instruction.src_reg());
            writeln!(lines, "{code:02x} {to} {from} {offset} {value}").expect("a string takes all");
            second = wide;
        }
        lines
    }

    fn map(&self, fd: i32) -> String {
        // SAFETY: the maps belong to the object.
        let found = self.maps.iter().find(|&&map| unsafe { sys::bpf_map__fd(map) } == fd);
        // SAFETY: as above.
        found.map_or("?".into(), |&map| format!("map:{}", text(unsafe { sys::bpf_map__name(map) })))
    }
}

/// A map like the inner ones shall be; -1 where the kernel refuses.
fn create(kind: u32, key: u32, value: u32, entries: u32) -> c_int {
    // SAFETY: plain values and a constant string.
    unsafe { sys::bpf_map_create(kind, c"inner".as_ptr(), key, value, entries, ptr::null()) }
}
