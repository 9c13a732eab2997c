//! What Node servers send through Redis is read or refused, and what was read may be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| roomcast::fuzzing::node_messages(data));
