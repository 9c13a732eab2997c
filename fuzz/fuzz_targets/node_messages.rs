//! Messages of Node.js servers through Redis are decoded or refused, and decoded messages can be
//! encoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| roomcast::fuzzing::node_messages(data));
