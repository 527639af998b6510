//! Writes the final instructions of each program of an object into a directory, for comparison with another loader.
//!
//! `listing OBJECT DIR [BTF]`: BTF is a file of kernel types to relocate against, as `btf_custom_path` is for libbpf.
//! On stdout stands, tab-separated, what became of each program.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use ringfence_btf::Btf;
use ringfence_kernel::Kernel;
use ringfence_object::Object;
use ringfence_plan::{Settings, plan};

fn main() -> ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let (object, dir, btf) = match args.as_slice() {
        [object, dir] => (object, dir, None),
        [object, dir, btf] => (object, dir, Some(btf)),
        _ => {
            eprintln!("usage: listing OBJECT DIR [BTF]");
            return ExitCode::from(2);
        }
    };
    match list(object, dir, btf.map(PathBuf::as_path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}\tobject\t-\tFAIL\t{error}", object.display());
            ExitCode::FAILURE
        }
    }
}

fn list(path: &Path, dir: &Path, btf: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let object = Object::parse(&name, &bytes)?;
    let mut settings = Settings::new().fill_sizes(true);
    if let Some(btf) = btf {
        settings = settings.core_btf(Btf::parse(Arc::new(std::fs::read(btf)?))?);
    }
    let plan = plan(&object, &Kernel::running(), &settings)?;
    std::fs::create_dir_all(dir)?;
    for program in &plan.programs {
        std::fs::write(dir.join(&program.name), program.listing(&plan))?;
        println!("{}\tprogram\t{}\tOK\t{} {:?}", path.display(), program.name, program.kind, program.target);
    }
    for problem in &plan.problems {
        println!("{}\tprogram\t{}\tFAIL\t{}", path.display(), problem.program, problem.error);
    }
    for need in &plan.needs {
        println!("{}\tneed\t{:?}\t-\t{}", path.display(), need.what, need.because);
    }
    for left in &plan.left_out {
        println!("{}\tleft\t{}\t-\t{}", path.display(), left.name, left.reason);
    }
    Ok(())
}
