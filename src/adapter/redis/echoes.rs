//! What this server has published itself, and hears again because it listens to the same channels.
//!
//! It is told by how its messages begin or end, before anything of them is read. On a connection without TLS it is taken out
//! of the bytes that come, so that the client of Redis never sees it. What is not recognized here is recognized by
//! its name once it was read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use roomcast_protocol::socket::Parser;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::adapter::message::Tree;

/// How messages of this server look.
#[derive(Debug)]
pub(crate) struct Own {
    /// The beginning of an event on the classic wire: a list of three, of which the name of its sender is the first.
    event: Box<[u8]>,
    /// The beginning of a request on that wire.
    request: Box<[u8]>,
    /// What stands behind the data of a message in JSON on the sharded wire, and begins its end: the name of its sender and
    /// then that of the namespace.
    end: Box<[u8]>,
}

impl Own {
    pub(crate) fn new(name: &str) -> Self {
        let name = |parser| Tree::Text(name).write(parser);
        let (packed, json) = (name(Parser::MessagePack), name(Parser::Json));
        Self {
            event: [b"\x93", &*packed].concat().into(),
            request: [b"{\"uid\":", &*json, b","].concat().into(),
            end: [b",\"uid\":", &*json, b",\"nsp\":\""].concat().into(),
        }
    }

    /// Whether this is certainly a message of this server.
    ///
    /// The end of a document in JSON cannot be taken for something else: behind `","nsp":"` comes a text up to the last
    /// quotation mark, and whatever begins as a key in front of it would have to be escaped inside of a text.
    pub(crate) fn has_sent(&self, payload: &[u8]) -> bool {
        if payload.starts_with(&self.event) || payload.starts_with(&self.request) {
            return true;
        }
        let Some(rest) = payload.strip_suffix(b"\"}") else {
            return false;
        };
        // Names of namespaces in which something is escaped are not looked at here.
        let name = rest.iter().rposition(|byte| *byte == b'"');
        let name = name.and_then(|quote| rest.split_at_checked(quote + 1));
        name.is_some_and(|(head, name)| {
            payload.starts_with(b"{\"type\":")
                && !name.contains(&b'\\')
                && head.ends_with(&self.end)
        })
    }
}

/// The bytes that come from Redis, without messages of this server itself.
#[derive(Debug)]
pub(crate) struct Sieve<S> {
    stream: S,
    own: Arc<Own>,
    read: Box<[u8]>,
    /// The beginning of what has come and is not whole yet.
    held: Vec<u8>,
    /// What is given on, and how much of it was.
    passed: (Vec<u8>, usize),
    /// So many bytes that are still to come are given on unseen; all of them if Redis has said something that is not known
    /// in here.
    unseen: usize,
}

impl<S> Sieve<S> {
    pub(crate) fn new(stream: S, own: Arc<Own>) -> Self {
        Self {
            stream,
            own,
            read: vec![0; READ].into(),
            held: Vec::new(),
            passed: (Vec::new(), 0),
            unseen: 0,
        }
    }

    /// Takes in what was read.
    fn sift(&mut self, count: usize) {
        let mut bytes = self.read.get(..count).unwrap_or_default();
        if self.unseen > 0 {
            let (unseen, rest) = bytes.split_at(bytes.len().min(self.unseen));
            self.passed.0.extend_from_slice(unseen);
            if self.unseen < usize::MAX {
                self.unseen -= unseen.len();
            }
            bytes = rest;
        }
        if bytes.is_empty() {
            return;
        }
        self.held.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(rest) = self.held.get(at..).filter(|rest| !rest.is_empty()) {
            match look(rest, &self.own) {
                Seen::Whole { len, is_own } => {
                    if !is_own {
                        self.passed
                            .0
                            .extend_from_slice(rest.get(..len).unwrap_or_default());
                    }
                    at += len;
                }
                Seen::Large { len } => {
                    self.passed.0.extend_from_slice(rest);
                    self.unseen = len - rest.len();
                    at = self.held.len();
                }
                Seen::Unknown => {
                    self.passed.0.extend_from_slice(rest);
                    self.unseen = usize::MAX;
                    at = self.held.len();
                }
                Seen::Part => break,
            }
        }
        self.held.drain(..at);
        if self.held.is_empty() && self.held.capacity() > LARGE {
            self.held = Vec::new();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sieve<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let (passed, given) = &mut this.passed;
            if let Some(rest) = passed.get(*given..).filter(|rest| !rest.is_empty()) {
                let count = rest.len().min(out.remaining());
                out.put_slice(rest.get(..count).unwrap_or_default());
                *given += count;
                if *given == passed.len() {
                    *given = 0;
                    passed.clear();
                    passed.shrink_to(LARGE);
                }
                return Poll::Ready(Ok(()));
            }
            let mut read = ReadBuf::new(&mut this.read);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            let count = read.filled().len();
            if count == 0 {
                // The end; what was not whole is given on as it is.
                this.passed.0.append(&mut this.held);
                if this.passed.0.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            this.sift(count);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sieve<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Something whole of this length.
    Whole { len: usize, is_own: bool },
    /// The beginning of a message of this length, which is too long to be kept until it is whole.
    Large { len: usize },
    /// More has to come before it is known.
    Part,
    /// Nothing that is known in here.
    Unknown,
}

/// Looks at what Redis says next, in RESP3.
fn look(bytes: &[u8], own: &Own) -> Seen {
    if bytes.first() == Some(&b'>') {
        match message(bytes) {
            Some(Message::At { start, len }) => {
                let whole = start + len + 2;
                return match bytes.get(start..start + len) {
                    Some(payload) if bytes.len() >= whole => Seen::Whole {
                        len: whole,
                        is_own: own.has_sent(payload),
                    },
                    _ if whole > LARGE => Seen::Large { len: whole },
                    _ => Seen::Part,
                };
            }
            Some(Message::Part) => return Seen::Part,
            None => {}
        }
    }
    match end_of(bytes, 0, 0) {
        Ok(Some(len)) => Seen::Whole { len, is_own: false },
        Ok(None) if bytes.len() <= LARGE => Seen::Part,
        Ok(None) | Err(Strange) => Seen::Unknown,
    }
}

/// Where the payload of a message lies that is pushed.
enum Message {
    At { start: usize, len: usize },
    Part,
}

/// Reads `>3`, the kind, the channel and where the payload is; behind the channel of a pattern comes the one that it matches. `None`
/// if it is no message.
fn message(bytes: &[u8]) -> Option<Message> {
    let Some((count, mut at)) = line(bytes, 1) else {
        return Some(Message::Part);
    };
    let count = number(count)?;
    if !(3..=4).contains(&count) {
        return None;
    }
    for i in 0..count {
        match bytes.get(at) {
            Some(b'$') => {}
            Some(_) => return None,
            None => return Some(Message::Part),
        }
        let Some((len, start)) = line(bytes, at + 1) else {
            return Some(Message::Part);
        };
        let len = number(len).filter(|len| *len <= LONGEST)?;
        if i + 1 == count {
            return Some(Message::At { start, len });
        }
        at = start + len + 2;
        if i == 0 {
            match bytes.get(start..start + len) {
                Some(b"message" | b"pmessage" | b"smessage") => {}
                Some(_) => return None,
                None => return Some(Message::Part),
            }
        }
    }
    None
}

/// Where something ends that begins at `at`; `None` if it is not whole.
fn end_of(bytes: &[u8], at: usize, depth: usize) -> Result<Option<usize>, Strange> {
    let Some(kind) = bytes.get(at) else {
        return Ok(None);
    };
    let Some((text, start)) = line(bytes, at + 1) else {
        return Ok(None);
    };
    let parts = match kind {
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => return Ok(Some(start)),
        // Nothing, as RESP2 says it.
        b'$' | b'*' if text == b"-1" => return Ok(Some(start)),
        b'$' | b'!' | b'=' => {
            let len = number(text).filter(|len| *len <= LONGEST).ok_or(Strange)?;
            let end = start + len + 2;
            return Ok((bytes.len() >= end).then_some(end));
        }
        b'*' | b'~' | b'>' => number(text),
        b'%' => number(text).and_then(|entries| entries.checked_mul(2)),
        b'|' => {
            let entries = number(text).and_then(|entries| entries.checked_mul(2));
            entries.and_then(|parts| parts.checked_add(1))
        }
        _ => return Err(Strange),
    };
    let parts = parts.filter(|_| depth < DEEPEST).ok_or(Strange)?;
    let mut at = start;
    for _ in 0..parts {
        match end_of(bytes, at, depth + 1)? {
            Some(end) => at = end,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Something that RESP3 does not have.
struct Strange;

/// A line without its end, and where the next one begins.
fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some((rest.get(..end)?, at + end + 2))
}

fn number(digits: &[u8]) -> Option<usize> {
    if !(1..=10).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0, |number: usize, digit| {
        let digit = digit.is_ascii_digit().then(|| usize::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Bytes that are read at once.
const READ: usize = 16 << 10;
/// What is longer is not kept until it is whole.
const LARGE: usize = 64 << 10;
/// The longest text that Redis may have.
const LONGEST: usize = 512 << 20;
/// What the answers of Redis are nested into one another at most.
const DEEPEST: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roomcast_protocol::socket::{Args, Nsp};
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::adapter::{
        envelope::Publication,
        message::{Pulse, write_message, write_pulse},
        operation::Kind,
        redis::classic,
    };

    fn event() -> Publication {
        let args = json!([1, "\",\"uid\":\"me\",\"nsp\":\"/\"}"]);
        let args = Args::document(Parser::Json, args.to_string().into()).unwrap();
        let (event, args) = ("e".into(), args.items(0).unwrap());
        let mut event = Publication::new(Nsp::from("/a"), Kind::Broadcast { event, args });
        event.rooms = Some(vec!["room".into()]);
        event
    }

    #[test]
    fn what_a_server_has_sent_is_known_by_its_beginning_or_its_end_and_nothing_else_is() {
        let mut leaving = event();
        leaving.kind = Kind::Leave(vec!["other".into()]);
        for name in ["me", "m\"e", &"n".repeat(64)] {
            let own = Own::new(name);
            for other in ["me", "m\"e", &"n".repeat(64), "n", "\u{e9}"] {
                for publication in [event(), leaving.clone()] {
                    let payload = classic::write("key", other, &publication).unwrap().1;
                    assert_eq!(own.has_sent(&payload), other == name, "{payload:?}");
                    let payload = write_message(other, &publication).unwrap();
                    assert_eq!(own.has_sent(&payload), other == name, "{payload:?}");
                }
                let pulse = write_pulse(other, &Nsp::ROOT, Pulse::Alive);
                assert_eq!(own.has_sent(&pulse), other == name);
            }
        }
        let own = Own::new("me");
        for payload in [
            "",
            "\"}",
            r#","uid":"me","nsp":"/"}"#,
            r#"{"type":3,"data":{"x":1,"uid":"me","nsp":"/"}}"#,
            r#"{"type":3,"uid":"you","nsp":"/,\"uid\":\"me\",\"nsp\":\"/"}"#,
            r#"{"type":3,"uid":"me","nsp":"/","x":"y"}"#,
        ] {
            assert!(!own.has_sent(payload.as_bytes()), "{payload}");
        }
    }

    fn pushed(kind: &str, payload: &[u8]) -> Vec<u8> {
        let channels: &[&str] = match kind {
            "pmessage" => &["key#*", "key#/#"],
            _ => &["key#/#"],
        };
        let mut bytes = format!(">{}\r\n", channels.len() + 2).into_bytes();
        for part in [&[kind], channels].concat() {
            bytes.extend(format!("${}\r\n{part}\r\n", part.len()).bytes());
        }
        bytes.extend(format!("${}\r\n", payload.len()).bytes());
        [&*bytes, payload, b"\r\n"].concat()
    }

    /// What comes out of a sieve that reads these pieces.
    async fn sifted(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut writer, reader) = tokio::io::duplex(1 << 20);
        let mut sieve = Sieve::new(reader, Arc::new(Own::new("me")));
        let write = async move {
            for piece in pieces {
                writer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let mut out = Vec::new();
        let (read, ()) = tokio::join!(sieve.read_to_end(&mut out), write);
        read.unwrap();
        out
    }

    /// All that Redis may say, and whether it is given on.
    fn said() -> Vec<(Vec<u8>, bool)> {
        let own = write_message("me", &event()).unwrap();
        let other = write_message("you", &event()).unwrap();
        let classic = classic::write("key", "me", &event()).unwrap().1;
        let answers = [
            &b"+OK\r\n"[..],
            b":1\r\n",
            b"-NOPERM no\r\n",
            b"$-1\r\n",
            b"$5\r\na\r\nbc\r\n",
            b"%2\r\n$2\r\nid\r\n:1\r\n+modules\r\n*0\r\n",
            b"|1\r\n+ttl\r\n:3\r\n#t\r\n",
            b">3\r\n$10\r\npsubscribe\r\n$5\r\nkey#*\r\n:1\r\n",
            b"*2\r\n*1\r\n,1.5\r\n_\r\n",
        ];
        let mut said: Vec<_> = answers.map(|answer| (answer.to_vec(), true)).into();
        for kind in ["message", "pmessage", "smessage"] {
            said.push((pushed(kind, &own), false));
            said.push((pushed(kind, &classic), false));
            said.push((pushed(kind, &other), true));
            said.push((pushed(kind, b""), true));
        }
        said.push((pushed("message", &vec![b'x'; LARGE + 9]), true));
        said
    }

    fn expected(said: &[(Vec<u8>, bool)]) -> Vec<u8> {
        let given = said.iter().filter(|(_, is_given)| *is_given);
        given.flat_map(|(bytes, _)| bytes.clone()).collect()
    }

    #[tokio::test]
    async fn messages_of_this_server_are_left_out_wherever_the_bytes_are_cut() {
        let said = said();
        let bytes: Vec<_> = said.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        assert!(sifted(&[&bytes]).await == expected(&said));
        for size in [1, 2, 3, 7, 64, 1000] {
            let end = bytes.len().min(size * 4000);
            let (pieces, rest) = bytes.split_at(end);
            let pieces: Vec<_> = pieces.chunks(size).chain([rest]).collect();
            assert!(sifted(&pieces).await == expected(&said), "{size}");
        }
    }

    #[tokio::test]
    async fn what_is_not_known_and_what_is_cut_off_is_given_on() {
        let own = pushed("message", &write_message("me", &event()).unwrap());
        for strange in [&b"?\r\n"[..], b"$x\r\n", b"*99999999999\r\n"] {
            let bytes = [strange, &own].concat();
            assert_eq!(
                sifted(&[&bytes]).await,
                bytes,
                "nothing is sifted behind it"
            );
        }
        let (begun, _) = own.split_at(own.len() - 1);
        assert_eq!(
            sifted(&[b":1\r\n", begun]).await,
            [b":1\r\n", begun].concat()
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_is_looked_at_without_a_fault(bytes: Vec<u8>, kind in 0..9_usize) {
            let start = [&b">"[..], b">3\r\n$7\r\nmessage\r\n$", b"*", b"%", b"|", b"$", b"", b">4\r\n", b"~"][kind];
            let bytes = [start, &bytes].concat();
            match look(&bytes, &Own::new("me")) {
                Seen::Whole { len, .. } => prop_assert!((1..=bytes.len()).contains(&len)),
                Seen::Large { len } => prop_assert!(len > bytes.len()),
                Seen::Part | Seen::Unknown => {}
            }
        }
    }
}
