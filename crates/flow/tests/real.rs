//! Objects that others wrote: what they send, and of which type.
#![allow(missing_docs)]

mod fields;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fields::{SELFTESTS, Score};
use ringfence_btf::Def;
use ringfence_flow::{EventChoice, Kind, Layout, Size, event_types, layouts, outputs, slot_scale_is_log2};
use ringfence_object::Object;
use ringfence_testing::{all_objects, objects, worked};

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

/// Object, struct of its records in the tool's own header, bytes. Kept here because tests have no sources of the tools.
/// Read by hand from upstream (iovisor/bcc, libbpf-tools/*.h and *.bpf.c), in the revision nearest to the 0.26 of Debian's
/// package whose struct has the size that the object sends; members of structs that are in BTF agree, and so do the
/// declarations that the objects keep as source lines. Debian's source package itself was not on the mirror.
const LIBBPF_TOOLS: &[(&str, &str, u32)] = &[
    ("bashreadline", "str_t", 84),
    ("bindsnoop", "bind_event", 64),
    ("biosnoop", "event", 64),
    ("capable", "cap_event", 44),
    ("drsnoop", "event", 48),
    ("execsnoop", "event", 7720),
    ("exitsnoop", "event", 56),
    ("filelife", "event", 64),
    ("fsslower", "event", 88),
    ("gethostlatency", "event", 112),
    ("javagc", "data_t", 16),
    ("ksnoop", "trace", 16296),
    ("mdflush", "event", 52),
    ("mountsnoop", "event", 8768),
    ("oomkill", "data_t", 48),
    ("opensnoop", "event", 312),
    ("runqslower", "event", 48),
    ("sigsnoop", "event", 32),
    ("solisten", "event", 52),
    ("statsnoop", "event", 288),
    ("tcpconnect", "event", 72),
    ("tcpconnlat", "event", 80),
    ("tcplife", "event", 96),
    ("tcpstates", "event", 96),
    ("tcptracer", "event", 80),
];

const HEAD: &str = "\
# Events of libbpf-tools

Written by `cargo xtask events --write`: do not edit. Every object of Debian's libbpf-tools that sends records through a ring or perf
buffer, the struct that the tool's own header says they are, and the type that Ringfence shows them as. \"ring, perf\": the
program takes the buffer that the kernel has.

Verdict: right, the struct of the header was chosen; cannot be known, the object has no such struct and none was chosen: `run` prints
the fields that are read out of the code, which the next tables are about; wrong, anything else.

";

const FIELDS_HEAD: &str = "\
## Fields

What is read out of the code alone: stores, helpers, CO-RE records, source lines. Certain and likely fields are compared; guessed
ones, which `run` shows as `fieldN`, count as unknown. Kind: number, text, or bytes (arrays, addresses of 16 bytes); whether a number
has a sign is not compared.

The rules were made while looking at these objects, so the numbers say how well they are covered, not what to expect of others. The
facts for mountsnoop and opensnoop follow the objects themselves: no header of that size was to be had. What they find in others is in
crates/flow/tests: unseen.rs (16 kinds of records, written before any rule was looked at for them) and hidden.rs (every struct of the
kernel's self-tests and of xdp-tools, and the values of all maps: nothing may be wrong).

";
const SELFTESTS_HEAD: &str = "\
What those of Linux 6.12 send through ring and perf buffers, where the struct is a local type. Several are made of one source (pyperf.h)
with other numbers. Left out: test_tcpnotify_kern, which stores its four members as one number in a line that names none (with them 118
of 133 are in place), the profilers, whose records are of six kinds and as long as their texts, and programs that are there to be refused.

";
const FIELD_COLUMNS: &str = "\
| object | fields | place and kind | name too | wrong | misnamed | unknown |
|---|--:|--:|--:|---|---|---|";

/// Fields that no instruction of the object touches, so that nothing in it can tell them: user space fills them in before the
/// programs run (the value of a map, in `ksnoop.c`). Read by hand from the disassembly.
const UNTOUCHED: &[(&str, &[&str])] =
    &[("ksnoop", &["btf", "dump", "name", "mod", "id", "nr_args", "ip", "args", "nr_traces", "links"])];

/// What the object's own struct says of its fields.
fn type_facts(object: &Object, name: &str, bytes: u32) -> Vec<fields::Fact> {
    let btf = object.btf.as_ref().unwrap();
    let is_it = |id: &ringfence_btf::TypeId| {
        matches!(btf.get(*id).unwrap().def, Def::Struct(_)) && btf.size_of(*id) == Ok(bytes.into())
    };
    fields::of_type(btf, btf.named(name).into_iter().find(is_it).unwrap())
}

/// The object, without the struct in the values of its maps.
fn hidden(object: &Object, name: &str, bytes: u32) -> Object {
    let btf = object.btf.as_ref().unwrap();
    let mut hidden = object.clone();
    for ty in btf.named(name).into_iter().filter(|id| btf.size_of(*id) == Ok(bytes.into())) {
        fields::hide(&mut hidden, ty);
    }
    hidden
}

/// Which buffers the records go through.
fn buffers(choice: &EventChoice) -> String {
    let mut buffers: Vec<&str> = choice
        .outputs
        .iter()
        .map(|output| match output.kind {
            Kind::RingReserve | Kind::RingReserveDynptr | Kind::RingOutput => "ring",
            Kind::PerfOutput => "perf",
        })
        .collect();
    buffers.sort_unstable_by(|a, b| b.cmp(a));
    buffers.dedup();
    buffers.join(", ")
}

fn has_struct(object: &Object, name: &str, bytes: u32) -> bool {
    let btf = object.btf.as_ref().unwrap();
    let is_it = |id| matches!(btf.get(id).unwrap().def, Def::Struct(_)) && btf.size_of(id) == Ok(bytes.into());
    btf.named(name).into_iter().any(is_it)
}

/// Rows and score of the kernel's self-tests.
fn selftests() -> (String, Score) {
    let (mut rows, mut sum) = (String::new(), Score::default());
    for path in objects("selftests") {
        let name = path.file_name().unwrap_or_default().to_string_lossy().replace(".bpf.o", "");
        for (_, map, facts) in SELFTESTS.iter().filter(|(of, ..)| *of == name) {
            let object = parse(&path).unwrap();
            let is_map = |layout: &Layout| object.maps[layout.map.0].name == *map;
            let all: Vec<Layout> = layouts(&object).into_iter().filter(is_map).collect();
            let mine: Vec<&Layout> = all.iter().collect();
            let mut facts = fields::parse_facts(facts);
            if let Some(Size::Exact(bytes)) = mine.first().map(|layout| layout.size) {
                // Of pyperf.h: the array takes the room that there is.
                for fact in &mut facts {
                    match fact.0.as_str() {
                        "stack" => fact.2 = bytes - 44,
                        "has_meta" => fact.1 = bytes - 4,
                        _ => {}
                    }
                }
            }
            let score = Score::of_all(&object, &mine, &facts);
            rows += &score.row(&format!("{name}, {map}"));
            sum.add(&score);
        }
    }
    (rows, sum)
}

/// Writes docs/events.md when RINGFENCE_WRITE is set; else the file must be what is found here.
#[test]
fn libbpf_tools() {
    let files: Vec<(PathBuf, Vec<u8>)> =
        objects("libbpf-tools").into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    let truth = |path: &Path| LIBBPF_TOOLS.iter().find(|(name, ..)| path.file_stem().unwrap() == *name);
    let mut recovered = [(String::new(), Score::default()), (String::new(), Score::default())];
    let (mut rows, mut met, mut verdicts) = (String::new(), BTreeSet::new(), BTreeMap::new());
    let mut untouched = 0;
    for (path, bytes) in &files {
        let object = parse(path).unwrap();
        let choices = event_types(&object, None);
        let Some((name, expected, bytes)) = truth(path) else {
            // Some tools have several names, and a directory may hold a copy for each.
            let copy = files.iter().any(|(other, same)| same == bytes && truth(other).is_some());
            assert!(copy || choices.is_empty(), "{} is not in the table", object.name);
            continue;
        };
        let layouts = layouts(&hidden(&object, expected, *bytes));
        // Kinds of records that a tag tells apart are of one struct.
        let mut counted = BTreeSet::new();
        for choice in choices.into_iter().filter(|choice| counted.insert((choice.map, choice.size))) {
            met.insert(name);
            match choice.size {
                Size::Exact(size) | Size::Between(_, size) => assert_eq!(size, *bytes, "{name}"),
                Size::Unknown => panic!("{name}: of unknown size"),
            }
            let there = has_struct(&object, expected, *bytes);
            let of_choice = |layout: &&Layout| (layout.map, layout.size) == (choice.map, choice.size);
            let mine: Vec<&Layout> = layouts.iter().filter(of_choice).collect();
            let mut facts =
                if there { type_facts(&object, expected, *bytes) } else { fields::facts(name).expect(name) };
            let gone = UNTOUCHED.iter().find(|(of, _)| of == name).map_or(&[][..], |(_, fields)| *fields);
            if there {
                untouched += gone.len();
                facts.retain(|(field, _, _, kind)| *kind == 's' || !gone.contains(&field.as_str()));
            }
            let score = Score::of_all(&object, &mine, &facts);
            let (rows_of, sum) = &mut recovered[usize::from(there)];
            *rows_of += &score.row(name);
            sum.add(&score);
            let chosen = choice.chosen.as_ref();
            let verdict = match chosen {
                Some(chosen) if there && chosen.name == *expected && !choice.ambiguous => "right",
                None if !there => "cannot be known",
                _ => "WRONG",
            };
            *verdicts.entry(verdict).or_insert(0) += 1;
            rows += &format!(
                "| {name} | {} | {} | {} | `struct {expected}` | {} | {} | {} | {verdict} |\n",
                object.maps[choice.map.0].name,
                buffers(&choice),
                size(choice.size),
                if there { "yes" } else { "no" },
                chosen.map_or("none".into(), |chosen| format!("`struct {}`", chosen.name)),
                match (chosen, &choice.said) {
                    (Some(chosen), _) => chosen.basis.because().to_owned(),
                    (None, Some(said)) => format!("the source says `{said}`, no type has it"),
                    (None, None) => "no type fits, no source line names one".to_owned(),
                },
            );
        }
    }
    if files.is_empty() {
        return;
    }
    let columns = "| object | map | buffer | bytes | in the header | in BTF | chosen | because | verdict |";
    let count = |verdict| verdicts.get(verdict).copied().unwrap_or(0);
    let [(hidden, hidden_sum), (in_btf, in_btf_sum)] = &recovered;
    let part = |rows: &str, sum: &Score| {
        let percent = |of: usize| (of * 1000 / sum.fields.max(1)) as f64 / 10.0;
        let (placed, named) = (percent(sum.placed), percent(sum.named));
        format!(
            "{} fields: {placed}% with the right offset, width and kind, {named}% with the right name, {} wrong, {} misnamed.\n\n{FIELD_COLUMNS}\n{rows}",
            sum.fields,
            sum.wrong.len(),
            sum.misnamed.len()
        )
    };
    let (of_kernel, of_kernel_sum) = selftests();
    let fields = format!(
        "{FIELDS_HEAD}### The struct is not in the object's types\n\n{}\n### It is, and the algorithm is not told\n\n\
         Not counted: {untouched} fields of ksnoop that no instruction of the object touches (user space fills them in before the \
         programs run): {}. With them it is {} of {}.\n\n{}\n\
         ### The kernel's self-tests\n\n{SELFTESTS_HEAD}{}",
        part(hidden, hidden_sum),
        UNTOUCHED.iter().flat_map(|(_, all)| *all).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        in_btf_sum.placed,
        in_btf_sum.fields + untouched,
        part(in_btf, in_btf_sum),
        part(&of_kernel, &of_kernel_sum)
    );
    let text = format!(
        "{HEAD}{} objects: {} right, {} cannot be known, {} wrong.\n\n{columns}\n|---|---|---|--:|---|---|---|---|---|\n{rows}\n{fields}",
        met.len(),
        count("right"),
        count("cannot be known"),
        count("WRONG"),
    );
    assert_eq!(count("WRONG"), 0, "{text}");
    assert_eq!(met.len(), LIBBPF_TOOLS.len(), "{text}");
    let all = || recovered.iter().map(|(_, sum)| sum).chain([&of_kernel_sum]);
    for sum in all() {
        assert!(sum.wrong.is_empty(), "{text}");
    }
    for sum in all() {
        assert!(sum.placed * 10 >= sum.fields * 9, "{text}");
        assert!(sum.named * 100 >= sum.fields * 85, "{text}");
    }
    let doc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/events.md");
    if std::env::var_os("RINGFENCE_WRITE").is_some() {
        std::fs::write(&doc, &text).unwrap();
    }
    let written = std::fs::read_to_string(&doc).unwrap_or_default();
    assert!(written == text, "docs/events.md is not this; `cargo xtask events --write` writes it:\n{text}");
}

#[test]
fn log2_histograms() {
    let linear = ["cpufreq", "runqlen"];
    let log2 =
        ["biolatency", "bitesize", "cpudist", "ext4dist", "funclatency", "hardirqs", "runqlat", "softirqs", "tcprtt"];
    for path in objects("libbpf-tools") {
        let object = parse(&path).unwrap();
        if log2.contains(&&*object.name) || linear.contains(&&*object.name) {
            assert_eq!(slot_scale_is_log2(&object), log2.contains(&&*object.name), "{}", object.name);
        }
    }
}

/// Everything that the kernel's own tests do: in bounded time, and each record has a map.
#[test]
fn every_object() {
    // Time on a processor: the machine may be busy, and a build for tests takes some five times as long.
    let limit = Duration::from_millis(100) * if cfg!(debug_assertions) { 20 } else { 1 };
    for object in all_objects().iter().filter_map(|path| parse(path)) {
        let start = worked();
        for output in outputs(&object) {
            assert!(object.functions[output.function.0].insns[output.insn].is_helper_call());
            assert!(output.map.is_some(), "{} {output:?}", object.name);
        }
        for choice in event_types(&object, None) {
            assert_eq!(choice.contradicted, [], "{}", object.name);
        }
        for layout in layouts(&object) {
            assert!(layout.to_btf(object.btf.as_ref(), "event").is_ok(), "{}", object.name);
        }
        let time = worked().saturating_sub(start);
        assert!(time < limit, "{}: {time:?}", object.name);
    }
}
