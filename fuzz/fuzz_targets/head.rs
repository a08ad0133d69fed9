#![no_main]

use laws::head;

libfuzzer_sys::fuzz_target!(|data: &[u8]| head::run(data));
