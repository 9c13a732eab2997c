//! Parses the rows of a table. Invalid rows fail the test.

use roomcast_protocol::websocket::{
    FrameError::{self, *},
    Limits,
};

use crate::case::{Case, End, Frame, Seen};

/// Parses the rows of a file. Lines that begin with `#` are comments.
pub(crate) fn cases(file: &'static str) -> Vec<Case> {
    let rows = file.lines().filter(|line| !line.starts_with('#'));
    rows.map(case).collect()
}

fn case(row: &'static str) -> Case {
    let columns: Vec<&str> = row.split('|').map(str::trim).collect();
    let (&[name, frames, seen, end], limits) = columns.split_first_chunk().expect(row);
    let (max_message, max_fragments) = match *limits {
        [] => (16 << 20, 1 << 17),
        [limits] => {
            let (message, fragments) = limits.split_once(' ').expect(row);
            (message.parse().expect(row), fragments.parse().expect(row))
        }
        _ => panic!("too many columns: {row}"),
    };
    Case {
        name,
        frames: list(frames).flat_map(frame).collect(),
        seen: list(seen).flat_map(event).collect(),
        end: ending(end),
        limits: Limits {
            max_message,
            max_fragments,
        },
    }
}

/// Splits a column at the commas that are not in quotes.
fn list(column: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let parts = column.split(move |c| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

fn frame(part: &str) -> Vec<Frame> {
    let (part, times) = times(part);
    let quote = part.find('"').unwrap_or(part.len());
    let (header, payload) = part.split_at(quote);
    let header = header.split_whitespace();
    let header = header.map(|byte| u8::from_str_radix(byte, 16).expect(part));
    let frame = Frame {
        header: header.collect(),
        payload: data(payload),
    };
    vec![frame; times]
}

fn event(part: &str) -> Vec<Seen> {
    let (part, times) = times(part);
    let (kind, rest) = part.split_once(' ').unwrap_or((part, ""));
    let event = match kind {
        "text" => Seen::Text(data(rest)),
        "binary" => Seen::Binary(data(rest)),
        "ping" => Seen::Ping(data(rest)),
        "pong" => Seen::Pong(data(rest)),
        "close" if rest.is_empty() => Seen::Close(None),
        "close" => {
            let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            Seen::Close(Some((code.parse().expect(part), data(reason))))
        }
        _ => panic!("no event: {part}"),
    };
    vec![event; times]
}

fn ending(end: &str) -> End {
    let errors: &[FrameError] = &[
        ReservedBits,
        ReservedOpcode,
        FragmentedControl,
        OversizedControl,
        ExpectedContinuation,
        UnexpectedContinuation,
        LengthOverflow,
        LengthNotMinimal,
        MessageTooBig,
        TooManyFragments,
        InvalidUtf8,
        TruncatedClose,
        InvalidCloseCode,
    ];
    match end {
        "idle" => End::Idle,
        "waits" => End::Waits,
        _ => {
            let error = errors.iter().find(|error| format!("{error:?}") == end);
            End::Fails(*error.expect(end))
        }
    }
}

/// Splits off a trailing `times 3` and returns the number, which is 1 by default.
fn times(part: &str) -> (&str, usize) {
    match part.rsplit_once(" times ") {
        Some((part, times)) => (part, times.parse().expect(part)),
        None => (part, 1),
    }
}

/// Parses the bytes in quotes, with an optional repetition such as `x3`.
fn data(text: &str) -> Vec<u8> {
    if text.is_empty() {
        return Vec::new();
    }
    let (quoted, times) = match text.rsplit_once("\" x") {
        Some((quoted, times)) => (quoted, times.parse().expect(text)),
        None => (text.strip_suffix('"').expect(text), 1),
    };
    let mut pieces = quoted.strip_prefix('"').expect(text).split("\\x");
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (byte, rest) = piece.split_at(2);
        bytes.push(u8::from_str_radix(byte, 16).expect(text));
        bytes.extend(rest.as_bytes());
    }
    bytes.repeat(times)
}
