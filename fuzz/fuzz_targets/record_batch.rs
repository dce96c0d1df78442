//! Runs [`tidelog_record::fuzz::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidelog_record::fuzz::target(data));
