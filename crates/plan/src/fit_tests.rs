#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use ringfence_btf::{Composite, Kind};

use super::*;

fn fit(object: &Object, has: impl Fn(Feature) -> bool) -> Result<Option<Vec<u8>>, btf::Error> {
    super::fit(object, &BTreeSet::new(), has).map(|(bytes, _)| bytes)
}

/// Every feature that comes with or after this one is missing.
fn older_than(missing: Newer) -> impl Fn(Feature) -> bool {
    let first = Newer::ALL.iter().position(|what| *what == missing).unwrap();
    move |asked| !Newer::ALL.iter().skip(first).any(|what| feature(*what) == asked)
}

fn load(bytes: &[u8]) -> Result<(), String> {
    if ringfence_sys::btf_load(bytes, None, None).is_ok() {
        return Ok(());
    }
    let mut log = ringfence_sys::Log::new(1, 1 << 24);
    let error = ringfence_sys::btf_load(bytes, None, Some(&mut log)).unwrap_err();
    let last: Vec<String> = log.text().lines().rev().take(4).map(str::to_owned).collect();
    Err(format!("{error}: {}", last.join(" | ")))
}

/// Asks the kernel that runs this.
fn this_kernel_has(asked: Feature) -> bool {
    let Some(what) = Newer::ALL.into_iter().find(|what| feature(*what) == asked) else { return true };
    let mut probe = Builder::new();
    let int = probe.add("int", New::Int(Int { size: 4, bits: 32, offset: 0, signed: true, char: false, bool: false }));
    let proto = |probe: &mut Builder| probe.add("", New::FuncProto { ret: TypeId::VOID, params: &[] });
    match what {
        Newer::Func | Newer::GlobalFunc => {
            let linkage = if what == Newer::Func { Linkage::Static } else { Linkage::Global };
            let proto = proto(&mut probe);
            probe.add("f", New::Func { proto, linkage });
        }
        Newer::Datasec => {
            let ty = probe.add("v", New::Var { ty: int, linkage: Linkage::Static });
            probe.add(".data", New::Datasec { size: 4, vars: &[SectionVar { ty, offset: 0, size: 4 }] });
        }
        Newer::Float => drop(probe.add("float", New::Float { size: 4 })),
        Newer::DeclTag => {
            let ty = probe.add("t", New::Typedef(int));
            probe.add("tag", New::DeclTag { ty, component: None });
        }
        Newer::TypeTag => {
            let tag = probe.add("tag", New::TypeTag(int));
            probe.add("", New::Ptr(tag));
        }
        Newer::Enum64 => drop(probe.add("e", New::Enum64 { size: 8, signed: false, values: &[] })),
    }
    load(&probe.finish().unwrap()).is_ok()
}

fn compile(source: &str) -> Object {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.bpf.c");
    std::fs::write(&file, source).unwrap();
    let bytes = ringfence_testing::compile(&file, &["-mcpu=v3", "-Wall", "-Werror"]).expect("clang-19 is installed");
    Object::parse("t.bpf.o", &bytes).unwrap()
}

const EVERYTHING: &str = r#"
#define SEC(name) __attribute__((section(name), used))
#define EXTERN(name) __attribute__((section(name)))
typedef unsigned int u32;
enum __attribute__((aligned(8))) wide { WIDE_A = 1, WIDE_B = 0x1234567890abcdefULL };
enum negative { BELOW = -3 };
struct task;
struct tagged { int __attribute__((btf_type_tag("user"))) *pointer; float real; } __attribute__((btf_decl_tag("note")));

extern int LINUX_KERNEL_VERSION EXTERN(".kconfig");
extern _Bool CONFIG_MODULES EXTERN(".kconfig");
extern const struct task init_task EXTERN(".ksyms");
extern const void jiffies EXTERN(".ksyms");
extern struct task *bpf_task_acquire(struct task *) EXTERN(".ksyms");

int first = 1;
static volatile int second SEC(".data.custom") = 2;
int third SEC(".data.custom") = 3;
__attribute__((visibility("hidden"))) int fourth SEC(".data.custom") = 4;
enum wide a = WIDE_B;
enum negative b = BELOW;
struct tagged c;

__attribute__((noinline)) int global(u32 x) { asm volatile("" ::: "memory"); return x + first; }
__attribute__((noinline, visibility("hidden"))) int hidden(u32 x) { asm volatile("" ::: "memory"); return x + third; }

SEC("?tc") int handler(void *ctx)
{
    static volatile const char text[] SEC(".rodata.text") = "hello";
    u32 x = LINUX_KERNEL_VERSION + CONFIG_MODULES + (long)&init_task + (long)&jiffies + second + fourth + text[2];
    x += (long)bpf_task_acquire(0);
    return global(x) + hidden(x) + (c.pointer != 0);
}
char licence[] SEC("license") = "GPL";
"#;

fn fitted(object: &Object, has: impl Fn(Feature) -> bool) -> Btf {
    let bytes = fit(object, has).unwrap().unwrap();
    load(&bytes).unwrap_or_else(|error| panic!("{error}"));
    Btf::parse(Arc::new(bytes)).unwrap()
}

#[test]
fn sizes_offsets_and_linkages_come_from_the_file() {
    let object = compile(EVERYTHING);
    let before = object.btf.as_ref().unwrap();
    let after = fitted(&object, |_| true);
    let section = |name: &str| {
        let id = after.find(name, Kind::Datasec).unwrap();
        let Def::Datasec(def) = after.get(id).unwrap().def else { unreachable!() };
        let vars: Vec<_> = def.vars().map(|v| (after.get(v.ty).unwrap().name.to_owned(), v.offset, v.size)).collect();
        (def.size, vars)
    };
    let linkage = |name: &str| match after.named(name).iter().map(|id| after.get(*id).unwrap().def).next_back().unwrap()
    {
        Def::Var { linkage, .. } | Def::Func { linkage, .. } => linkage,
        other => panic!("{other:?}"),
    };
    let var = |name: &str, offset, size| (name.to_owned(), offset, size);
    assert_eq!(section(".data.custom"), (12, vec![var("second", 0, 4), var("third", 4, 4), var("fourth", 8, 4)]));
    assert_eq!(linkage("second"), Linkage::Static);
    assert_eq!(linkage("third"), Linkage::Global);
    assert_eq!(linkage("fourth"), Linkage::Static, "hidden");
    assert_eq!(section("license"), (4, vec![var("licence", 0, 4)]));

    // LINUX_KERNEL_VERSION first, for its alignment.
    let kconfig = vec![var("LINUX_KERNEL_VERSION", 0, 4), var("CONFIG_MODULES", 4, 1)];
    assert_eq!(section(".kconfig"), (5, kconfig));
    let (size, vars) = section(".ksyms");
    let mut names: Vec<_> = vars.iter().map(|(name, ..)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!((size, names), (12, vec!["init_task", "jiffies", "kernel_function"]));
    assert_eq!(vars.iter().map(|(_, offset, size)| (*offset, *size)).collect::<Vec<_>>(), [(0, 4), (4, 4), (8, 4)]);
    for name in ["LINUX_KERNEL_VERSION", "init_task", "bpf_task_acquire", "global", "handler"] {
        assert_eq!(linkage(name), Linkage::Global, "{name}");
    }
    assert_eq!(linkage("hidden"), Linkage::Static);

    // Numbers and offsets that others hold mean the same.
    for (old, new) in before.own_types().zip(after.own_types()) {
        let (old, new) = (old.unwrap(), new.unwrap());
        assert_eq!((old.id, old.name, old.def.kind()), (new.id, new.name, new.def.kind()));
    }
    for line in object.functions.iter().flat_map(|function| &function.lines) {
        assert_eq!(before.string(line.text).unwrap(), after.string(line.text).unwrap());
    }
}

#[test]
fn kernels_are_asked_only_for_what_is_used_and_get_nothing_newer() {
    let object = compile(EVERYTHING);
    for (index, missing) in Newer::ALL.into_iter().enumerate() {
        let after = fitted(&object, older_than(missing));
        let mut again = Builder::copy_of(&after).unwrap();
        for (at, what) in Newer::ALL.into_iter().enumerate() {
            // Without functions there is none with global linkage either.
            assert_eq!(again.uses(what), at < index, "{what:?} for a kernel without {missing:?}");
        }
    }
    assert_eq!(fit(&object, |feature| feature != Feature::Btf).unwrap(), None);

    let plain = compile("int f(int c) { return 0; }");
    let asked = std::cell::RefCell::new(Vec::new());
    let bytes = fit(&plain, |feature| {
        asked.borrow_mut().push(feature);
        true
    });
    assert!(bytes.unwrap().is_some());
    assert_eq!(asked.into_inner(), [Feature::Btf, Feature::BtfFunc, Feature::BtfFuncGlobal]);
}

#[test]
fn unions_take_the_place_of_wide_enums() {
    let after = fitted(&compile(EVERYTHING), older_than(Newer::Enum64));
    let Def::Union(wide) = after.get(after.find("wide", Kind::Union).unwrap()).unwrap().def else { panic!() };
    let names = |def: Composite<'_>| def.members().map(|m| m.unwrap().name.to_owned()).collect::<Vec<_>>();
    assert_eq!((wide.size, names(wide)), (8, vec!["WIDE_A".to_owned(), "WIDE_B".to_owned()]));
}

const POINTERS: &str = r#"
#define SEC(name) __attribute__((section(name), used))
struct xdp_md;
__attribute__((noinline)) int plain(int number, int *to) { return number + (to != 0); }
__attribute__((noinline)) int context(struct xdp_md *ctx) { return ctx != 0; }
SEC("xdp") int drop(void *ctx) { int one = 1; return plain(1, &one) + context(ctx); }
"#;

#[test]
fn functions_with_pointers_are_static_where_they_cannot_be_verified_alone() {
    let object = compile(POINTERS);
    let linkages = |has: bool| {
        let kinds = BTreeSet::from([ProgramType::XDP]);
        let (bytes, _) = super::fit(&object, &kinds, |asked| has || asked != Feature::GlobalFuncPointers).unwrap();
        let btf = Btf::parse(Arc::new(bytes.unwrap())).unwrap();
        ["plain", "context", "drop"].map(|name| match btf.get(btf.find(name, Kind::Func).unwrap()).unwrap().def {
            Def::Func { linkage, .. } => linkage,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(linkages(true), [Linkage::Global; 3]);
    assert_eq!(linkages(false), [Linkage::Static, Linkage::Global, Linkage::Global]);
}

/// Every real object's types load here, as they are for this kernel and as they would be for older ones.
#[test]
fn real_objects_load() {
    let here: Vec<Newer> = Newer::ALL.into_iter().filter(|what| this_kernel_has(feature(*what))).collect();
    println!("this kernel knows {here:?}");
    let has = |asked| Newer::ALL.iter().all(|what| feature(*what) != asked || here.contains(what));
    let objects = ringfence_testing::all_objects();
    let (mut count, mut refused) = (0, Vec::new());
    for path in &objects {
        let name = path.file_name().unwrap().to_string_lossy();
        let Ok(object) = Object::parse(&name, &std::fs::read(path).unwrap()) else { continue };
        // What the self-tests only dump has no programs, and is not always loadable.
        if object.programs.is_empty() {
            continue;
        }
        // Kernels that know lists of objects insist on the tags that older kernels do not know.
        let lists = object.tags.iter().any(|tag| tag.text.starts_with("contains:"));
        let older = |what| fit(&object, |asked| has(asked) && older_than(what)(asked)).unwrap().unwrap();
        if let Some(bytes) = fit(&object, has).unwrap() {
            count += 1;
            let older = [Newer::Enum64, Newer::Float, Newer::Datasec].into_iter().filter(|_| !lists).map(older);
            for fitted in [bytes].into_iter().chain(older) {
                refused.extend(load(&fitted).err().map(|error| format!("{name}: {error}")));
            }
        }
    }
    assert!(count > 0 || objects.is_empty());
    println!("{count} objects");
    assert!(refused.is_empty(), "{refused:#?}");
}
