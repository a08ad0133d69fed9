#![no_main]

use laws::sse;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sse::run(data));
