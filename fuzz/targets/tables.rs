//! Feeds anything to `checks::tables`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overnight_fuzz::tables::check(data));
