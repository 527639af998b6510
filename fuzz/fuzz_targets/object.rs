//! Any bytes as an object file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringfence_object::Object;

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = Object::parse("fuzz.bpf.o", bytes) {
        assert!(!error.to_string().is_empty());
    }
    if let Err(error) = ringfence_object::debug_types(bytes) {
        assert!(!error.to_string().is_empty());
    }
});
