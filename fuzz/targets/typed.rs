//! Feeds anything to `checks::typed`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overnight_fuzz::typed::check(data));
