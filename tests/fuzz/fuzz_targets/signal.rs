//! Fuzzes `signal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| amends_tests::fuzz::run("signal", bytes));
