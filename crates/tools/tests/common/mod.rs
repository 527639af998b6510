//! What all tests of the tools need.

use std::fs::File;

/// One test at a time may load something: tests of other rooms compare ids before and after.
pub(crate) fn alone() -> File {
    let lock = File::create(std::env::temp_dir().join("ringfence-tests.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    lock
}
