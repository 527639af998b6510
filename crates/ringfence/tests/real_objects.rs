//! Programs of Debian's packages, loaded one by one.

mod common;

use ringfence::{Kernel, Loader, Settings};

/// Loads every program of a package; what fails is printed with its reason.
fn load_all(package: &str) -> Option<(usize, usize)> {
    let kernel = Kernel::running();
    let (mut good, mut all) = (0, 0);
    let objects = ringfence_testing::objects(package);
    for path in &objects {
        let object = ringfence::open(path).unwrap_or_else(|error| panic!("{error}"));
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
    (!objects.is_empty()).then_some((good, all))
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
