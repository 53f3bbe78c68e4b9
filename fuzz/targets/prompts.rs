//! Feeds anything to `checks::prompts`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overnight_fuzz::prompts::check(data));
