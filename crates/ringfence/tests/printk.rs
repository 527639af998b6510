//! `bpf_printk`, attributed to its program.

mod common;

use std::time::{Duration, Instant};

use common::{load, object};
use ringfence::printk::{Printk, Writer};
use ringfence::{Kernel, Settings};

#[test]
fn each_line_has_its_program() {
    let settings = Settings::new()
        .global("target", std::process::id())
        .global("getuid_number", u32::try_from(libc::SYS_getuid).unwrap());
    let kernel = Kernel::running();
    let plan = ringfence::plan(&object("trace"), &kernel, &settings).unwrap();
    assert!(Printk::needed(&plan));
    let (loaded, others) = (load(&plan), load(&plan));
    let mut printk = Printk::open(&plan, &loaded).unwrap();
    assert!(!printk.consumes(), "the tracepoint is there since 5.9");
    let links = loaded.attach_all().unwrap();
    let _others = others.attach("raw_tp").unwrap();
    let _ = rustix::process::getuid();
    let mut seen = Vec::new();
    let start = Instant::now();
    while seen.len() < 3 && start.elapsed() < Duration::from_secs(10) {
        printk
            .poll(Some(Duration::from_millis(100)), |message| {
                let ours = format!("saw {}", std::process::id());
                if message.text.ends_with(&ours) {
                    let writer = match &message.writer {
                        Writer::Program(name) => (*name).to_owned(),
                        other => format!("{other:?}"),
                    };
                    seen.push((writer, message.text.replace(&ours, ""), message.task.to_owned()));
                    assert!(message.time_ns > 0);
                }
            })
            .unwrap();
    }
    drop(links);
    seen.sort();
    let said: Vec<(&str, &str)> = seen.iter().map(|(writer, text, _)| (writer.as_str(), text.trim())).collect();
    // The same program, loaded by somebody else, says the same: the stack tells them apart.
    assert_eq!(said, [("Other", "raw tracepoint"), ("raw_tp", "raw tracepoint"), ("tracepoint", "tracepoint")]);
    let comm = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    assert!(seen.iter().all(|(_, _, task)| task == comm.trim_end()), "{seen:?}");
    assert_eq!(printk.lost().unwrap(), 0);
}

#[test]
fn an_object_that_says_nothing_needs_no_reader() {
    let plan = ringfence::plan(&object("call"), &Kernel::running(), &Settings::new()).unwrap();
    assert!(!Printk::needed(&plan));
}
