// A program as aya-ebpf writes it: maps by symbol, helpers through function pointers of a constant address, the event on the
// tests/objects/held/aya.o is this, as Rust 1.95 compiles it for the host (-O, no panics, the IR fitted to LLVM 19) and
// clang-19 -target bpfel that; without its DWARF. No stable Rust compiles for BPF by itself.
// stack or written into a reserved entry.
#![no_std]
#![allow(non_camel_case_types)]
use core::ffi::c_void;
use core::mem::{self, MaybeUninit};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[repr(C)]
pub struct bpf_map_def { type_: u32, key_size: u32, value_size: u32, max_entries: u32, map_flags: u32, id: u32, pinning: u32 }

#[repr(transparent)]
pub struct PerfEventArray(core::cell::UnsafeCell<bpf_map_def>);
unsafe impl Sync for PerfEventArray {}
#[repr(transparent)]
pub struct RingBuf(core::cell::UnsafeCell<bpf_map_def>);
unsafe impl Sync for RingBuf {}

#[unsafe(link_section = "maps")]
#[unsafe(no_mangle)]
static EVENTS: PerfEventArray = PerfEventArray(core::cell::UnsafeCell::new(bpf_map_def {
    type_: 4, key_size: 4, value_size: 4, max_entries: 0, map_flags: 0, id: 0, pinning: 0,
}));
#[unsafe(link_section = "maps")]
#[unsafe(no_mangle)]
static RING: RingBuf = RingBuf(core::cell::UnsafeCell::new(bpf_map_def {
    type_: 27, key_size: 0, value_size: 0, max_entries: 4096, map_flags: 0, id: 0, pinning: 0,
}));

impl PerfEventArray {
    #[inline(always)]
    fn output<T>(&self, ctx: *mut c_void, data: &T) {
        let f: extern "C" fn(*mut c_void, *mut c_void, u64, *mut c_void, u64) -> i64 = unsafe { mem::transmute(25usize) };
        f(ctx, self.0.get() as *mut _, 0xffff_ffff, data as *const T as *mut _, mem::size_of::<T>() as u64);
    }
}
impl RingBuf {
    #[inline(always)]
    fn reserve<T>(&self) -> Option<&'static mut MaybeUninit<T>> {
        let f: extern "C" fn(*mut c_void, u64, u64) -> *mut c_void = unsafe { mem::transmute(131usize) };
        unsafe { (f(self.0.get() as *mut _, mem::size_of::<T>() as u64, 0) as *mut MaybeUninit<T>).as_mut() }
    }
}
#[inline(always)]
fn submit<T>(entry: &mut MaybeUninit<T>) {
    let f: extern "C" fn(*mut c_void, u64) = unsafe { mem::transmute(132usize) };
    f(entry.as_mut_ptr() as *mut _, 0)
}
#[inline(always)]
fn bpf_get_current_pid_tgid() -> u64 {
    let f: extern "C" fn() -> u64 = unsafe { mem::transmute(14usize) };
    f()
}
#[inline(always)]
fn bpf_get_current_uid_gid() -> u64 {
    let f: extern "C" fn() -> u64 = unsafe { mem::transmute(15usize) };
    f()
}
#[inline(always)]
fn bpf_ktime_get_ns() -> u64 {
    let f: extern "C" fn() -> u64 = unsafe { mem::transmute(5usize) };
    f()
}
#[inline(always)]
fn bpf_get_current_comm() -> Result<[u8; 16], i64> {
    let mut comm = [0u8; 16];
    let f: extern "C" fn(*mut c_void, u32) -> i64 = unsafe { mem::transmute(16usize) };
    let ret = f(&mut comm as *mut _ as *mut c_void, 16);
    if ret == 0 { Ok(comm) } else { Err(ret) }
}
#[inline(always)]
unsafe fn bpf_probe_read_user_str_bytes(src: *const u8, dest: &mut [u8]) -> i64 {
    let f: extern "C" fn(*mut c_void, u32, *const c_void) -> i64 = unsafe { mem::transmute(114usize) };
    f(dest.as_mut_ptr() as *mut c_void, dest.len() as u32, src as *const c_void)
}

#[repr(C)]
struct ExecEvent {
    pid: u32,
    uid: u32,
    start: u64,
    comm: [u8; 16],
    argc: u16,
    kind: u8,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/sys_enter")]
pub extern "C" fn exec(ctx: *mut c_void) -> i32 {
    let Ok(comm) = bpf_get_current_comm() else { return 1 };
    let args = ctx as *const u64;
    let event = ExecEvent {
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        uid: bpf_get_current_uid_gid() as u32,
        start: bpf_ktime_get_ns(),
        comm,
        argc: unsafe { *args.add(1) as u16 },
        kind: 2,
    };
    EVENTS.output(ctx, &event);
    0
}

#[repr(C)]
struct OpenEvent {
    stamp: u64,
    tid: u32,
    mode: u32,
    path: [u8; 64],
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/sys_exit")]
pub extern "C" fn open(ctx: *mut c_void) -> i32 {
    let args = ctx as *const u64;
    let Some(entry) = RING.reserve::<OpenEvent>() else { return 0 };
    let event = unsafe { &mut *entry.as_mut_ptr() };
    event.stamp = bpf_ktime_get_ns();
    event.tid = bpf_get_current_pid_tgid() as u32;
    event.mode = unsafe { (*args.add(2) & 0o7777) as u32 };
    unsafe { bpf_probe_read_user_str_bytes(*args as *const u8, &mut event.path) };
    submit(entry);
    0
}
