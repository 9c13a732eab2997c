//! Random joins, leaves and broadcasts agree with a naive model of rooms.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| roomcast::fuzzing::rooms_ops(data));
