//! An envelope of another server is decoded completely or refused, and keeps its content when it is
//! forwarded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roomcast::adapter::Envelope;

fuzz_target!(|data: &[u8]| {
    let Ok(envelope) = Envelope::from_bytes(data.to_vec()) else {
        return;
    };
    // Arguments may contain values that no server sends, such as more attachments than a packet may
    // have.
    let Ok(bytes) = envelope.to_bytes() else {
        return;
    };
    let again = Envelope::from_bytes(bytes.clone()).expect("what was written is read");
    assert_eq!(again.node, envelope.node);
    assert_eq!(again.number, envelope.number);
    assert_eq!(again.channel(), envelope.channel());
    assert_eq!(again.to_bytes().expect("it was written before"), bytes);
});
