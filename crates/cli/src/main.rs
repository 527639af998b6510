//! The `ringfence` command.
#![forbid(unsafe_code)]
#![allow(unreachable_pub, reason = "a command has no public items")]

mod audit;
mod check;
mod emit;
mod events;
mod exit;
mod filter;
mod inspect;
mod list;
mod live;
mod metrics;
mod net;
mod output;
mod profile;
mod run;
mod source;
mod tool;
mod trace;

use std::process::ExitCode;

use clap::Parser;

/// Loads and runs eBPF programs safely.
///
/// FILE is a compiled object (`clang -target bpf -O2 -g -c tool.bpf.c`); NAME is a built-in program: opens.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 fine, 1 error, 2 usage, 3 the kernel lacks something, 4 refused by the verifier, \
                          5 refused by policy, 6 permission, 7 loss or budget exceeded.";

#[derive(clap::Subcommand)]
enum Verb {
    Inspect(inspect::Args),
    Check(check::Args),
    Run(Box<run::Args>),
    List(list::Args),
    Audit(audit::Args),
    Profile(Box<profile::Args>),
    Net(Box<net::Args>),
    Trace(Box<trace::Args>),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::code(match cli.verb {
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::List(args) => list::run(&args),
        Verb::Audit(args) => audit::run(&args),
        Verb::Profile(args) => profile::run(&args),
        Verb::Net(args) => net::run(&args),
        Verb::Trace(args) => trace::run(&args),
    })
}
