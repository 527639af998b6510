//! Everything that a developer of Ringfence runs: one file a verb, and the table of them.
//!
//! Nothing here is part of what users get. Progress goes to stderr, results to stdout.

mod api;
mod bench;
mod bpf;
mod events;
mod fuzz;
mod kernels;
mod mutate;
mod objects;
mod oracle;
mod setup;
mod test;
mod tools;
mod uapi;
mod vm;

use anyhow::Result;
use pico_args::Arguments;

/// A verb of `cargo xtask`.
struct Verb {
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
    run: fn(Arguments) -> Result<()>,
}

const VERBS: &[Verb] = &[
    Verb {
        name: "test",
        arguments: "[--only STEP,...] [--list]",
        help: "everything that CI runs, in order, to the first failure",
        run: test::run,
    },
    Verb {
        name: "setup",
        arguments: "",
        help: "install what the tests need (apt) and mount tracefs and bpffs, where missing",
        run: setup::run,
    },
    Verb {
        name: "objects",
        arguments: "",
        help: "fill target/objects: Debian's libbpf-tools and xdp-tools, and the kernel's own self-tests",
        run: objects::run,
    },
    Verb {
        name: "kernels",
        arguments: "[VERSION...]",
        help: "fill target/kernels with Debian's kernels and their BTF (never installed)",
        run: kernels::run,
    },
    Verb {
        name: "bpf",
        arguments: "[--check]",
        help: "compile bpf/*.bpf.c to the objects in the tree; --check: only compare",
        run: bpf::run,
    },
    Verb {
        name: "uapi",
        arguments: "[--check]",
        help: "compare the tables of crates/uapi with the BTF of the kernels",
        run: uapi::run,
    },
    Verb {
        name: "vm",
        arguments: "[--kernel LIST] [--package NAME] [--modules LIST] [--write] [--static] [TEST...]",
        help: "the command and the library's tests (or those of a package) on other kernels; --write: docs/sections.md; \
               --static: the command alone in guests that hold nothing else",
        run: vm::run,
    },
    Verb {
        name: "mutate",
        arguments: "[--count N] [--recover N] [--seed N] [--ringfence PROGRAM]",
        help: "damaged objects through recovery alone, and through `ringfence inspect`: an answer each, in a second and 100 MB",
        run: mutate::run,
    },
    Verb {
        name: "fuzz",
        arguments: "object|btf|plan|value|flow [--for 60s] [--input FILE]",
        help: "libFuzzer on the stable toolchain; see fuzz/README.md",
        run: fuzz::run,
    },
    Verb {
        name: "bench",
        arguments: "load|ring|maps|links|profile [--rounds N] [--ringfence PROGRAM] [--write]",
        help: "measure against libbpf and aya in one run; --write: into docs/benchmarks.md",
        run: bench::run,
    },
    Verb {
        name: "api",
        arguments: "[--write]",
        help: "compare the library's public names with docs/api.txt",
        run: api::run,
    },
    Verb {
        name: "events",
        arguments: "[--write]",
        help: "compare the event types chosen for libbpf-tools with the truth and docs/events.md; --write: into it",
        run: events::run,
    },
    Verb {
        name: "oracle",
        arguments: "[--set SET] [--object NAME] [--kernel VERSION|here] [--ringfence PROGRAM] [--write]",
        help: "compare with libbpf, program by program; --write: into docs/oracle.md",
        run: oracle::run,
    },
    Verb {
        name: "oracle --verdicts",
        arguments: "[--kernel LIST] [--set LIST] [--object LIST] [--kept libbpf|all] [--ringfence PROGRAM] [--write]",
        help: "compare what loads on other kernels with what libbpf loads there; --write: into docs/verdicts.md",
        run: oracle::run,
    },
];

fn help() {
    println!("cargo xtask VERB\n");
    for verb in VERBS {
        println!("  {}\n      {}", [verb.name, verb.arguments].join(" ").trim_end(), verb.help);
    }
}

fn main() {
    let mut arguments = Arguments::from_env();
    let name = arguments.subcommand().ok().flatten().unwrap_or_else(|| "help".into());
    if name == "help" || arguments.contains(["-h", "--help"]) {
        return help();
    }
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        eprintln!("xtask: there is no verb {name:?}; `cargo xtask help` lists them");
        std::process::exit(2);
    };
    if let Err(error) = (verb.run)(arguments) {
        eprintln!("xtask {name}: {error:#}");
        std::process::exit(1);
    }
}
