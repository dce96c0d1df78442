//! Runs [`tidelog_broker::fuzz::target`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidelog_broker::fuzz::target(data));
