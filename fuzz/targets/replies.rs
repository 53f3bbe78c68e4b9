//! Feeds anything to `checks::replies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overnight_fuzz::replies::check(data));
