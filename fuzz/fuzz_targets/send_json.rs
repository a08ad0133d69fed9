#![no_main]

use laws::send_json;

libfuzzer_sys::fuzz_target!(|data: &[u8]| send_json::run(data));
