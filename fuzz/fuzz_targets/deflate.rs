//! A compressed payload is inflated to what `miniz_oxide` reads, or refused; never beyond the
//! limit. What is compressed here is inflated again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};
use roomcast_protocol::{
    Frame,
    websocket::{
        Event, FrameError,
        deflate::{Decompressor, Settings, WindowBits, compress, inflate},
    },
};

fuzz_target!(|input: &[u8]| {
    let Some((&options, payload)) = input.split_first() else {
        return;
    };
    if payload.is_empty() {
        return;
    }
    let max = 64 << (options % 8);
    let event = |payload: &[u8]| Event::Binary(Bytes::copy_from_slice(payload));
    let inflated = inflate(event(payload), max);

    // One final block more makes the payload a complete stream, unless it has a final block itself.
    let stream = [payload, &[0, 0, 0xff, 0xff, 3, 0]].concat();
    let model = decompress_to_vec_with_limit(&stream, max);
    match (&inflated, &model) {
        (Ok(Event::Binary(data)), Ok(expected)) => {
            // The model stops at the first final block.
            assert!(data.len() <= max && data.starts_with(expected));
        }
        (Ok(_), Err(error)) => panic!("inflated, but the model says {:?}", error.status),
        (Err(FrameError::MessageTooBig), Err(error)) => {
            // The model may find a fault in what follows the limit.
            assert!(matches!(error.status, TINFLStatus::HasMoreOutput | TINFLStatus::Failed));
        }
        (Err(FrameError::MessageTooBig | FrameError::InvalidDeflate), _) => {}
        (other, _) => panic!("{other:?}"),
    }
    let in_context = Decompressor::new().inflate(event(payload), max);
    if inflated.is_ok() {
        assert_eq!(in_context, inflated);
    }

    let window = WindowBits::new(9 + options / 8 % 7).unwrap();
    let settings = Settings {
        threshold: 0,
        level: 1 + options % 9,
    };
    if let Some(packed) = compress(payload, window, &settings) {
        assert!(packed.len() < payload.len());
        assert_eq!(inflate(event(&packed), payload.len()), Ok(event(payload)));
    }
    let frame = Frame::binary(payload);
    assert!(frame.deflated(window, &settings).len() <= frame.len());
});
