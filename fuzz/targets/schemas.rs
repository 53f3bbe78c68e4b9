//! Feeds anything to `checks::schemas`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overnight_fuzz::schemas::check(data));
