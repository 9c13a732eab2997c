use std::{fmt, fmt::Write as _, str};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    super::deflate::{Agreement, AnswerFault, Offer},
    VERSION, accept_key, has_token,
};

/// A client's request to open a WebSocket.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Path and query, such as `/socket.io/?EIO=4&transport=websocket`.
    pub target: &'a str,
    /// The value of `Host`, such as `localhost:3000`.
    pub host: &'a str,
    /// The value of `Sec-WebSocket-Key`, from [`key`].
    pub key: &'a str,
    /// Further headers, such as `Origin` or `Cookie`.
    pub headers: &'a [(&'a str, &'a str)],
}

impl Request<'_> {
    /// Returns the request text, or `None` if a part contains a character that would end its line
    /// or the target.
    #[must_use]
    pub fn encode(&self) -> Option<String> {
        let is_word =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        let is_value = |text: &str| {
            text.bytes()
                .all(|byte| byte >= b' ' && byte != 0x7f || byte == b'\t')
        };
        let is_name = |text: &str| is_word(text) && !text.contains(':');
        let valid = is_word(self.target)
            && is_word(self.host)
            && is_word(self.key)
            && self
                .headers
                .iter()
                .all(|(name, value)| is_name(name) && is_value(value));
        if !valid {
            return None;
        }
        let Self {
            target,
            host,
            key,
            headers,
        } = self;
        let mut text = format!(
            "GET {target} HTTP/1.1\r\n\
             Host: {host}\r\n\
             Upgrade: websocket\r\n\
             Connection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Version: {VERSION}\r\n"
        );
        for (name, value) in *headers {
            // Writing to a string cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text.push_str("\r\n");
        Some(text)
    }
}

/// Returns the value of `Sec-WebSocket-Key` for 16 random bytes (RFC 6455 section 4.1).
#[must_use]
pub fn key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// Parses a server's response to a request with `key`, from all bytes received so far.
///
/// Returns `Ok(None)` if the response is incomplete. Returns `Ok(Some(len))` if the server accepted
/// and the frames begin after the first `len` bytes. The checks are those of RFC 6455 section 4.1.
/// [`Request`] requests no extension and no subprotocol, so a response that names one is refused.
///
/// # Errors
///
/// If the server did not accept the request, or sent an invalid response: drop the connection.
pub fn read_answer(input: &[u8], key: &str) -> Result<Option<usize>, AnswerError> {
    let answer = read_answer_to(None, input, key)?;
    Ok(answer.map(|answer| answer.len))
}

/// A server's response that opens a WebSocket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The frames begin after this many bytes.
    pub len: usize,
    /// The agreed compression; `None` if the server has declined it or there was no offer.
    pub deflate: Option<Agreement>,
}

/// Parses a response like [`read_answer`], for a request whose headers contain this offer.
///
/// # Errors
///
/// As for [`read_answer`]. A response that names another extension than the offered one is refused.
pub fn read_answer_to(
    offer: Option<Offer>,
    input: &[u8],
    key: &str,
) -> Result<Option<Answer>, AnswerError> {
    let searched = input.get(..MAX_ANSWER).unwrap_or(input);
    let Some(end) = searched.windows(END.len()).position(|window| window == END) else {
        return if input.len() < MAX_ANSWER {
            Ok(None)
        } else {
            Err(AnswerError::TooLong)
        };
    };
    let head = searched.get(..end).unwrap_or_default();
    let head = str::from_utf8(head).map_err(|_| AnswerError::Malformed)?;
    let deflate = check(head, key, offer)?;
    let len = end + END.len();
    Ok(Some(Answer { len, deflate }))
}

fn check(head: &str, key: &str, offer: Option<Offer>) -> Result<Option<Agreement>, AnswerError> {
    let mut lines = head.split("\r\n");
    match status(lines.next().unwrap_or_default()) {
        Some(101) => {}
        Some(other) => return Err(AnswerError::Status(other)),
        None => return Err(AnswerError::Malformed),
    }
    let (mut upgrade, mut connection, mut accept) = (false, false, None);
    let mut extensions = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(AnswerError::Malformed)?;
        let value = value.trim_matches([' ', '\t']);
        let is = |header: &str| name.eq_ignore_ascii_case(header);
        if is("upgrade") {
            upgrade |= has_token(value, "websocket");
        } else if is("connection") {
            connection |= has_token(value, "upgrade");
        } else if is("sec-websocket-accept") {
            if accept.replace(value).is_some() {
                return Err(AnswerError::Accept);
            }
        } else if is("sec-websocket-extensions") && offer.is_some() {
            extensions.push(value);
        } else if is("sec-websocket-extensions") || is("sec-websocket-protocol") {
            return Err(AnswerError::Unrequested);
        }
    }
    if !upgrade {
        return Err(AnswerError::Upgrade);
    }
    if !connection {
        return Err(AnswerError::Connection);
    }
    if accept != Some(accept_key(key).as_str()) {
        return Err(AnswerError::Accept);
    }
    let agreement = offer.map(|offer| offer.check(extensions)).transpose();
    agreement
        .map(Option::flatten)
        .map_err(AnswerError::Extension)
}

/// Returns the status code of an HTTP/1.1 status line.
fn status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.1 ")?;
    let number = rest.split(' ').next()?;
    if number.len() != 3 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse().ok()
}

/// The reason why a server's response does not open a WebSocket.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AnswerError {
    /// The bytes are not an HTTP/1.1 response.
    Malformed,
    /// The head of the response is longer than 16 KiB.
    TooLong,
    /// The status is not 101.
    Status(u16),
    /// `Upgrade` does not contain `websocket`.
    Upgrade,
    /// `Connection` does not contain `upgrade`.
    Connection,
    /// `Sec-WebSocket-Accept` does not match the key.
    Accept,
    /// The server selected an extension or a subprotocol that was not requested.
    Unrequested,
    /// The server's answer does not fit the offered extension.
    Extension(AnswerFault),
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the answer is not HTTP/1.1"),
            Self::TooLong => f.write_str("the head of the answer is too long"),
            Self::Status(status) => write!(f, "the server answered with status {status}"),
            Self::Upgrade => f.write_str("the upgrade header does not name websocket"),
            Self::Connection => f.write_str("the connection header does not name upgrade"),
            Self::Accept => f.write_str("the server did not accept the key"),
            Self::Unrequested => f.write_str("the server chose what was not asked for"),
            Self::Extension(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for AnswerError {}

const END: &[u8] = b"\r\n\r\n";
const MAX_ANSWER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\n\
        Upgrade: websocket\r\n\
        Connection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn the_request_has_the_headers_of_the_rfc() {
        let request = Request {
            target: "/chat?x=1",
            host: "localhost:3000",
            key: &key(*b"the sample nonce"),
            headers: &[("Origin", "http://localhost")],
        };
        assert_eq!(
            request.encode().unwrap(),
            "GET /chat?x=1 HTTP/1.1\r\nHost: localhost:3000\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\nOrigin: http://localhost\r\n\r\n"
        );
    }

    #[test]
    fn a_request_cannot_smuggle_lines() {
        let good = Request {
            target: "/",
            host: "h",
            key: KEY,
            headers: &[],
        };
        assert!(good.encode().is_some());
        assert!(
            Request {
                target: "/ HTTP/1.1",
                ..good
            }
            .encode()
            .is_none()
        );
        assert!(
            Request {
                host: "h\r\nX: y",
                ..good
            }
            .encode()
            .is_none()
        );
        assert!(
            Request {
                headers: &[("X", "a\r\nY: b")],
                ..good
            }
            .encode()
            .is_none()
        );
        assert!(
            Request {
                headers: &[("X: y", "a")],
                ..good
            }
            .encode()
            .is_none()
        );
        assert!(
            Request {
                headers: &[("X", "any value, with blanks")],
                ..good
            }
            .encode()
            .is_some()
        );
    }

    #[test]
    fn response_is_read_once_it_is_complete() {
        let input = [ANSWER.as_bytes(), b"\x81\x00"].concat();
        for end in 0..ANSWER.len() {
            assert_eq!(read_answer(&input[..end], KEY), Ok(None));
        }
        assert_eq!(read_answer(&input, KEY), Ok(Some(ANSWER.len())));
    }

    #[test]
    fn response_names_only_the_offered_extension() {
        let read = |header: &str| {
            let answer = ANSWER.replace("Upgrade: ", &format!("{header}\r\nUpgrade: "));
            read_answer_to(Some(Offer), answer.as_bytes(), KEY)
        };
        let good = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover";
        let answer = read(good).unwrap().unwrap();
        assert_eq!(
            answer.deflate.map(|deflate| deflate.keeps_context),
            Some(false)
        );
        assert_eq!(read("X: y").unwrap().unwrap().deflate, None);
        for (header, fault) in [
            (format!("{good}\r\n{good}"), AnswerFault::Unrequested),
            (format!("{good}; x"), AnswerFault::Parameters),
            (format!("{good};"), AnswerFault::Malformed),
        ] {
            assert_eq!(
                read(&header),
                Err(AnswerError::Extension(fault)),
                "{header}"
            );
        }
    }

    #[test]
    fn invalid_response_is_refused_with_its_fault() {
        let with = |from: &str, to: &str| read_answer(ANSWER.replace(from, to).as_bytes(), KEY);
        assert_eq!(with("101", "200"), Err(AnswerError::Status(200)));
        assert_eq!(with("101", "1o1"), Err(AnswerError::Malformed));
        assert_eq!(with("HTTP/1.1", "HTTP/1.0"), Err(AnswerError::Malformed));
        assert_eq!(with("websocket", "h2c"), Err(AnswerError::Upgrade));
        assert_eq!(
            with("Connection: Upgrade", "Connection: close"),
            Err(AnswerError::Connection)
        );
        assert_eq!(with("s3pP", "S3pP"), Err(AnswerError::Accept));
        assert_eq!(with("-Accept", "-Except"), Err(AnswerError::Accept));
        assert_eq!(with("Upgrade: ", "Upgrade "), Err(AnswerError::Malformed));
        let chosen = "Sec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: ";
        assert_eq!(with("Upgrade: ", chosen), Err(AnswerError::Unrequested));
        assert_eq!(
            read_answer(&[b'x'; 16 * 1024], KEY),
            Err(AnswerError::TooLong)
        );
        assert_eq!(
            read_answer(b"\xff\r\n\r\n", KEY),
            Err(AnswerError::Malformed)
        );
    }
}
