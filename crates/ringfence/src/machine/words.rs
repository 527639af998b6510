//! Places of links in words: kind, and which.

use std::collections::BTreeMap;

use ringfence_kernel::Kernel;
use ringfence_sys::{LinkDetails, LinkInfo, PerfLinkDetails, flags};
use ringfence_uapi::{AttachType, ProgramType};

use super::Machine;
use super::cgroups::Cgroups;
use super::network::Network;
use ringfence_btf::{Btf, TypeId};

/// What the link alone tells.
pub(super) fn bare(info: &LinkInfo, fdinfo: impl FnOnce() -> BTreeMap<String, String>) -> (String, String) {
    let hook = |hook: &str, target: String| (hook.to_owned(), target);
    let device =
        |ifindex: u32| if ifindex == 0 { "a device that is gone".to_owned() } else { format!("device {ifindex}") };
    match &info.details {
        LinkDetails::RawTracepoint { name, .. } => hook("raw_tracepoint", name.clone()),
        LinkDetails::Tracing { attach_type, target_object: 0, .. } => {
            (tracing(*attach_type), "a function that this kernel does not tell (5.13)".to_owned())
        }
        LinkDetails::Tracing { attach_type, target_object, target_btf_id, .. } => {
            (tracing(*attach_type), format!("function {target_btf_id} of {target_object}"))
        }
        LinkDetails::Cgroup { id: 0, attach_type } => {
            hook(&attach_type.to_string(), "a cgroup that is gone".to_owned())
        }
        LinkDetails::Cgroup { id, attach_type } => hook(&attach_type.to_string(), format!("cgroup {id}")),
        LinkDetails::Iter { target } => hook("iter", iter(target, &fdinfo())),
        LinkDetails::Netns { inode, attach_type } => hook(&attach_type.to_string(), format!("netns {inode}")),
        LinkDetails::Xdp { ifindex } => hook("xdp", device(*ifindex)),
        LinkDetails::PerfEvent(event) => perf(event),
        LinkDetails::KprobeMulti { count, flags, .. } => {
            let kind = if flags & flags::BPF_F_KPROBE_MULTI_RETURN == 0 { "kprobe.multi" } else { "kretprobe.multi" };
            hook(kind, format!("{count} functions"))
        }
        LinkDetails::StructOps { map_id } => hook("struct_ops", format!("map {map_id}")),
        LinkDetails::Netfilter { family, hook: step, priority, .. } => {
            hook("netfilter", netfilter(*family, *step, *priority))
        }
        LinkDetails::Tcx { ifindex, attach_type } | LinkDetails::Netkit { ifindex, attach_type } => {
            hook(&attach_type.to_string(), device(*ifindex))
        }
        LinkDetails::UprobeMulti { path, count, flags, pid } => {
            let kind = if flags & flags::BPF_F_UPROBE_MULTI_RETURN == 0 { "uprobe.multi" } else { "uretprobe.multi" };
            let of = if *pid == 0 { String::new() } else { format!(" of process {pid}") };
            hook(kind, format!("{path}: {count} places{of}"))
        }
        LinkDetails::Sockmap { map_id, attach_type } => hook(&attach_type.to_string(), format!("map {map_id}")),
        _ => hook(&info.kind.to_string(), String::new()),
    }
}

/// What the rest of the machine tells: names of cgroups, devices, namespaces, maps and functions.
pub(super) fn fill(machine: &mut Machine, kernel: &Kernel, cgroups: &Cgroups, network: &Network) {
    let mut links = std::mem::take(&mut machine.links);
    for link in &mut links {
        let better = match &link.info.details {
            LinkDetails::Cgroup { id, .. } => cgroups.paths.get(id).map(|path| path.display().to_string()),
            LinkDetails::Netns { inode, .. } => network.spaces.get(inode).map(|name| format!("netns {name}")),
            LinkDetails::Xdp { .. } | LinkDetails::Tcx { .. } | LinkDetails::Netkit { .. } => {
                network.devices.get(&link.info.id).cloned()
            }
            LinkDetails::Tracing { target_object, target_btf_id, .. } => {
                traced(machine, kernel, link.info.program_id, *target_object, *target_btf_id)
            }
            LinkDetails::StructOps { map_id } => registered(machine, kernel, *map_id),
            LinkDetails::Sockmap { map_id, .. } => {
                Some(format!("map {map_id} {}", machine.name(super::Id::Map(*map_id))))
            }
            LinkDetails::KprobeMulti { count, .. } => functions(link.info.id, *count),
            LinkDetails::UprobeMulti { path, pid, .. } => offsets(link.info.id, path, *pid),
            _ => None,
        };
        if let Some(better) = better {
            link.target = better;
        }
    }
    machine.links = links;
}

fn tracing(attach_type: AttachType) -> String {
    match attach_type {
        AttachType::TRACE_FENTRY => "fentry".to_owned(),
        AttachType::TRACE_FEXIT => "fexit".to_owned(),
        AttachType::MODIFY_RETURN => "fmod_ret".to_owned(),
        AttachType::LSM_MAC => "lsm".to_owned(),
        // Programs that replace a function of another program have no attach type.
        AttachType(0) => "freplace".to_owned(),
        other => other.to_string(),
    }
}

/// The function that a program of the kinds fentry, lsm, freplace is at: of the kernel, of a module, or of another program.
fn traced(machine: &Machine, kernel: &Kernel, program: u32, object: u32, function: u32) -> Option<String> {
    let own = machine.program(program)?;
    let function = TypeId(function);
    // The number is that of BTF, or that of a program; the program's own target tells which, where the kernel tells that (6.0).
    let is_kernel = machine.btf(object).is_some_and(|btf| btf.info.kernel) && own.info.kind != ProgramType::EXT;
    if is_kernel && (own.info.attach_btf_object == object || own.info.attach_btf_object == 0) {
        let module = kernel.modules().ok()?.iter().find(|module| module.id == object);
        let btf = match module {
            Some(module) => &module.btf,
            None => kernel.btf().ok()??,
        };
        let name = btf.get(function).ok()?.name;
        let name = name.strip_prefix("bpf_lsm_").unwrap_or(name);
        return Some(module.map_or_else(|| name.to_owned(), |module| format!("{}:{name}", module.name)));
    }
    let target = machine.program(object)?;
    let bytes = ringfence_sys::open_btf(target.info.btf_id).and_then(|btf| btf.bytes()).ok()?;
    let btf = Btf::parse(std::sync::Arc::new(bytes)).ok()?;
    Some(format!("{} of program {object}", btf.get(function).ok()?.name))
}

fn registered(machine: &Machine, kernel: &Kernel, map: u32) -> Option<String> {
    let map = machine.map(map)?;
    let name = kernel.btf().ok().flatten().and_then(|btf| Some(btf.get(TypeId(map.info.btf_vmlinux_value)).ok()?.name));
    let kind = name.map_or("", |name| name.strip_prefix("bpf_struct_ops_").unwrap_or(name));
    Some(format!("{kind} {}", map.info.name).trim().to_owned())
}

/// The target, and what it is limited to, as the kernel's `fdinfo` of the link says.
fn iter(target: &str, fields: &BTreeMap<String, String>) -> String {
    let limits = ["map_id", "cgroup_path", "tid", "pid"];
    let limit =
        limits.iter().find_map(|name| fields.get(*name).map(|value| format!("{} {value}", name.replace('_', " "))));
    match limit.filter(|limit| !limit.ends_with(" 0")) {
        Some(limit) => format!("{target} ({limit})"),
        None => target.to_owned(),
    }
}

fn perf(event: &PerfLinkDetails) -> (String, String) {
    let (hook, target) = match event {
        PerfLinkDetails::Uprobe { ret, path, offset, .. } => {
            (if *ret { "uretprobe" } else { "uprobe" }, format!("{path}:{offset:#x}"))
        }
        PerfLinkDetails::Kprobe { ret, function, offset, address, .. } => {
            let place = match (function.is_empty(), *offset) {
                (true, _) => format!("{address:#x}"),
                (false, 0) => function.clone(),
                (false, offset) => format!("{function}+{offset:#x}"),
            };
            (if *ret { "kretprobe" } else { "kprobe" }, place)
        }
        PerfLinkDetails::Tracepoint { name, .. } => ("tracepoint", name.clone()),
        PerfLinkDetails::Event { kind, config, .. } => ("perf_event", perf_event(*kind, *config)),
        PerfLinkDetails::Unknown => ("perf_event", "an event that this kernel does not tell (6.6)".to_owned()),
    };
    (hook.to_owned(), target)
}

/// `enum perf_hw_id`, `enum perf_sw_ids` of include/uapi/linux/perf_event.h.
fn perf_event(kind: u32, config: u64) -> String {
    const HARDWARE: [&str; 10] = [
        "cycles",
        "instructions",
        "cache-references",
        "cache-misses",
        "branches",
        "branch-misses",
        "bus-cycles",
        "stalled-cycles-frontend",
        "stalled-cycles-backend",
        "ref-cycles",
    ];
    const SOFTWARE: [&str; 12] = [
        "cpu-clock",
        "task-clock",
        "page-faults",
        "context-switches",
        "cpu-migrations",
        "minor-faults",
        "major-faults",
        "alignment-faults",
        "emulation-faults",
        "dummy",
        "bpf-output",
        "cgroup-switches",
    ];
    let place = usize::try_from(config).unwrap_or(usize::MAX);
    let known = match kind {
        0 => HARDWARE.get(place),
        1 => SOFTWARE.get(place),
        // The two clocks have units of their own, the first to get a number, which stands in the event where 1 was asked for
        // (perf_event_init of kernel/events/core.c).
        6 => SOFTWARE.first(),
        7 => SOFTWARE.get(1),
        _ => None,
    };
    let kinds = ["hardware", "software", "tracepoint", "cache", "raw", "breakpoint"];
    match (known, kinds.get(kind as usize)) {
        (Some(name), _) => (*name).to_owned(),
        (None, Some(kind)) => format!("{kind} {config:#x}"),
        (None, None) => format!("{} {config:#x}", unit(kind).unwrap_or_else(|| format!("type {kind}"))),
    }
}

/// Name of the unit that has this number.
fn unit(kind: u32) -> Option<String> {
    let mut units = std::fs::read_dir("/sys/bus/event_source/devices").ok()?.flatten();
    let has =
        |dir: &std::path::Path| std::fs::read_to_string(dir.join("type")).is_ok_and(|it| it.trim() == kind.to_string());
    units.find(|unit| has(&unit.path())).map(|unit| unit.file_name().to_string_lossy().into_owned())
}

fn netfilter(family: u32, step: u32, priority: i32) -> String {
    // NFPROTO_*, NF_INET_*
    let family = match family {
        2 => "ipv4".to_owned(),
        7 => "bridge".to_owned(),
        10 => "ipv6".to_owned(),
        other => format!("family {other}"),
    };
    let steps = ["prerouting", "input", "forward", "output", "postrouting", "ingress"];
    let step = steps.get(step as usize).map_or_else(|| step.to_string(), |step| (*step).to_owned());
    format!("{family} {step} priority {priority}")
}

/// How many names of functions are said; the others are counted.
const NAMED: usize = 3;

fn functions(link: u32, count: u32) -> Option<String> {
    let addresses = ringfence_sys::open_link(link).and_then(|link| link.places()).ok()?;
    let first: Vec<u64> = addresses.iter().copied().filter(|address| *address != 0).take(NAMED).collect();
    if first.is_empty() {
        return None;
    }
    let symbols = std::fs::read_to_string("/proc/kallsyms").ok()?;
    let name = |address: &u64| {
        // An address may be a few bytes behind the symbol's own: ENDBR and the call of the tracer.
        let line = |line: &'_ str| {
            let mut words = line.split_ascii_whitespace();
            let at = u64::from_str_radix(words.next()?, 16).ok()?;
            (at <= *address && *address - at <= 16).then(|| Some((at, words.nth(1)?.to_owned())))?
        };
        symbols.lines().filter_map(line).max_by_key(|(at, _)| *at).map(|(_, name)| name)
    };
    let names: Vec<String> = first.iter().filter_map(name).collect();
    (!names.is_empty()).then(|| list(&names, count as usize))
}

fn offsets(link: u32, path: &str, pid: u32) -> Option<String> {
    let offsets = ringfence_sys::open_link(link).and_then(|link| link.places()).ok()?;
    let first: Vec<String> = offsets.iter().take(NAMED).map(|offset| format!("{offset:#x}")).collect();
    let of = if pid == 0 { String::new() } else { format!(" of process {pid}") };
    (!first.is_empty()).then(|| format!("{path}:{}{of}", list(&first, offsets.len())))
}

fn list(names: &[String], count: usize) -> String {
    match count - names.len().min(count) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
