//! Runs [`tidelog_metadata::fuzz::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidelog_metadata::fuzz::target(data));
