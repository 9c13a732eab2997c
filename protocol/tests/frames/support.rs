use roomcast_protocol::websocket::{Decoder, Event, Fragment, FrameError, Opcode, encode_frame};

/// Decodes these bytes in one segment. Returns all events, and the error that ended them.
pub(crate) fn drain(decoder: &mut Decoder, mut input: &[u8]) -> (Vec<Event>, Option<FrameError>) {
    let mut events = Vec::new();
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(event)) => events.push(event),
            Ok(None) => {
                assert!(input.is_empty());
                return (events, None);
            }
            Err(error) => return (events, Some(error)),
        }
    }
}

/// Encodes a frame as a client does.
pub(crate) fn masked(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let fragment = if fin { Fragment::Final } else { Fragment::More };
    encode_frame(&mut frame, fragment, opcode, payload, Some(KEY));
    frame
}

pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
