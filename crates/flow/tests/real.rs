//! Objects that others wrote: what they send, and of which type.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};

use ringfence_flow::{Size, event_types, outputs, slot_scale_is_log2};
use ringfence_object::Object;

fn objects(directory: &str) -> Option<Vec<PathBuf>> {
    let Some(root) = std::env::var_os("RINGFENCE_OBJECTS") else {
        println!("skipped: RINGFENCE_OBJECTS is not set");
        return None;
    };
    let mut found: Vec<PathBuf> = std::fs::read_dir(Path::new(&root).join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "o"))
        .collect();
    found.sort();
    assert!(!found.is_empty());
    Some(found)
}

fn parse(path: &Path) -> Option<Object> {
    Object::parse(&path.file_name().unwrap().to_string_lossy(), &std::fs::read(path).unwrap()).ok()
}

fn size(size: Size) -> String {
    match size {
        Size::Exact(bytes) => bytes.to_string(),
        Size::Between(least, most) => format!("{least}..{most}"),
        Size::Unknown => "?".into(),
    }
}

/// Struct of the records that a map gets, as the tools' own headers say (Debian's source package bpfcc); only where the
/// object's BTF has it. `None`: the type is known, but not in the object.
const LIBBPF_TOOLS: &[(&str, Option<&str>)] = &[
    ("bashreadline", None),
    ("bindsnoop", None),
    ("biosnoop", None),
    ("btrfsslower", None),
    ("capable", Some("cap_event")),
    ("drsnoop", None),
    ("execsnoop", Some("event")),
    ("exitsnoop", None),
    ("ext4slower", None),
    ("filelife", None),
    ("fsslower", None),
    ("gethostlatency", Some("event")),
    ("javagc", Some("data_t")),
    ("killsnoop", Some("event")),
    ("ksnoop", Some("trace")),
    ("mdflush", None),
    ("mountsnoop", None),
    ("nfsslower", None),
    ("oomkill", None),
    ("opensnoop", None),
    ("runqslower", None),
    ("sigsnoop", Some("event")),
    ("solisten", Some("event")),
    ("statsnoop", None),
    ("tcpconnect", None),
    ("tcpconnlat", None),
    ("tcplife", None),
    ("tcpstates", None),
    ("tcptracer", None),
    ("xfsslower", None),
];

#[test]
fn libbpf_tools() {
    for path in objects("libbpf-tools").unwrap_or_default() {
        let object = parse(&path).unwrap();
        let truth = LIBBPF_TOOLS.iter().find(|(name, _)| *name == object.name);
        let choices = event_types(&object, None);
        assert_eq!(!choices.is_empty(), truth.is_some(), "{}", object.name);
        for choice in choices {
            let chosen = choice.chosen.as_ref();
            println!(
                "{:14} {:16} {:10} {:10} {:8} {}",
                object.name,
                object.maps[choice.map.0].name,
                size(choice.size),
                chosen.map_or("-", |chosen| &chosen.name),
                chosen.map_or("-".into(), |chosen| format!("{:?}", chosen.basis)),
                choice.said.as_deref().unwrap_or_default(),
            );
            assert_eq!(chosen.map(|chosen| &*chosen.name), truth.and_then(|(_, name)| *name), "{}", object.name);
            assert!(!choice.ambiguous);
        }
    }
}

#[test]
fn log2_histograms() {
    let linear = ["cpufreq", "runqlen"];
    let log2 =
        ["biolatency", "bitesize", "cpudist", "ext4dist", "funclatency", "hardirqs", "runqlat", "softirqs", "tcprtt"];
    for path in objects("libbpf-tools").unwrap_or_default() {
        let object = parse(&path).unwrap();
        if log2.contains(&&*object.name) || linear.contains(&&*object.name) {
            assert_eq!(slot_scale_is_log2(&object), log2.contains(&&*object.name), "{}", object.name);
        }
    }
}

/// Everything that the kernel's own tests do: in bounded time, and each record has a map.
#[test]
fn every_object() {
    for directory in ["libbpf-tools", "xdp-tools", "selftests"] {
        for object in objects(directory).unwrap_or_default().iter().filter_map(|path| parse(path)) {
            let start = std::time::Instant::now();
            for output in outputs(&object) {
                assert!(object.functions[output.function.0].insns[output.insn].is_helper_call());
                assert!(output.map.is_some(), "{} {output:?}", object.name);
            }
            event_types(&object, None);
            assert!(start.elapsed().as_secs() < 10, "{}: {:?}", object.name, start.elapsed());
        }
    }
}
