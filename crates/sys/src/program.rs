//! Programs and BTF: loading with the verifier's log, and running a program once for a test.

use std::borrow::Cow;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use ringfence_uapi::{AttachType, Command, Insn, ProgramType};
use rustix::io::Errno;

use crate::attr::{BindMapAttr, BtfLoadAttr, Plain, ProgLoadAttr, TestAttr};
use crate::call::{address, address_mut, bpf, bpf_fd, length, object_name};
use crate::fd::{BtfFd, ProgramFd};
use crate::{Result, flags};

/// A buffer for what the verifier writes.
#[derive(Clone, Debug)]
pub struct Log {
    level: u32,
    buffer: Vec<u8>,
    true_size: u32,
}

impl Log {
    /// The shortest one that kernels before 5.20 take (`bpf_verifier_log_attr_valid`: at least 128).
    pub const MIN_SIZE: usize = 128;
    /// The longest one (`UINT_MAX >> 2`).
    pub const MAX_SIZE: usize = (u32::MAX >> 2) as usize;

    /// Room for `size` bytes (brought between [`Log::MIN_SIZE`] and [`Log::MAX_SIZE`]).
    ///
    /// Level: 1 the path to the error, 2 every path, 4 statistics alone.
    pub fn new(level: u32, size: usize) -> Self {
        Self { level, buffer: vec![0; size.clamp(Self::MIN_SIZE, Self::MAX_SIZE)], true_size: 0 }
    }

    /// What was written.
    pub fn text(&self) -> Cow<'_, str> {
        let end = self.buffer.iter().position(|byte| *byte == 0).unwrap_or(self.buffer.len());
        String::from_utf8_lossy(&self.buffer[..end])
    }

    /// Bytes of room.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes that the whole log takes, its final zero included; `None`: a kernel before 6.4 does not say.
    pub fn true_size(&self) -> Option<usize> {
        (self.true_size != 0).then_some(self.true_size as usize)
    }
}

/// `struct bpf_func_info`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FuncInfo {
    /// Instruction at which the function starts.
    pub insn: u32,
    /// Its type.
    pub ty: u32,
}

/// `struct bpf_line_info`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineInfo {
    /// Instruction.
    pub insn: u32,
    /// String offset of the file's name.
    pub file: u32,
    /// String offset of the line's text.
    pub text: u32,
    /// Line number << 10 | column.
    pub line_column: u32,
}

/// To what a program belongs at load time.
#[derive(Clone, Copy, Debug, Default)]
pub enum Target<'a> {
    /// Nothing.
    #[default]
    None,
    /// A type of the kernel's BTF.
    Kernel {
        /// The type.
        btf_id: u32,
    },
    /// A type of a module's BTF.
    Module {
        /// The BTF.
        btf: BorrowedFd<'a>,
        /// The type.
        btf_id: u32,
    },
    /// A function of another program.
    Program {
        /// The program.
        program: BorrowedFd<'a>,
        /// The function, in that program's BTF.
        btf_id: u32,
    },
}

/// What `BPF_PROG_LOAD` takes. Start from [`ProgLoad::new`].
#[derive(Clone, Copy, Debug)]
pub struct ProgLoad<'a> {
    /// What it is.
    pub kind: ProgramType,
    /// Hook for which it is verified; `AttachType(0)` where the kind has none.
    pub attach_type: AttachType,
    /// Instructions.
    pub insns: &'a [Insn],
    /// Text of the licence.
    pub license: &'a str,
    /// Its name: at most 15 bytes; empty: none.
    pub name: &'a str,
    /// `BPF_F_*`; the flag of the token is added by itself.
    pub flags: u32,
    /// `KERNEL_VERSION`, which kprobes had to give before 5.0.
    pub kernel_version: u32,
    /// Device to which it is bound, 0: none.
    pub ifindex: u32,
    /// BTF that the records below refer to.
    pub btf: Option<BorrowedFd<'a>>,
    /// Functions.
    pub funcs: &'a [FuncInfo],
    /// Lines.
    pub lines: &'a [LineInfo],
    /// To what it belongs.
    pub target: Target<'a>,
    /// Descriptors to which instructions refer by place: maps, BTF of modules (`None`: an empty place;
    /// the first place of kfunc calls stands for the kernel).
    pub fd_array: &'a [Option<BorrowedFd<'a>>],
    /// Bind every map of `fd_array` to the program, and tell the kernel its length (6.14).
    pub bind_fd_array: bool,
    /// Rights by a token.
    pub token: Option<BorrowedFd<'a>>,
}

impl<'a> ProgLoad<'a> {
    /// A program with these instructions and nothing else.
    pub fn new(kind: ProgramType, insns: &'a [Insn], license: &'a str) -> Self {
        Self {
            kind,
            attach_type: AttachType(0),
            insns,
            license,
            name: "",
            flags: 0,
            kernel_version: 0,
            ifindex: 0,
            btf: None,
            funcs: &[],
            lines: &[],
            target: Target::None,
            fd_array: &[],
            bind_fd_array: false,
            token: None,
        }
    }

    /// The descriptors as numbers, long enough for every place to which an instruction refers: the kernel
    /// reads the array without knowing where it ends.
    fn fd_numbers(&self) -> Result<Vec<i32>> {
        let mut numbers: Vec<i32> = self.fd_array.iter().map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd())).collect();
        let highest = self.insns.iter().filter_map(|insn| {
            if insn.is_kfunc_call() {
                usize::try_from(insn.off).ok()
            } else if insn.is_ld_imm64() && matches!(insn.src, Insn::PSEUDO_MAP_IDX | Insn::PSEUDO_MAP_IDX_VALUE) {
                // Negative places are taken as unsigned by the kernel.
                Some(insn.imm.cast_unsigned() as usize)
            } else {
                None
            }
        });
        let needed = highest.max().filter(|place| *place > 0).map_or(0, |place| place + 1);
        if needed > 1 << 16 {
            return Err(Errno::INVAL);
        }
        numbers.resize(numbers.len().max(needed), -1);
        Ok(numbers)
    }
}

/// `EAGAIN` comes from `BPF_PROG_LOAD` when a signal is pending (`bpf_check` gives way); libbpf tries 5 times
/// (`PROG_LOAD_ATTEMPTS`).
const LOAD_ATTEMPTS: u32 = 5;

/// `BPF_PROG_LOAD`. The log, where one is given, is filled in success and failure alike.
///
/// # Errors
/// What the kernel says; `ENAMETOOLONG`: the name is longer than 15 bytes; `EINVAL`: the licence holds a
/// zero byte, or an instruction refers to a place beyond 65,535 of the descriptors.
pub fn prog_load(load: &ProgLoad<'_>, mut log: Option<&mut Log>) -> Result<ProgramFd> {
    let insns: Vec<[u8; 8]> = load.insns.iter().map(|insn| insn.to_native()).collect();
    let license = std::ffi::CString::new(load.license).map_err(|_| Errno::INVAL)?;
    let fds = load.fd_numbers()?;
    let mut attr = ProgLoadAttr {
        prog_type: load.kind.0,
        insn_cnt: length(insns.len())?,
        insns: address(&insns),
        license: address(license.as_bytes_with_nul()),
        kern_version: load.kernel_version,
        prog_flags: load.flags,
        prog_name: object_name(load.name)?,
        prog_ifindex: load.ifindex,
        expected_attach_type: load.attach_type.0,
        fd_array: address(&fds),
        ..ProgLoadAttr::ZERO
    };
    if load.bind_fd_array {
        attr.fd_array_cnt = length(load.fd_array.len())?;
    }
    if let Some(btf) = load.btf {
        attr.prog_btf_fd = btf.as_raw_fd();
    }
    if !load.funcs.is_empty() {
        attr.func_info_rec_size = size_of::<FuncInfo>() as u32;
        attr.func_info = address(load.funcs);
        attr.func_info_cnt = length(load.funcs.len())?;
    }
    if !load.lines.is_empty() {
        attr.line_info_rec_size = size_of::<LineInfo>() as u32;
        attr.line_info = address(load.lines);
        attr.line_info_cnt = length(load.lines.len())?;
    }
    match load.target {
        Target::None => {}
        Target::Kernel { btf_id } => attr.attach_btf_id = btf_id,
        Target::Module { btf, btf_id } => {
            attr.attach_btf_id = btf_id;
            attr.attach_btf_obj_fd = btf.as_raw_fd();
        }
        Target::Program { program, btf_id } => {
            attr.attach_btf_id = btf_id;
            attr.attach_btf_obj_fd = program.as_raw_fd();
        }
    }
    if let Some(token) = load.token {
        attr.prog_token_fd = token.as_raw_fd();
        attr.prog_flags |= flags::BPF_F_TOKEN_FD;
    }
    if let Some(log) = &mut log {
        log.buffer.fill(0);
        attr.log_level = log.level;
        attr.log_size = length(log.buffer.len())?;
        attr.log_buf = address_mut(&mut log.buffer);
    }
    let mut attempts = LOAD_ATTEMPTS;
    let result = loop {
        attempts -= 1;
        // SAFETY: every address is that of a buffer of this function or of its arguments, with its length
        // beside it; the descriptors' array is as long as the highest place that an instruction names; the
        // licence ends with a zero byte. The kernel writes to the log alone.
        match unsafe { bpf_fd(Command::PROG_LOAD, &mut attr) } {
            Err(Errno::AGAIN) if attempts > 0 => {}
            result => break result,
        }
    };
    if let Some(log) = log {
        log.true_size = attr.log_true_size;
    }
    result.map(ProgramFd::new)
}

/// `BPF_BTF_LOAD`.
///
/// # Errors
/// What the kernel says.
pub fn btf_load(btf: &[u8], token: Option<BorrowedFd<'_>>, mut log: Option<&mut Log>) -> Result<BtfFd> {
    let mut attr = BtfLoadAttr { btf: address(btf), btf_size: length(btf.len())?, ..BtfLoadAttr::ZERO };
    if let Some(token) = token {
        attr.btf_token_fd = token.as_raw_fd();
        attr.btf_flags |= flags::BPF_F_TOKEN_FD;
    }
    if let Some(log) = &mut log {
        log.buffer.fill(0);
        attr.btf_log_level = log.level;
        attr.btf_log_size = length(log.buffer.len())?;
        attr.btf_log_buf = address_mut(&mut log.buffer);
    }
    // SAFETY: both buffers are as long as the fields beside them say.
    let result = unsafe { bpf_fd(Command::BTF_LOAD, &mut attr) };
    if let Some(log) = log {
        log.true_size = attr.btf_log_true_size;
    }
    result.map(BtfFd::new)
}

/// `BPF_PROG_BIND_MAP`: the program keeps the map from now on.
///
/// # Errors
/// What the kernel says.
pub fn prog_bind_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<()> {
    let mut attr = BindMapAttr { prog_fd: program.as_raw_fd(), map_fd: map.as_raw_fd(), flags: 0 };
    // SAFETY: no addresses.
    unsafe { bpf(Command::PROG_BIND_MAP, &mut attr) }.map(drop)
}

/// What `BPF_PROG_TEST_RUN` takes; all empty to begin with.
#[derive(Debug, Default)]
pub struct TestRun<'a> {
    /// The packet.
    pub data_in: &'a [u8],
    /// Room for the packet afterwards.
    pub data_out: &'a mut [u8],
    /// The context. Programs of the syscall kind write to it.
    pub ctx_in: &'a mut [u8],
    /// Room for the context afterwards.
    pub ctx_out: &'a mut [u8],
    /// How often to run; 0: once.
    pub repeat: u32,
    /// `BPF_F_TEST_*`.
    pub flags: u32,
    /// On which CPU ([`flags::BPF_F_TEST_RUN_ON_CPU`]).
    pub cpu: u32,
    /// Frames of a batch ([`flags::BPF_F_TEST_XDP_LIVE_FRAMES`]); 0: 64.
    pub batch_size: u32,
}

/// What a test run gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TestRunResult {
    /// What the program returned last.
    pub retval: u32,
    /// Mean time of a run.
    pub duration: Duration,
    /// Length of the packet afterwards, also when there was too little room for it.
    pub data_len: usize,
    /// Length of the context afterwards, also when there was too little room for it.
    pub ctx_len: usize,
}

/// `BPF_PROG_TEST_RUN`.
///
/// # Errors
/// `ENOSPC`: too little room for the packet or the context afterwards; 524 (`ENOTSUPP`): this kind of
/// program cannot be run so; what else the kernel says.
pub fn test_run(program: BorrowedFd<'_>, run: &mut TestRun<'_>) -> Result<TestRunResult> {
    let mut attr = TestAttr {
        prog_fd: program.as_raw_fd(),
        data_size_in: length(run.data_in.len())?,
        data_size_out: length(run.data_out.len())?,
        data_in: address(run.data_in),
        data_out: address_mut(run.data_out),
        repeat: run.repeat,
        ctx_size_in: length(run.ctx_in.len())?,
        ctx_size_out: length(run.ctx_out.len())?,
        ctx_in: address_mut(run.ctx_in),
        ctx_out: address_mut(run.ctx_out),
        flags: run.flags,
        cpu: run.cpu,
        batch_size: run.batch_size,
        ..TestAttr::ZERO
    };
    // SAFETY: each buffer is as long as the field beside it says, and one without room has no address (a
    // length of 0 with an address means "write all" to bpf_test_finish); the context is writable because
    // bpf_prog_test_run_syscall writes it back to where it was read.
    unsafe { bpf(Command::PROG_TEST_RUN, &mut attr)? };
    Ok(TestRunResult {
        retval: attr.retval,
        duration: Duration::from_nanos(u64::from(attr.duration)),
        data_len: attr.data_size_out as usize,
        ctx_len: attr.ctx_size_out as usize,
    })
}
