#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inlet_tests::fuzz::params(bytes));
