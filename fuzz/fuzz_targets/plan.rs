//! Any object, planned for a kernel whose types are the object's own (each CO-RE relocation then has candidates), or, by
//! the first byte, for one that has no types.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringfence_btf::Builder;
use ringfence_kernel::Kernel;
use ringfence_object::Object;
use ringfence_plan::{Settings, plan};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let Ok(object) = Object::parse("fuzz.bpf.o", bytes) else { return };
    let types = object.btf.clone().filter(|_| choice & 1 == 0);
    let Some(types) = types.or_else(|| Builder::new().build().ok()) else { return };
    let kernel = Kernel::from_btf(types);
    let settings = Settings::new().fill_sizes(choice & 2 == 0);
    let Ok(first) = plan(&object, &kernel, &settings) else { return };
    let listing: String = first.programs.iter().map(|program| program.listing(&first)).collect();
    // The same input gives the same plan.
    let second = plan(&object, &kernel, &settings).expect("it was planned before");
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    drop(listing);
});
