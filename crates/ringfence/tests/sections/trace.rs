//! Tracepoints, traced functions, security hooks, iterators, tables of functions.

use std::io::Read;
use std::net::{TcpListener, TcpStream};

use ringfence::hook::{Output, Trace};

use crate::cgroup;
use crate::row::{Row, Run, Stop};

const fn row(section: &'static str, fire: crate::row::Fire) -> Row {
    Row::new("sections_trace", section, fire)
}

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("tracepoint", asking),
    row("tp", asking),
    row("tracepoint.s", asking),
    row("tp.s", asking),
    row("raw_tracepoint", asking),
    row("raw_tp", asking),
    row("raw_tracepoint.s", asking),
    row("raw_tp.s", asking),
    row("raw_tracepoint.w", testing_a_packet).with(&["packet"]),
    row("raw_tp.w", testing_a_packet).with(&["packet"]),
    row("tp_btf", asking),
    row("tp_btf.s", asking),
    row("fentry", opening),
    row("fexit", opening),
    row("fsession", opening),
    row("fmod_ret", opening),
    row("fentry.s", testing).with(&["tested"]),
    row("fexit.s", testing).with(&["tested"]),
    row("fsession.s", testing).with(&["tested"]),
    row("fmod_ret.s", testing).with(&["tested"]),
    row("fentry.multi", opening),
    row("fexit.multi", opening),
    row("fsession.multi", opening),
    row("fentry.multi.s", testing).with(&["tested"]),
    row("fexit.multi.s", testing).with(&["tested"]),
    row("fsession.multi.s", testing).with(&["tested"]),
    row("freplace", replacing).with(&["asks"]),
    row("lsm", |run| { opening(run)?; guarded(run) }),
    row("lsm.s", |run| { run.attach()?; execute(); guarded(run) }),
    row("lsm_cgroup", |run| { cgroup::inside(run, cgroup::bind4)?; guarded(run) }),
    row("iter", reading),
    row("iter.s", reading),
    row("syscall", |run| { run.program().call(&mut [])?; Ok(()) }),
    row("struct_ops", congesting).with(&["threshold", "avoid", "undo"]),
    row("struct_ops.s", calling_a_member),
];

pub(crate) fn getpriority() {
    rustix::process::getpriority_process(None).unwrap();
}

pub(crate) fn open_a_file() {
    std::fs::File::open("/dev/null").unwrap();
}

fn execute() {
    // The program itself: a small machine has no other whose place is known.
    let own = std::env::current_exe().unwrap();
    let output = std::process::Command::new(own).arg("--list").output().unwrap();
    assert!(output.status.success());
}

fn asking(run: &Run) -> Result<(), Stop> {
    run.attach()?;
    getpriority();
    Ok(())
}

fn opening(run: &Run) -> Result<(), Stop> {
    run.attach()?;
    open_a_file();
    Ok(())
}

fn testing_a_packet(run: &Run) -> Result<(), Stop> {
    run.attach()?;
    run.loaded.program("packet")?.test_run(&[0; 64], 1)?;
    Ok(())
}

/// A test run of a traced function's program calls `bpf_fentry_test1` and others.
fn testing(run: &Run) -> Result<(), Stop> {
    run.attach()?;
    run.loaded.program("tested")?.test_run(&[], 1)?;
    Ok(())
}

fn replacing(run: &Run) -> Result<(), Stop> {
    run.attach_to(&Trace::new())?;
    assert_eq!(run.loaded.program("asks")?.test_run(&[0; 64], 1)?.retval, 42);
    Ok(())
}

/// Security hooks run programs only where `bpf` is in the list of security modules.
fn guarded(run: &Run) -> Result<(), Stop> {
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    if run.runs() == 0 && !modules.is_empty() && !modules.split(',').any(|module| module.trim() == "bpf") {
        return Err(Stop::Attached(format!("bpf is not among the security modules: {modules}")));
    }
    Ok(())
}

fn reading(run: &Run) -> Result<(), Stop> {
    let link = run.program().attach()?;
    let mut bytes = Vec::new();
    Output::new(&link)?.read_to_end(&mut bytes).unwrap();
    Ok(())
}

fn congesting(run: &Run) -> Result<(), Stop> {
    run.keep(run.loaded.register("table")?);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    rustix::net::sockopt::set_tcp_congestion(&stream, "rf_sections").unwrap();
    Ok(())
}

/// Members of `bpf_dummy_ops` are there to be called for a test: with the address of their state.
fn calling_a_member(run: &Run) -> Result<(), Stop> {
    let mut state = [0u64; 2];
    let mut context = (state.as_mut_ptr().expose_provenance() as u64).to_ne_bytes();
    run.program().call(&mut context)?;
    Ok(())
}
