//! Feeds anything to `checks::records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overnight_fuzz::records::check(data));
