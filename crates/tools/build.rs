//! Each built-in object as a typed module. The compiled objects lie in the tree, so that no compiler of C is needed.

use std::process::ExitCode;

/// Objects in `bpf/` that a tool embeds.
const OBJECTS: &[&str] = &["net", "profile", "trace"];

fn main() -> ExitCode {
    for name in OBJECTS {
        let object = format!("{}/../../bpf/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"));
        if let Err(error) = ringfence_build::Builder::object(object).build() {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
