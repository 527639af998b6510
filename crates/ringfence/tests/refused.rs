//! What the user is told when something is refused, and that one bad program does not hide the others.

mod common;

use common::{insn, load, object, plan, program, returns};
use ringfence::{AttachType, Error, Kernel, Kind, Loader, Map, MapType, ProgramType, Settings};
use ringfence_plan::{Attach, Fixup, FixupWith, LoadTarget, MapPlan, Need, Needed, PlanMap};
use ringfence_uapi::Insn;

fn refused() -> ringfence::Plan {
    ringfence::plan(&object("refused"), &Kernel::running(), &Settings::new()).unwrap()
}

#[test]
fn the_verifiers_reason_with_its_source() {
    let error = ringfence::load(&refused(), &Kernel::running()).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (Kind::Refused, Some(libc::EACCES)));
    let Error::Refused(refusal) = &error else { panic!("{error}") };
    assert_eq!((refusal.program.as_str(), refusal.section.as_str()), ("third", "raw_tp/sys_enter"));
    assert!(refusal.reason.contains("map_value_or_null"), "{}", refusal.reason);
    let source = refusal.source.as_ref().unwrap();
    assert!(source.file.ends_with("refused.bpf.c") && source.text.contains("return *value"), "{source:?}");
    let text = include_str!("c/refused.bpf.c");
    assert!(text.lines().nth(source.line as usize - 1).unwrap().contains("return *value"));
    assert!(refusal.log.contains("processed "), "the log is whole");
    let said = error.to_string();
    assert!(said.contains("third") && said.contains("return *value") && said.contains("instruction"), "{said}");
}

#[test]
fn each_program_for_itself() {
    let kernel = Kernel::running();
    let plan = refused();
    let results = Loader::new(&plan, &kernel).load_each();
    let verdicts: Vec<_> = results.iter().map(|(name, result)| (name.as_str(), result.is_ok())).collect();
    assert_eq!(verdicts, [("first", true), ("second", true), ("third", false)]);
}

#[test]
fn a_map_that_fails_takes_only_its_programs_with_it() {
    let kernel = Kernel::running();
    let mut plan = refused();
    plan.maps[0].kind = MapType(9999);
    let results = Loader::new(&plan, &kernel).load_each();
    let second = results[1].1.as_ref().unwrap_err();
    assert!(results[0].1.is_ok());
    assert!(second.to_string().contains("map `numbers`"), "{second}");
    assert_eq!(second.kind(), Kind::Unsupported);
    let all = ringfence::load(&plan, &kernel).unwrap_err();
    assert!(all.to_string().starts_with("refused: map `numbers`: creating it: "), "{all}");
}

#[test]
fn the_first_error_does_not_depend_on_chance() {
    let kernel = Kernel::running();
    let mut plan = plan("many");
    for n in 0..40 {
        let bad = [insn(0x61, 0, 2, 0, 0), insn(Insn::EXIT, 0, 0, 0, 0)];
        let insns: &[Insn] = if n % 7 == 3 { &bad } else { &returns(0) };
        plan.programs.push(program(&format!("p{n}"), ProgramType::SOCKET_FILTER, insns));
    }
    for _ in 0..20 {
        let error = Loader::new(&plan, &kernel).threads(4).load().unwrap_err();
        assert!(error.to_string().contains("`p3`"), "{error}");
    }
    let results = Loader::new(&plan, &kernel).threads(4).load_each();
    let failed: Vec<usize> = (0..40).filter(|n| results[*n].1.is_err()).collect();
    assert_eq!(failed, [3, 10, 17, 24, 31, 38]);
}

#[test]
fn a_long_log_is_kept_whole() {
    // 20,000 branches make a log of several megabytes; the reason is its last line.
    let mut insns = vec![insn(0xb7, 0, 0, 0, 0)];
    for _ in 0..20_000 {
        insns.push(insn(0x07, 0, 0, 0, 1));
    }
    insns.extend([insn(0x61, 0, 2, 0, 0), insn(Insn::EXIT, 0, 0, 0, 0)]);
    let mut plan = plan("long");
    plan.programs = vec![program("long", ProgramType::SOCKET_FILTER, &insns)];
    let error = ringfence::load(&plan, &Kernel::running()).unwrap_err();
    let Error::Refused(refusal) = &error else { panic!("{error}") };
    // Linux 7.3 adds what it thinks of it.
    assert!(refusal.reason.starts_with("R2 !read_ok"), "{}", refusal.reason);
    assert_eq!(refusal.insn, Some(20_001));
    assert!(refusal.log.len() > 64 << 10, "{} bytes", refusal.log.len());
    assert!(refusal.log.contains("\n17: "), "the start is there, too");
}

#[test]
fn a_log_for_programs_that_load() {
    let mut plan = plan("logged");
    plan.programs = vec![program("good", ProgramType::SOCKET_FILTER, &returns(0))];
    let kernel = Kernel::running();
    let loaded = Loader::new(&plan, &kernel).log_level(2).load().unwrap();
    assert!(loaded.program("good").unwrap().log().contains("processed 2 insns"));
    assert_eq!(ringfence::load(&plan, &kernel).unwrap().programs()[0].log(), "");
}

#[test]
fn errors_without_a_log_say_what_to_do() {
    let kernel = Kernel::running();
    let load = |kind, change: &dyn Fn(&mut ringfence_plan::ProgramPlan)| {
        let mut plan = plan("odd");
        let mut odd = program("odd", kind, &returns(0));
        change(&mut odd);
        plan.programs = vec![odd];
        plan.needs = vec![Need { what: Needed::Capability("CAP_BPF"), because: "odd".to_owned() }];
        ringfence::load(&plan, &kernel).unwrap_err()
    };
    let unknown = load(ProgramType(9999), &|_| ());
    assert_eq!((unknown.kind(), unknown.errno()), (Kind::Unsupported, Some(libc::EINVAL)));
    let unspecified = load(ProgramType::UNSPEC, &|_| ());
    assert_eq!((unspecified.kind(), unspecified.errno()), (Kind::Invalid, None));
    assert!(unspecified.to_string().contains("does not say what kind"), "{unspecified}");
    let missing = load(ProgramType::TRACING, &|plan| {
        (plan.attach_type, plan.section) = (AttachType::TRACE_RAW_TP, "tp_btf/nothing".to_owned());
        plan.target = LoadTarget::Unknown("this kernel has no tracepoint `nothing`".to_owned());
    });
    assert!(missing.to_string().contains("no tracepoint `nothing`"), "{missing}");
    assert_eq!(missing.kind(), Kind::Unsupported);
    let module = load(ProgramType::TRACING, &|plan| {
        plan.target = LoadTarget::Btf { id: ringfence_btf::TypeId(1), module: Some("no_such_module".to_owned()) };
    });
    assert!(module.to_string().contains("modprobe no_such_module"), "{module}");
    let nobody = load(ProgramType::EXT, &|plan| plan.target = LoadTarget::Program { function: "f".to_owned() });
    assert!(nobody.to_string().contains("Loader::target"), "{nobody}");
    let dangling = load(ProgramType::SOCKET_FILTER, &|plan| {
        plan.fixups = vec![Fixup { insn: 0, with: FixupWith::Map(PlanMap(7)) }];
    });
    assert_eq!(dangling.kind(), Kind::Invalid);
    assert!(dangling.errno().is_none());
}

#[test]
fn what_the_platform_refuses_is_not_blamed_on_rights() {
    let mut plan = plan("traced");
    let mut traced = program("traced", ProgramType::TRACING, &returns(0));
    traced.attach_type = AttachType::TRACE_FENTRY;
    let btf = Kernel::running().btf().unwrap().unwrap().clone();
    let id = btf
        .find("do_unlinkat", ringfence_btf::Kind::Func)
        .or_else(|| btf.find("vfs_read", ringfence_btf::Kind::Func))
        .unwrap();
    traced.target = LoadTarget::Btf { id, module: None };
    traced.attach = Attach::Trace;
    plan.programs = vec![traced];
    match ringfence::load(&plan, &Kernel::running()) {
        Ok(_) => println!("skipped: this platform allows fentry"),
        Err(error) => {
            assert_eq!((error.errno(), error.kind()), (Some(libc::EPERM), Kind::Unsupported), "{error}");
            assert!(error.to_string().contains("this platform refuses programs of the type tracing"), "{error}");
        }
    }
}

#[test]
#[ignore = "run without rights by the next test"]
fn loads_without_rights() {
    let mut plan = plan("poor");
    plan.programs = vec![program("poor", ProgramType::SCHED_CLS, &returns(0))];
    let needs = ["CAP_BPF", "CAP_NET_ADMIN"];
    plan.needs = needs.map(|name| Need { what: Needed::Capability(name), because: "poor".to_owned() }).to_vec();
    let error = ringfence::load(&plan, &Kernel::running()).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (Kind::Permission, Some(libc::EPERM)), "{error}");
    assert!(error.to_string().contains("this process lacks CAP_BPF and CAP_NET_ADMIN"), "{error}");
    assert!(error.to_string().contains("cap_bpf,cap_net_admin+ep"), "{error}");
    let error = Map::create("poor", MapType::HASH, 4, 4, 1).unwrap_err();
    assert_eq!(error.kind(), Kind::Permission, "{error}");
}

#[test]
fn missing_rights_are_named() {
    let own = std::env::current_exe().unwrap();
    let run = std::process::Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
        .arg(own)
        .args(["--exact", "--ignored", "loads_without_rights"])
        .output();
    match run {
        Ok(output) if output.status.code() != Some(127) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        _ => println!("skipped: there is no setpriv"),
    }
}

#[test]
fn a_program_array_of_another_type_is_named() {
    let kernel = Kernel::running();
    let mut plan = plan("shared");
    plan.maps.push(MapPlan::new("table", MapType::PROG_ARRAY, 4, 4, 1));
    let calls = [
        insn(0x18, 2, 1, 0, 0),
        insn(0, 0, 0, 0, 0),
        insn(0xb7, 3, 0, 0, 0),
        insn(0x85, 0, 0, 0, 12),
        insn(0xb7, 0, 0, 0, 0),
        insn(Insn::EXIT, 0, 0, 0, 0),
    ];
    for (name, kind) in [("filter", ProgramType::SOCKET_FILTER), ("packets", ProgramType::XDP)] {
        let mut program = program(name, kind, &calls);
        program.fixups.push(Fixup { insn: 0, with: FixupWith::Map(PlanMap(0)) });
        plan.programs.push(program);
    }
    let error = Loader::new(&plan, &kernel).threads(1).load().unwrap_err();
    let said = error.to_string();
    assert!(said.contains("`packets`") && said.contains("`table` belongs to programs of type socket_filter"), "{said}");
    assert_eq!(error.kind(), Kind::Invalid);
    plan.programs.remove(0);
    ringfence::load(&plan, &kernel).unwrap();
}

#[test]
fn a_map_of_the_users_takes_the_place_of_the_plans() {
    let kernel = Kernel::running();
    let mut plan = refused();
    plan.programs.pop();
    let own = Map::create("own", MapType::HASH, 4, 8, 64).unwrap();
    let loaded = Loader::new(&plan, &kernel).map("numbers", &own).load().unwrap();
    assert_eq!(loaded.map("numbers").map(Map::id).unwrap_or(own.id()), own.id());
    let ids = loaded.maps().iter().map(Map::id).collect::<Vec<_>>();
    assert!(ids.contains(&own.id()));
    let wrong = Map::create("wrong", MapType::HASH, 4, 4, 64).unwrap();
    let error = Loader::new(&plan, &kernel).map("numbers", &wrong).load().unwrap_err();
    assert!(error.to_string().contains("has values of 4 bytes, not 8"), "{error}");
}

#[test]
fn a_kernel_that_does_not_take_a_maps_types_gets_it_without() {
    let mut plan = refused();
    plan.programs.pop();
    plan.maps[0].btf_value = plan.maps[0].btf_key;
    let loaded = load(&plan);
    assert_eq!(loaded.map("numbers").unwrap().info().unwrap().btf_id, 0);
    let kernel = Kernel::running();
    let whole = refused();
    let results = Loader::new(&whole, &kernel).load_each();
    assert!(results[1].1.is_ok());
}
