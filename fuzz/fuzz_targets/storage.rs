//! Runs [`tidelog_storage::fuzz::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidelog_storage::fuzz::target(data));
