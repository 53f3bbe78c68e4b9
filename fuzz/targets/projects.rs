//! Feeds anything to `checks::projects`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overnight_fuzz::projects::check(data));
