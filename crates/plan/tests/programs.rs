//! Programs: type and hook, what they belong to, where they go, and why some cannot be loaded.

mod common;

use common::{left_out, planned, problem, program, small_kernel};
use ringfence_btf::Kind;
use ringfence_kernel::Kernel;
use ringfence_plan::{Attach, Error, LoadTarget, Needed, Plan, Settings, plan};
use ringfence_uapi::{AttachType, Helper, Insn, ProgramType};

const LICENCE: &str = "-DLICENCE=\"GPL\"";

#[test]
fn type_and_hook_by_section() {
    let Some(object) = common::object("programs.c", &[LICENCE]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new());
    let is = |name: &str| {
        let program = program(&plan, name);
        (program.kind, program.attach_type, program.flags)
    };
    assert_eq!(is("probe"), (ProgramType::KPROBE, AttachType(0), 0));
    assert_eq!(is("traced"), (ProgramType::TRACING, AttachType::TRACE_RAW_TP, 0));
    assert_eq!(is("lsm"), (ProgramType::LSM, AttachType::LSM_MAC, 1 << 4));
    assert_eq!(is("frags"), (ProgramType::XDP, AttachType::XDP, 1 << 5));
    assert_eq!(program(&plan, "probe").license, "GPL");
    assert_eq!(program(&plan, "probe").kernel_name, "probe");
    assert_ne!(program(&plan, "probe").kernel_version, 0);
    assert_eq!(program(&plan, "plain").kernel_version, 0);
}

#[test]
fn an_unknown_section_is_a_problem_that_says_what_to_do() {
    let Some(object) = common::object("programs.c", &[LICENCE]) else { return };
    let kernel = Kernel::running();
    let plan = planned(&object, &kernel, &Settings::new());
    let Error::NoType { section, near, .. } = problem(&plan, "typo") else { panic!() };
    assert_eq!((section.as_str(), near[0].as_str()), ("kprobes/tcp_connect", "kprobe"));
    // Its instructions are known all the same.
    assert_eq!(program(&plan, "typo").kind, ProgramType::UNSPEC);

    let settings = Settings::new().program_type("typo", ProgramType::TRACING, AttachType::TRACE_RAW_TP);
    let plan = planned(&object, &kernel, &settings.attach_target("typo", "sched_switch"));
    let typo = program(&plan, "typo");
    assert_eq!((typo.kind, typo.attach_type), (ProgramType::TRACING, AttachType::TRACE_RAW_TP));
    assert!(matches!(typo.target, LoadTarget::Btf { module: None, .. }));
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
}

#[test]
fn what_programs_belong_to() {
    let Some(object) = common::object("programs.c", &[LICENCE]) else { return };
    let Some(kernel) = small_kernel(&[]) else { return };
    let types = kernel.btf().unwrap().unwrap().clone();
    let plan = planned(&object, &kernel, &Settings::new());
    let id = |name: &str, kind| LoadTarget::Btf { id: types.find(name, kind).unwrap(), module: None };
    assert_eq!(program(&plan, "traced").target, id("btf_trace_sched_switch", Kind::Typedef));
    assert_eq!(program(&plan, "entered").target, id("tcp_connect", Kind::Func));
    assert_eq!(program(&plan, "lsm").target, id("bpf_lsm_file_open", Kind::Func));
    assert_eq!(program(&plan, "iter").target, id("bpf_iter_task", Kind::Func));
    assert_eq!(program(&plan, "probe").target, LoadTarget::None);
    assert_eq!(program(&plan, "replaces").target, LoadTarget::Program { function: "handle".to_owned() });
    let unknown = |name: &str| match &program(&plan, name).target {
        LoadTarget::Unknown(reason) => reason.clone(),
        target => panic!("{name}: {target:?}"),
    };
    assert!(unknown("nowhere").contains("no function no_such_function"), "{}", unknown("nowhere"));
    assert!(unknown("unnamed").contains("SEC(\"fentry/TARGET\")"), "{}", unknown("unnamed"));
    assert!(unknown("of_module").contains("some_module is not loaded"), "{}", unknown("of_module"));

    let plan = planned(&object, &kernel, &Settings::new().attach_target("unnamed", "vmlinux:tcp_connect"));
    assert_eq!(program(&plan, "unnamed").target, id("tcp_connect", Kind::Func));
}

#[test]
fn where_programs_go() {
    let Some(object) = common::object("programs.c", &[LICENCE]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new());
    let attach = |name: &str| program(&plan, name).attach.clone();
    let kprobe = Attach::Kprobe { ret: false, function: "tcp_connect".to_owned(), syscall: false };
    assert_eq!(attach("probe"), kprobe);
    assert_eq!(attach("traced"), Attach::Trace);
    assert_eq!(attach("iter"), Attach::Iter);
    assert_eq!(attach("frags"), Attach::ByUser { what: "a network device" });
    let tracepoint = Attach::Tracepoint { category: "syscalls".to_owned(), name: "sys_enter_openat".to_owned() };
    assert_eq!(attach("reads"), tracepoint);
}

#[test]
fn a_target_given_by_hand() {
    let Some(object) = common::object("programs.c", &[LICENCE]) else { return };
    let kernel = Kernel::running();
    let attach = |target: &str| {
        let settings = Settings::new().program_type("typo", ProgramType::KPROBE, AttachType(0));
        program(&planned(&object, &kernel, &settings.attach_target("typo", target)), "typo").attach.clone()
    };
    let kprobe = Attach::Kprobe { ret: false, function: "vfs_read".to_owned(), syscall: false };
    assert_eq!(attach("vfs_read"), kprobe);
    let uprobe = Attach::Uprobe { ret: false, binary: "/bin/sh".to_owned(), function: "main".to_owned() };
    assert_eq!(attach("/bin/sh:main"), uprobe);
    let plan = planned(&object, &kernel, &Settings::new().attach_target("probe", "vfs_read"));
    assert_eq!(program(&plan, "probe").attach, kprobe);
}

#[test]
fn kinds_that_the_kernel_lacks() {
    let Some(object) = common::object("programs.c", &[LICENCE]) else { return };
    let Some(kernel) = small_kernel(&[]) else { return };
    let plan = planned(&object, &kernel, &Settings::new());
    // The small kernel's enumeration ends at kprobes.
    let Error::Unsupported { what, since, .. } = problem(&plan, "lsm") else { panic!() };
    assert_eq!((what.as_str(), *since), ("program type lsm", Some("5.7")));
    assert!(!plan.problems.iter().any(|problem| problem.program == "probe"));
}

#[test]
fn old_kernels_get_old_helpers_and_no_names() {
    let Some(object) = common::object("programs.c", &[LICENCE]) else { return };
    let (Some(old), Some(new)) = (small_kernel(&[]), small_kernel(&["-DNAMES"])) else { return };
    let helpers = |plan: &Plan| -> Vec<Helper> {
        let calls = program(plan, "reads").insns.iter().filter(|insn| insn.is_helper_call());
        calls.map(|insn| Helper(insn.imm.cast_unsigned())).collect()
    };
    let plan = planned(&object, &old, &Settings::new());
    assert_eq!(helpers(&plan), [Helper::PROBE_READ, Helper::PROBE_READ_STR]);
    assert_eq!(program(&plan, "reads").kernel_name, "");
    let plan = planned(&object, &new, &Settings::new());
    assert_eq!(program(&plan, "reads").kernel_name, "reads");
    let plan = planned(&object, &Kernel::running(), &Settings::new());
    assert_eq!(helpers(&plan), [Helper::PROBE_READ_KERNEL, Helper::PROBE_READ_USER_STR]);
}

#[test]
fn which_programs_are_planned() {
    let Some(object) = common::object("programs.c", &[LICENCE]) else { return };
    let kernel = Kernel::running();
    let names = |settings: &Settings| -> Vec<String> {
        planned(&object, &kernel, settings).programs.into_iter().map(|program| program.name).collect()
    };
    assert!(!names(&Settings::new()).contains(&"optional".to_owned()));
    assert!(names(&Settings::new().program("optional", true)).contains(&"optional".to_owned()));
    assert_eq!(names(&Settings::new().only(["plain", "probe"])), ["probe", "plain"]);
    assert_eq!(names(&Settings::new().only(["plain"]).program("optional", true)), ["optional", "plain"]);
    let settings = Settings::new().program("plain", false);
    assert!(!names(&settings).contains(&"plain".to_owned()));
    let plan = planned(&object, &kernel, &settings);
    assert_eq!(left_out(&plan, "plain"), "the settings leave it out");
    assert!(left_out(&plan, "optional").contains('?'));
    let wrong = super_plan(&object, &Settings::new().only(["pain"]));
    assert!(wrong.contains("no program pain") && wrong.contains("did you mean plain"), "{wrong}");
}

fn super_plan(object: &ringfence_object::Object, settings: &Settings) -> String {
    plan(object, &Kernel::running(), settings).expect_err("it is refused").to_string()
}

#[test]
fn licences() {
    let kernel = Kernel::running();
    let Some(object) = common::object("programs.c", &[]) else { return };
    let plan = planned(&object, &kernel, &Settings::new());
    let text = problem(&plan, "reads").to_string();
    assert!(text.contains("calls bpf_probe_read_kernel") && text.contains("no licence section"), "{text}");
    assert!(text.contains("SEC(\"license\") = \"GPL\""), "{text}");
    assert!(problem(&plan, "lsm").to_string().contains("is an LSM program"));
    // A helper that anybody may call.
    assert!(!plan.problems.iter().any(|problem| problem.program == "plain"));
    assert_eq!(program(&plan, "plain").license, "");
    let plan = planned(&object, &kernel, &Settings::new().license("GPL"));
    assert_eq!(program(&plan, "reads").license, "GPL");

    let object = common::object("programs.c", &["-DLICENCE=\"Proprietary\""]).unwrap();
    let said = super_plan(&object, &Settings::new().license("GPL"));
    assert!(said.contains("states its licence, \"Proprietary\""), "{said}");
    planned(&object, &kernel, &Settings::new().license("Proprietary"));
    let plan = planned(&object, &kernel, &Settings::new());
    assert!(problem(&plan, "reads").to_string().contains("its licence is \"Proprietary\""));
    let object = common::object("programs.c", &["-DLICENCE=\"Dual BSD/GPL\""]).unwrap();
    let plan = planned(&object, &kernel, &Settings::new());
    assert!(!plan.problems.iter().any(|problem| problem.program == "reads"));
}

#[test]
fn the_other_byte_order_is_refused() {
    let Some(object) = common::object("programs.c", &[LICENCE, "-target", "bpfeb"]) else { return };
    let error = super_plan(&object, &Settings::new());
    assert!(error.contains("big-endian") && error.contains("-target bpfel"), "{error}");
}

#[test]
fn needs_name_capabilities_first_and_the_newest_features_next() {
    let Some(object) = common::object("programs.c", &[LICENCE]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new().only(["reads", "frags", "plain"]));
    let capabilities: Vec<&str> = plan
        .needs
        .iter()
        .map_while(|need| match need.what {
            Needed::Capability(name) => Some(name),
            Needed::Kernel { .. } => None,
        })
        .collect();
    assert_eq!(capabilities, ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
    let rest = &plan.needs[3..];
    assert!(rest.iter().all(|need| matches!(need.what, Needed::Kernel { .. })));
    let since = |name: &str| {
        let found = rest.iter().position(|need| match &need.what {
            Needed::Kernel { feature, .. } => feature == name,
            Needed::Capability(_) => false,
        });
        found.unwrap_or_else(|| panic!("{name} is not among {rest:?}"))
    };
    assert!(since("XDP on packets of several parts") < since("bpf_probe_read_kernel"));
    assert!(since("bpf_probe_read_kernel") < since("bpf_get_prandom_u32"));
    assert_eq!(rest[since("bpf_probe_read_kernel")].because, "called by: reads");
    let mut sorted = plan.needs.clone();
    sorted.dedup_by(|a, b| a.what == b.what);
    assert_eq!(sorted.len(), plan.needs.len());
}

#[test]
fn instructions_are_the_file_s() {
    let Some(object) = common::object("programs.c", &[LICENCE]) else { return };
    let plan = planned(&object, &Kernel::running(), &Settings::new());
    let plain = program(&plan, "plain");
    assert_eq!(plain.insns, object.functions[plain.function.0].insns);
    assert_eq!(plain.insns.last(), Some(&Insn { code: Insn::EXIT, ..Insn::default() }));
}
