//! Any bytes as an object file: what its programs send, the layouts of the records, and what is in maps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringfence_flow::{contents, event_types, layouts, outputs, scalars};
use ringfence_object::Object;

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = Object::parse("fuzz.bpf.o", bytes) else { return };
    outputs(&object);
    event_types(&object, None);
    scalars(&object);
    contents(&object);
    for layout in layouts(&object) {
        if let Ok((types, ty)) = layout.to_btf(object.btf.as_ref(), "event") {
            assert_eq!(types.size_of(ty), Ok(u64::from(layout.bytes())));
        }
    }
});
