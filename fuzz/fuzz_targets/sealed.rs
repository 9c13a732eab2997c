//! Input is refused unless it was sealed, whatever it looks like, and sealed data opens once.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| roomcast::fuzzing::sealed(data));
