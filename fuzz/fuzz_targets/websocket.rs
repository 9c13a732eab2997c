//! WebSocket frames: the result does not depend on how they are split, and tungstenite agrees.
#![no_main]

#[path = "../../protocol/tests/frames/both.rs"]
mod both;

use both::{compare, decode};
use libfuzzer_sys::fuzz_target;
use roomcast_protocol::websocket::Role;

const MAX: usize = 1_000;

fuzz_target!(|input: &[u8]| {
    let Some((&role, input)) = input.split_first() else {
        return;
    };
    let role = if role & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let whole = decode(role, [input], MAX);
    assert_eq!(whole, decode(role, input.chunks(1), MAX), "cut at every byte");
    assert_eq!(whole, decode(role, input.chunks(7), MAX));
    compare(role, input, MAX);
});
