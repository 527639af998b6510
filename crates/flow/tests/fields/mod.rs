//! Fields that were recovered, held against what is known of the structs.
#![allow(dead_code, reason = "two tests use it, each a part")]

use ringfence_btf::{Btf, Def, TypeId};
use ringfence_flow::{Certainty, Field, Layout, Meaning};
use ringfence_object::Object;

/// A field as it is: name, offset, bytes, and kind (`n` number, `t` text, `b` bytes: arrays and wide addresses).
pub(crate) type Fact = (String, u32, u32, char);

/// Of structs that are not in the object's types: name, offset, bytes, kind. Read by hand from upstream's headers in the
/// revision of `LIBBPF_TOOLS`; of mountsnoop and opensnoop no revision of
/// the object's size was to be had: there the order of members follows the object itself, which makes them weak evidence.
pub(crate) const FACTS: &[(&str, &str)] = &[
    ("bashreadline", "pid 0 4 n, str 4 80 t"),
    (
        "bindsnoop",
        "addr 0 16 b, ts_us 16 8 n, pid 24 4 n, bound_dev_if 28 4 n, ret 32 4 n, port 36 2 n, proto 38 2 n, opts 40 1 n, \
         ver 41 1 n, task 42 16 t",
    ),
    (
        "biosnoop",
        "comm 0 16 t, delta 16 8 n, qdelta 24 8 n, ts 32 8 n, sector 40 8 n, len 48 4 n, pid 52 4 n, cmd_flags 56 4 n, \
         dev 60 4 n",
    ),
    ("drsnoop", "task 0 16 t, delta_ns 16 8 n, nr_reclaimed 24 8 n, nr_free_pages 32 8 n, pid 40 4 n"),
    (
        "exitsnoop",
        "start_time 0 8 n, exit_time 8 8 n, pid 16 4 n, tid 20 4 n, ppid 24 4 n, sig 28 4 n, exit_code 32 4 n, comm 36 16 t",
    ),
    ("filelife", "file 0 32 t, task 32 16 t, delta_ns 48 8 n, tgid 56 4 n"),
    (
        "fsslower",
        "delta_us 0 8 n, end_ns 8 8 n, offset 16 8 n, size 24 8 n, pid 32 4 n, op 36 4 n, file 40 32 t, task 72 16 t",
    ),
    ("mdflush", "pid 0 4 n, comm 4 16 t, disk 20 32 t"),
    (
        "mountsnoop",
        "delta 0 8 n, flags 8 8 n, pid 16 4 n, tid 20 4 n, mnt_ns 24 4 n, ret 28 4 n, comm 32 16 t, fs 48 8 t, \
         src 56 4096 t, dest 4152 4096 t, data 8248 512 t, op 8760 4 n",
    ),
    ("oomkill", "fpid 0 4 n, tpid 4 4 n, pages 8 8 n, fcomm 16 16 t, tcomm 32 16 t"),
    (
        "opensnoop",
        "ts 0 8 n, pid 8 4 n, uid 12 4 n, ret 16 4 n, flags 20 4 n, callers 24 16 b, comm 40 16 t, fname 56 255 t",
    ),
    ("runqslower", "task 0 16 t, prev_task 16 16 t, delta_us 32 8 n, pid 40 4 n, prev_pid 44 4 n"),
    ("statsnoop", "ts_ns 0 8 n, pid 8 4 n, ret 12 4 n, comm 16 16 t, pathname 32 255 t"),
    (
        "tcpconnect",
        "saddr_v4 0 4 n, saddr_v6 0 16 b, daddr_v4 16 4 n, daddr_v6 16 16 b, task 32 16 t, ts_us 48 8 n, af 56 4 n, \
         pid 60 4 n, uid 64 4 n, sport 68 2 n, dport 70 2 n",
    ),
    (
        "tcpconnlat",
        "saddr_v4 0 4 n, saddr_v6 0 16 b, daddr_v4 16 4 n, daddr_v6 16 16 b, comm 32 16 t, delta_us 48 8 n, ts_us 56 8 n, \
         tgid 64 4 n, af 68 4 n, lport 72 2 n, dport 74 2 n",
    ),
    (
        "tcplife",
        "saddr 0 16 b, daddr 16 16 b, ts_us 32 8 n, span_us 40 8 n, rx_b 48 8 n, tx_b 56 8 n, pid 64 4 n, sport 68 2 n, \
         dport 70 2 n, family 72 2 n, comm 74 16 t",
    ),
    (
        "tcpstates",
        "saddr 0 16 b, daddr 16 16 b, skaddr 32 8 n, ts_us 40 8 n, delta_us 48 8 n, pid 56 4 n, oldstate 60 4 n, \
         newstate 64 4 n, family 68 2 n, sport 70 2 n, dport 72 2 n, task 74 16 t",
    ),
    (
        "tcptracer",
        "saddr_v4 0 4 n, saddr_v6 0 16 b, daddr_v4 16 4 n, daddr_v6 16 16 b, task 32 16 t, ts_us 48 8 n, af 56 4 n, \
         pid 60 4 n, uid 64 4 n, netns 68 4 n, dport 72 2 n, sport 74 2 n, type 76 1 n",
    ),
];

/// Of the kernel's self-tests: object, map, and the members of what it sends, read by hand in the sources of Linux 6.12. The
/// structs of strobemeta and test_get_stack_rawtp are in their types (hidden.rs). Left out: `seq` of test_ringbuf_n, which
/// no instruction writes; test_tcpnotify_kern, whose four members are stored as one number in a line that names none; the
/// profilers, whose records are of six kinds and as long as their texts; programs that are there to be refused.
pub(crate) const SELFTESTS: &[(&str, &str, &str)] = &[
    ("ima", "ringbuf", "sample 0 8 n"),
    ("kfree_skb", "perf_buf_map", "ifindex 0 4 n, cb32_0 4 4 n, cb8_0 8 1 n"),
    ("perfbuf_bench", "perfbuf", "sample_val 0 8 n"),
    ("pyperf50", "perfmap", PYPERF),
    ("pyperf100", "perfmap", PYPERF),
    ("pyperf180", "perfmap", PYPERF),
    ("pyperf600", "perfmap", PYPERF),
    ("pyperf600_bpf_loop", "perfmap", PYPERF),
    ("pyperf600_iter", "perfmap", PYPERF),
    ("pyperf600_nounroll", "perfmap", PYPERF),
    ("pyperf_global", "perfmap", PYPERF),
    ("pyperf_subprogs", "perfmap", PYPERF),
    ("ringbuf_bench", "ringbuf", "sample 0 8 n"),
    ("test_perf_buffer", "perf_buf_map", "cpu 0 4 n"),
    ("test_ringbuf", "ringbuf", "pid 0 4 n, seq 4 4 n, value 8 8 n, comm 16 16 t"),
    ("test_ringbuf_map_key", "ringbuf", "pid 0 4 n, seq 4 4 n, value 8 8 n, comm 16 16 t"),
    ("test_ringbuf_multi", "ringbuf_arr", "pid 0 4 n, seq 4 4 n, value 8 8 n, comm 16 16 t"),
    ("test_ringbuf_n", "ringbuf", "pid 0 4 n, value 8 8 n, comm 16 16 t"),
    ("test_unpriv_bpf_disabled", "perfbuf", "perfbuf_val 0 4 n"),
    ("test_unpriv_bpf_disabled", "ringbuf", "ringbuf_val 0 4 n"),
    ("test_xdp_attach_fail", "xdp_errmsg_pb", "errmsg 0 64 t"),
    ("test_xdp_bpf2bpf", "perf_buf_map", "ifindex 0 4 n, pkt_len 4 4 n"),
    ("user_ringbuf_success", "kernel_ringbuf", "msg_op 0 4 n, operand_64 8 8 n, operand_32 8 4 n"),
];

/// The one struct of all that are made of pyperf.h; `stack` has as many bytes as there are up to `has_meta`.
const PYPERF: &str = "pid 0 4 n, tid 4 4 n, comm 8 16 t, kernel_stack_id 24 4 n, user_stack_id 28 4 n, thread_current 32 1 n, \
     pthread_match 33 1 n, stack_complete 34 1 n, stack_len 36 2 n, stack 40 0 b, has_meta 0 4 n";

/// The facts of an object whose struct is not in its types.
pub(crate) fn facts(object: &str) -> Option<Vec<Fact>> {
    FACTS.iter().find(|(name, _)| *name == object).map(|(_, text)| parse_facts(text))
}

/// `NAME OFFSET BYTES KIND, ..`.
pub(crate) fn parse_facts(facts: &str) -> Vec<Fact> {
    let fact = |text: &str| {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [name, offset, width, kind] = parts[..] else { panic!("{text}") };
        (name.to_owned(), offset.parse().unwrap(), width.parse().unwrap(), kind.chars().next().unwrap())
    };
    facts.split(',').map(fact).collect()
}

/// What a type of the object's BTF says itself.
pub(crate) fn of_type(btf: &Btf, ty: TypeId) -> Vec<Fact> {
    let mut facts = Vec::new();
    flatten(btf, ty, 0, &mut facts);
    facts
}

fn flatten(btf: &Btf, ty: TypeId, base: u32, facts: &mut Vec<Fact>) {
    let (Def::Struct(found) | Def::Union(found)) = btf.resolve(ty).unwrap().def else { return };
    for member in found.members().flatten() {
        let at = base + member.bit_offset / 8;
        let bytes = u32::try_from(btf.size_of(member.ty).unwrap_or(0)).unwrap();
        match btf.resolve(member.ty).unwrap().def {
            Def::Struct(_) | Def::Union(_) => {
                facts.push((member.name.to_owned(), at, bytes, 's'));
                flatten(btf, member.ty, at, facts);
            }
            Def::Array(array) if bytes > 0 && facts.len() < 5_000 => {
                facts.push((member.name.to_owned(), at, bytes, kind_of(btf, member.ty)));
                let size = u32::try_from(btf.size_of(array.element).unwrap_or(0)).unwrap();
                let mut inner = Vec::new();
                flatten(btf, array.element, 0, &mut inner);
                for n in 0..array.len.min(64) {
                    let part = |(name, by, width, _): &Fact| (name.clone(), at + n * size + by, *width, 's');
                    facts.extend(inner.iter().map(part));
                }
            }
            // Bit-fields have no bytes of their own; arrays without a length have no width.
            _ if member.bit_size > 0 => facts.push((member.name.to_owned(), at, bytes, 's')),
            _ if bytes == 0 => {}
            _ => facts.push((member.name.to_owned(), at, bytes, kind_of(btf, member.ty))),
        }
    }
}

fn kind_of(btf: &Btf, ty: TypeId) -> char {
    match btf.resolve(ty).unwrap().def {
        // An array of `unsigned char` is text as often as not.
        Def::Array(array) if btf.size_of(array.element) == Ok(1) => match btf.resolve(array.element).unwrap().def {
            Def::Int(int) if !int.signed && !int.char => 'a',
            _ => 't',
        },
        Def::Array(_) | Def::Struct(_) | Def::Union(_) => 'b',
        _ if btf.size_of(ty) == Ok(16) => 'b',
        _ => 'n',
    }
}

/// Takes a struct away from the values of the object's maps, and all that holds it.
pub(crate) fn hide(object: &mut Object, ty: TypeId) {
    let Some(btf) = object.btf.clone() else { return };
    for map in &mut object.maps {
        if map.value_type.is_some_and(|value| holds(&btf, value, ty, 0)) {
            map.value_type = None;
        }
    }
}

fn holds(btf: &Btf, outer: TypeId, inner: TypeId, depth: u32) -> bool {
    let Ok(outer) = btf.resolve(outer) else { return false };
    let same = btf.resolve(inner).is_ok_and(|inner| inner.id == outer.id);
    same || depth < 8
        && match outer.def {
            Def::Struct(found) | Def::Union(found) => {
                found.members().flatten().any(|member| holds(btf, member.ty, inner, depth + 1))
            }
            Def::Array(array) => holds(btf, array.element, inner, depth + 1),
            _ => false,
        }
}

/// `a`: an array of `unsigned char`, text as often as not. `s`: a part of something that is counted, or the whole of
/// several that are; it can be right, it is not missed.
fn alike(fact: char, kind: char) -> bool {
    fact == kind || matches!((fact, kind), ('a', 't' | 'b') | ('s', _))
}

fn kind_of_field(object: &Object, field: &Field) -> char {
    match field.meaning {
        Meaning::Text => 't',
        Meaning::Bytes | Meaning::Words | Meaning::Numbers(_) => 'b',
        // Told one by one.
        Meaning::Texts(_) => 'b',
        Meaning::Unsigned | Meaning::Signed => 'n',
        Meaning::Typed(ty) => kind_of(object.btf.as_ref().unwrap(), ty),
    }
}

/// Each text of an array of texts by itself.
fn rows(field: &Field) -> Vec<Field> {
    let Meaning::Texts(width) = field.meaning else { return vec![field.clone()] };
    let row = |n: u32| Field { offset: field.offset + n * width, width, meaning: Meaning::Text, ..field.clone() };
    (0..field.width / width).map(row).collect()
}

/// How a layout compares.
#[derive(Default, Clone, Debug)]
pub(crate) struct Score {
    pub fields: usize,
    /// Offset, bytes and kind.
    pub placed: usize,
    pub named: usize,
    pub wrong: Vec<String>,
    pub misnamed: Vec<String>,
    pub unknown: Vec<String>,
}

impl Score {
    /// Of layouts that the records of one struct have, each told by a tag.
    pub(crate) fn of_all(object: &Object, layouts: &[&Layout], facts: &[Fact]) -> Score {
        let mut all = (*layouts.first().expect("a layout")).clone();
        for field in layouts.iter().flat_map(|layout| &layout.fields) {
            if !all.fields.iter().any(|known| (known.offset, &known.name) == (field.offset, &field.name)) {
                all.fields.push(field.clone());
            }
        }
        Score::of(object, &all, facts)
    }

    pub(crate) fn of(object: &Object, layout: &Layout, facts: &[Fact]) -> Score {
        let mut score = Score { fields: facts.iter().filter(|fact| fact.3 != 's').count(), ..Score::default() };
        let fields: Vec<Field> = layout.fields.iter().flat_map(rows).collect();
        let sure: Vec<_> = fields.iter().filter(|field| field.certainty < Certainty::Guessed).collect();
        for field in &sure {
            let kind = kind_of_field(object, field);
            let name = field.name.as_deref().unwrap_or_default();
            let here = |fact: &&Fact| (fact.1, fact.2) == (field.offset, field.width) && alike(fact.3, kind);
            let shown = format!("`{name}` at {}, {} bytes", field.offset, field.width);
            if !facts.iter().any(|fact| here(&fact)) {
                score.wrong.push(shown);
            } else if field.name.is_some()
                && !facts.iter().any(|fact| here(&fact) && (fact.0 == name || name.ends_with(&format!("_{}", fact.0))))
            {
                score.misnamed.push(shown);
            }
        }
        for (name, offset, width, kind) in facts.iter().filter(|fact| fact.3 != 's') {
            let right = |field: &&&Field| {
                (field.offset, field.width) == (*offset, *width) && alike(*kind, kind_of_field(object, field))
            };
            let field = sure.iter().find(right);
            match field {
                Some(field) => {
                    score.placed += 1;
                    score.named += usize::from(
                        field.name.as_ref().is_some_and(|said| said == name || said.ends_with(&format!("_{name}"))),
                    );
                }
                None => score.unknown.push(format!("`{name}`")),
            }
        }
        score
    }

    pub(crate) fn add(&mut self, other: &Score) {
        self.fields += other.fields;
        self.placed += other.placed;
        self.named += other.named;
        self.wrong.extend(other.wrong.iter().cloned());
        self.misnamed.extend(other.misnamed.iter().cloned());
    }

    pub(crate) fn row(&self, object: &str) -> String {
        let list = |all: &[String]| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        format!(
            "| {object} | {} | {} | {} | {} | {} | {} |\n",
            self.fields,
            self.placed,
            self.named,
            list(&self.wrong),
            list(&self.misnamed),
            list(&self.unknown)
        )
    }
}
