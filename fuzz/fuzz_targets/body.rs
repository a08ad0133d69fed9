#![no_main]

use laws::body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
