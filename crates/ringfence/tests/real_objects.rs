//! Programs of Debian's packages, loaded one by one.

mod common;

use std::path::PathBuf;

use ringfence::{Kernel, Loader, Settings};

/// Objects of a directory under `RINGFENCE_OBJECTS`.
fn objects(package: &str) -> Option<Vec<PathBuf>> {
    let Ok(root) = std::env::var("RINGFENCE_OBJECTS") else {
        println!("skipped: RINGFENCE_OBJECTS is not set");
        return None;
    };
    let files = std::fs::read_dir(PathBuf::from(root).join(package)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "o")).collect();
    files.sort();
    Some(files)
}

/// Loads every program of a package; what fails is printed with its reason.
fn load_all(package: &str) -> Option<(usize, usize)> {
    let kernel = Kernel::running();
    let (mut good, mut all) = (0, 0);
    for path in objects(package)? {
        let object = ringfence::open(&path).unwrap_or_else(|error| panic!("{error}"));
        let plan = ringfence::plan(&object, &kernel, &Settings::new().fill_sizes(true))
            .unwrap_or_else(|error| panic!("{error}"));
        for (name, result) in Loader::new(&plan, &kernel).load_each() {
            all += 1;
            match result {
                Ok(_) => good += 1,
                Err(error) => println!("{}: {name}: {:?}: {error}", object.name, error.kind()),
            }
        }
    }
    println!("{package}: {good} of {all}");
    Some((good, all))
}

#[test]
fn libbpf_tools() {
    if let Some((good, _)) = load_all("libbpf-tools") {
        assert!(good >= 171);
    }
}

#[test]
fn xdp_tools() {
    if let Some((good, _)) = load_all("xdp-tools") {
        assert!(good >= 124);
    }
}
