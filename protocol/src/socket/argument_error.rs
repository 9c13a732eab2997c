//! Errors about arguments, with texts that are safe to send to the peer.

use std::fmt;

/// An argument that is missing or cannot be read as the requested type.
///
/// The error can be sent to the peer. The path contains names and indices, the message the expected
/// and actual types; neither repeats a received value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentError {
    index: usize,
    path: Box<str>,
    message: Box<str>,
}

impl ArgumentError {
    pub(super) fn new(index: usize, path: &str, error: &dyn fmt::Display) -> Self {
        let text = error.to_string();
        let fault = FAULTS.into_iter().find(|fault| text.starts_with(fault));
        let mut path = shown(path);
        let message = match fault {
            None => "invalid value".to_owned(),
            Some("lone leading surrogate" | "unexpected end of hex escape") => {
                "half of a surrogate pair".to_owned()
            }
            Some(fault @ ("missing field" | "duplicate field")) => {
                // The path ends at the object. The field name comes from the type.
                let field = text.split('`').nth(1).map(shown).unwrap_or_default();
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&field);
                fault.to_owned()
            }
            Some(fault) => {
                let mut message = fault.to_owned();
                if let Some(expected) = expected(&text) {
                    message = format!("{message}: expected {expected}");
                    if let Some(found) = found(&text, fault) {
                        message = format!("{message}, found {found}");
                    }
                }
                message
            }
        };
        Self {
            index,
            path: path.into(),
            message: message.into(),
        }
    }

    /// Creates the error for a missing argument. `error` comes from parsing `null` instead.
    pub(super) fn missing(index: usize, error: &dyn fmt::Display) -> Self {
        let message = match expected(&error.to_string()) {
            Some(expected) => format!("missing: expected {expected}"),
            None => "missing".to_owned(),
        };
        Self {
            index,
            path: "".into(),
            message: message.into(),
        }
    }

    /// Returns the index of the argument, counted from 0.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Returns the path within the argument, as in `items[2].name`; empty for the argument itself.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the error at that path, as in `invalid type: expected a string, found an integer`.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "argument {}: {}", self.index, self.message)
        } else {
            write!(
                f,
                "argument {} at `{}`: {}",
                self.index, self.path, self.message
            )
        }
    }
}

impl std::error::Error for ArgumentError {}

/// Makes a path safe for logs and responses. The peer may have chosen keys of maps in it.
fn shown(path: &str) -> String {
    if path == "." {
        // `serde_path_to_error` writes the path of the argument itself as `.`.
        return String::new();
    }
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']' | '?');
    path.chars()
        .take(MAX_PATH)
        .map(|c| if is_plain(c) { c } else { '?' })
        .collect()
}

/// Returns what the type expected, which is at the end of a serde message.
fn expected(text: &str) -> Option<String> {
    if text.contains(", there are no ") {
        return None;
    }
    let (_, expected) = text.rsplit_once(", expected ")?;
    let expected = expected.split(" at line ").next()?;
    // The name of an application's type means nothing to clients.
    let named = NAMED
        .into_iter()
        .find(|(name, _)| expected.starts_with(name));
    let expected = named.map_or(expected, |(_, shape)| shape);
    // A type may have put received data into its message.
    let is_plain = |c: char| !c.is_control() && !matches!(c, '<' | '>' | '&' | '"');
    let is_short = expected.len() <= MAX_EXPECTED;
    (is_short && expected.chars().all(is_plain)).then(|| expected.to_owned())
}

/// Returns the type or the length of the actual value, without the value.
fn found<'a>(text: &'a str, fault: &str) -> Option<&'a str> {
    let found = text.get(fault.len()..)?.trim_start_matches([':', ' ']);
    if fault == "invalid length" {
        return found.split(',').next();
    }
    if !matches!(fault, "invalid type" | "invalid value") {
        // A name that was received follows.
        return None;
    }
    let kind = KINDS.into_iter().find(|(kind, _)| found.starts_with(kind));
    kind.map(|(_, word)| word)
}

/// The beginnings of serde's messages.
const FAULTS: [&str; 9] = [
    "missing field",
    "invalid type",
    "invalid value",
    "invalid length",
    "unknown variant",
    "unknown field",
    "duplicate field",
    "lone leading surrogate",
    "unexpected end of hex escape",
];

/// The names of types in serde's messages and in messages for clients.
const KINDS: [(&str, &str); 13] = [
    ("boolean", "a boolean"),
    ("integer", "an integer"),
    ("floating point", "a number"),
    ("number", "a number"),
    ("character", "a string"),
    ("string", "a string"),
    ("byte array", "binary"),
    ("binary", "binary"),
    ("unit value", "null"),
    ("null", "null"),
    ("Option", "null"),
    ("sequence", "an array"),
    ("map", "an object"),
];

/// The beginnings of serde's names for application types, and their names for clients.
const NAMED: [(&str, &str); 9] = [
    ("struct ", "an object"),
    ("struct variant ", "an object"),
    ("internally tagged enum ", "an object"),
    ("adjacently tagged enum ", "an object"),
    ("tuple struct ", "an array"),
    ("tuple variant ", "an array"),
    ("unit struct ", "null"),
    ("unit variant ", "null"),
    (
        "enum ",
        "the name of a variant, or an object with it as its only key",
    ),
];

const MAX_PATH: usize = 128;
const MAX_EXPECTED: usize = 256;
