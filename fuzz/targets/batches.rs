//! Feeds anything to `checks::batches`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overnight_fuzz::batches::check(data));
