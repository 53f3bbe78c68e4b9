//! Feeds anything to `checks::templates`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overnight_fuzz::templates::check(data));
