//! Feeds anything to `checks::secrets`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overnight_fuzz::secrets::check(data));
