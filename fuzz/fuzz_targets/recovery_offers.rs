//! No offer of a client gets what another client has missed, or anything twice.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| roomcast::fuzzing::recovery_offers(data));
