//! No recovery offer of a client returns another client's missed events, or any event twice.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| roomcast::fuzzing::recovery_offers(data));
