use std::{borrow::Cow, fmt};

use super::NAME;

/// An element of `Sec-WebSocket-Extensions` (RFC 6455 section 9.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Listed {
    /// permessage-deflate with valid parameters.
    Deflate(Parameters),
    /// permessage-deflate with an unknown, repeated or invalid parameter. A server declines such an
    /// offer, and a client refuses such an answer (RFC 7692 section 7).
    Invalid,
    /// Another extension.
    Unknown,
}

/// The parameters of permessage-deflate (RFC 7692 section 7.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Parameters {
    pub(super) server_no_context_takeover: bool,
    pub(super) client_no_context_takeover: bool,
    /// 8 to 15.
    pub(super) server_max_window_bits: Option<u8>,
    /// 8 to 15; `Some(None)` if the parameter has no value, which only an offer may omit.
    pub(super) client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// Adds a parameter. Returns `false` if it is unknown, repeated or has an invalid value.
    fn add(&mut self, name: &str, value: Option<&str>) -> bool {
        match (name, value) {
            ("server_no_context_takeover", None) => set(&mut self.server_no_context_takeover),
            ("client_no_context_takeover", None) => set(&mut self.client_no_context_takeover),
            ("server_max_window_bits", Some(value)) => {
                bits(value).is_some_and(|bits| self.server_max_window_bits.replace(bits).is_none())
            }
            ("client_max_window_bits", None) => self.client_max_window_bits.replace(None).is_none(),
            ("client_max_window_bits", Some(value)) => bits(value)
                .is_some_and(|bits| self.client_max_window_bits.replace(Some(bits)).is_none()),
            _ => false,
        }
    }
}

/// Sets a flag. Returns whether it was not set before.
fn set(flag: &mut bool) -> bool {
    !std::mem::replace(flag, true)
}

/// Parses a number of window bits: 8 to 15, without leading zeros (section 7.1.2).
fn bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        _ if value.len() == 2 && value.starts_with('1') => {
            value.parse().ok().filter(|bits| *bits <= 15)
        }
        _ => None,
    }
}

/// A value of `Sec-WebSocket-Extensions` does not match its grammar (RFC 6455 section 9.1), which
/// fails the handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct MalformedExtensions;

impl fmt::Display for MalformedExtensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the Sec-WebSocket-Extensions header is malformed")
    }
}

impl std::error::Error for MalformedExtensions {}

/// Passes the elements of a header value to `visit`, in order. Empty elements are skipped (RFC 9110
/// section 5.6.1).
pub(super) fn parse(value: &str, mut visit: impl FnMut(Listed)) -> Result<(), MalformedExtensions> {
    let mut input = Input(value);
    loop {
        input.skip_blanks();
        if input.0.is_empty() {
            return Ok(());
        }
        if input.take(',') {
            continue;
        }
        visit(input.extension()?);
        if !input.0.is_empty() && !input.take(',') {
            return Err(MalformedExtensions);
        }
    }
}

/// The rest of a header value.
struct Input<'a>(&'a str);

impl<'a> Input<'a> {
    fn extension(&mut self) -> Result<Listed, MalformedExtensions> {
        let is_deflate = self.token()? == NAME;
        let mut parameters = Parameters::default();
        let mut is_valid = true;
        self.skip_blanks();
        while self.take(';') {
            self.skip_blanks();
            let name = self.token()?;
            self.skip_blanks();
            let value = if self.take('=') {
                self.skip_blanks();
                Some(self.value()?)
            } else {
                None
            };
            is_valid = is_valid && parameters.add(name, value.as_deref());
            self.skip_blanks();
        }
        Ok(match is_deflate {
            true if is_valid => Listed::Deflate(parameters),
            true => Listed::Invalid,
            false => Listed::Unknown,
        })
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, separator: char) -> bool {
        let rest = self.0.strip_prefix(separator);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn token(&mut self) -> Result<&'a str, MalformedExtensions> {
        let end = self.0.bytes().position(|byte| !is_token(byte));
        let (token, rest) = self
            .0
            .split_at_checked(end.unwrap_or(self.0.len()))
            .ok_or(MalformedExtensions)?;
        if token.is_empty() {
            return Err(MalformedExtensions);
        }
        self.0 = rest;
        Ok(token)
    }

    /// Takes a token, or a quoted string that contains one (RFC 6455 section 9.1).
    fn value(&mut self) -> Result<Cow<'a, str>, MalformedExtensions> {
        if !self.take('"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = String::new();
        let mut chars = self.0.chars();
        loop {
            let next = match chars.next() {
                Some('"') => break,
                Some('\\') => chars.next(),
                next => next,
            };
            let byte = next.and_then(|next| u8::try_from(next).ok());
            let byte = byte
                .filter(|byte| is_token(*byte))
                .ok_or(MalformedExtensions)?;
            value.push(byte.into());
        }
        self.0 = chars.as_str();
        if value.is_empty() {
            return Err(MalformedExtensions);
        }
        Ok(value.into())
    }
}

/// Returns whether a token may contain this byte (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
