#![no_main]

use laws::gateway;

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway::run(data));
