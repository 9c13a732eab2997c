//! Compares with tungstenite: the same bytes give the same messages, or both refuse them.

use std::io::Cursor;

use proptest::{prelude::*, sample::Index};
use roomcast_protocol::websocket::{Fragment, Opcode, Role, encode_frame};
use tungstenite::{Message, WebSocket, protocol::Role as TheirRole};

use crate::{
    both::{Seen, compare, decode},
    support::KEY,
};

const MAX: usize = 70_000;

/// Asserts that the result does not depend on how the input is split, and that tungstenite agrees.
fn read_alike(role: Role, input: &[u8], pieces: &[Index]) {
    let mut cuts: Vec<_> = pieces
        .iter()
        .map(|cut| cut.index(input.len() + 1))
        .collect();
    cuts.sort_unstable();
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([input.len()]);
    let segments = starts
        .zip(ends)
        .map(|(start, end)| input.get(start..end).unwrap_or_default());
    assert_eq!(decode(role, segments, MAX), decode(role, [input], MAX));
    compare(role, input, MAX);
}

/// A frame with an explicit header, any part of which may be invalid.
#[derive(Clone, Debug)]
struct UncheckedFrame {
    first: u8,
    masked: bool,
    /// 0: the shortest form of the length; 1: 16 bits; 2: 64 bits.
    form: u8,
    payload: Vec<u8>,
}

impl UncheckedFrame {
    fn encode(&self, out: &mut Vec<u8>) {
        let mask = u8::from(self.masked) << 7;
        let len = self.payload.len();
        out.push(self.first);
        match (self.form, len) {
            (0, 0..=125) => out.push(mask | len as u8),
            (0 | 1, 0..=0xffff) => {
                out.push(mask | 126);
                out.extend((len as u16).to_be_bytes());
            }
            (_, _) => {
                out.push(mask | 127);
                out.extend((len as u64).to_be_bytes());
            }
        }
        if self.masked {
            out.extend(KEY);
        }
        let key = KEY.iter().cycle();
        let flip = if self.masked { 0xff } else { 0 };
        out.extend(
            self.payload
                .iter()
                .zip(key)
                .map(|(byte, key)| byte ^ key & flip),
        );
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => ".{0,40}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (120_usize..140).prop_map(|len| vec![b'x'; len]),
        1 => (65_530_usize..65_540).prop_map(|len| vec![b'y'; len]),
        1 => (prop_oneof![990_u16..1020, any::<u16>()], ".{0,20}")
            .prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat()),
    ]
}

fn loose(masked: bool) -> impl Strategy<Value = UncheckedFrame> {
    let first = prop_oneof![
        20 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
        2 => Just(0x88),
        1 => any::<u8>(),
    ];
    let masked = prop_oneof![20 => Just(masked), 1 => any::<bool>()];
    let form = prop_oneof![20 => Just(0_u8), 1 => 1_u8..3];
    (first, masked, form, payload()).prop_map(|(first, masked, form, payload)| UncheckedFrame {
        first,
        masked,
        form,
        payload,
    })
}

/// A fragmented message with control frames between the fragments.
#[derive(Clone, Debug)]
struct FragmentedMessage {
    opcode: Opcode,
    fragments: Vec<Vec<u8>>,
    /// A control frame before the fragment with this number, if any.
    control: Option<(Index, Opcode, Vec<u8>)>,
}

impl FragmentedMessage {
    fn encode(&self, key: Option<[u8; 4]>, out: &mut Vec<u8>) {
        let count = self.fragments.len();
        for (i, fragment) in self.fragments.iter().enumerate() {
            if let Some((at, opcode, payload)) = &self.control
                && at.index(count) == i
            {
                encode_frame(out, Fragment::Final, *opcode, payload, key);
            }
            let opcode = if i == 0 {
                self.opcode
            } else {
                Opcode::Continuation
            };
            let position = if i + 1 == count {
                Fragment::Final
            } else {
                Fragment::More
            };
            encode_frame(out, position, opcode, fragment, key);
        }
    }
}

fn whole() -> impl Strategy<Value = FragmentedMessage> {
    let text =
        ("\\PC{0,60}", prop::collection::vec(any::<Index>(), 0..4)).prop_map(|(text, cuts)| {
            let text = text.into_bytes();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            let mut fragments = Vec::new();
            let mut start = 0;
            for end in cuts.into_iter().chain([text.len()]) {
                fragments.push(text.get(start..end).unwrap_or_default().to_vec());
                start = end;
            }
            (Opcode::Text, fragments)
        });
    let binary = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5)
        .prop_map(|fragments| (Opcode::Binary, fragments));
    let control = (
        any::<Index>(),
        prop::sample::select(vec![Opcode::Ping, Opcode::Pong]),
        prop::collection::vec(any::<u8>(), 0..=125),
    );
    (prop_oneof![text, binary], prop::option::of(control)).prop_map(
        |((opcode, fragments), control)| FragmentedMessage {
            opcode,
            fragments,
            control,
        },
    )
}

fn role_of(masked: bool) -> Role {
    if masked { Role::Server } else { Role::Client }
}

fn pieces() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn valid_sessions_are_read_alike(
        messages in prop::collection::vec(whole(), 0..6),
        key: Option<[u8; 4]>,
        pieces in pieces(),
    ) {
        let mut input = Vec::new();
        for message in &messages {
            message.encode(key, &mut input);
        }
        let role = role_of(key.is_some());
        prop_assert_eq!(decode(role, [&input[..]], MAX).1, None);
        read_alike(role, &input, &pieces);
    }

    #[test]
    fn mutated_sessions_are_read_alike(
        messages in prop::collection::vec(whole(), 1..4),
        key: Option<[u8; 4]>,
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        pieces in pieces(),
    ) {
        let mut input = Vec::new();
        for message in &messages {
            message.encode(key, &mut input);
        }
        for (at, byte) in changes {
            let at = at.index(input.len());
            if let Some(changed) = input.get_mut(at) {
                *changed = byte;
            }
        }
        read_alike(role_of(key.is_some()), &input, &pieces);
    }

    #[test]
    fn loose_frames_are_read_alike(
        (masked, frames) in any::<bool>()
            .prop_flat_map(|masked| (Just(masked), prop::collection::vec(loose(masked), 0..5))),
        pieces in pieces(),
    ) {
        let mut input = Vec::new();
        for frame in &frames {
            frame.encode(&mut input);
        }
        read_alike(role_of(masked), &input, &pieces);
    }

    #[test]
    fn any_bytes_are_read_alike(
        input in prop::collection::vec(any::<u8>(), 0..60),
        server: bool,
        pieces in pieces(),
    ) {
        read_alike(role_of(server), &input, &pieces);
    }

    #[test]
    fn output_of_tungstenite_is_read(texts in prop::collection::vec(".{0,200}", 0..5), server: bool) {
        let role = if server { TheirRole::Client } else { TheirRole::Server };
        let mut socket = WebSocket::from_raw_socket(Cursor::new(Vec::new()), role, None);
        for text in &texts {
            socket.send(Message::text(text.as_str())).unwrap();
        }
        let input = socket.get_ref().get_ref();
        let expected = texts.into_iter().map(|text| Seen::Text(text.into_bytes())).collect();
        prop_assert_eq!(decode(role_of(server), [&input[..]], MAX), (expected, None));
    }
}
