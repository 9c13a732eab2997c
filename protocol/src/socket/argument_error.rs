//! The fault of an argument, in words that may be sent to whoever sent it.

use std::fmt;

/// An argument that is missing or is not what was asked for.
///
/// The error can be sent to the peer: the path names places, the message what was expected and
/// which kind of value was found, and nothing repeats a value that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentError {
    index: usize,
    path: Box<str>,
    message: Box<str>,
}

impl ArgumentError {
    pub(super) fn new(index: usize, path: &str, error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let fault = FAULTS.into_iter().find(|fault| text.starts_with(fault));
        let mut path = shown(path);
        let message = match fault {
            None => "invalid value".to_owned(),
            Some("lone leading surrogate" | "unexpected end of hex escape") => {
                "half of a surrogate pair".to_owned()
            }
            Some(fault @ ("missing field" | "duplicate field")) => {
                // The path ends at the object; the field is a name in the type.
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

    /// `error` is what was wrong with `null` in its place.
    pub(super) fn missing(index: usize, error: &serde_json::Error) -> Self {
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

    /// Which argument, counted from 0.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Where in the argument, as in `items[2].name`; empty for the argument itself.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The fault at that place, as in `invalid type: expected a string, found an integer`.
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

/// A path that is safe in logs and answers: keys of maps are the peer's words.
fn shown(path: &str) -> String {
    if path == "." {
        // The argument itself is called `.` in paths.
        return String::new();
    }
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']' | '?');
    path.chars()
        .take(MAX_PATH)
        .map(|c| if is_plain(c) { c } else { '?' })
        .collect()
}

/// What a type has asked for, in its own words, which come last in a message of serde.
fn expected(text: &str) -> Option<String> {
    if text.contains(", there are no ") {
        return None;
    }
    let (_, expected) = text.rsplit_once(", expected ")?;
    let expected = expected.split(" at line ").next()?;
    // How a type of the application is called means nothing to clients.
    let named = NAMED
        .into_iter()
        .find(|(name, _)| expected.starts_with(name));
    let expected = named.map_or(expected, |(_, shape)| shape);
    // A type may have made its message of what came in.
    let is_plain = |c: char| !c.is_control() && !matches!(c, '<' | '>' | '&' | '"');
    let is_short = expected.len() <= MAX_EXPECTED;
    (is_short && expected.chars().all(is_plain)).then(|| expected.to_owned())
}

/// Which kind of value is there instead, without the value.
fn found<'a>(text: &'a str, fault: &str) -> Option<&'a str> {
    let found = text.get(fault.len()..)?.trim_start_matches([':', ' ']);
    if fault == "invalid length" {
        return found.split(',').next();
    }
    if !matches!(fault, "invalid type" | "invalid value") {
        // What follows is a name that came in.
        return None;
    }
    let kind = KINDS.into_iter().find(|(kind, _)| found.starts_with(kind));
    kind.map(|(_, word)| word)
}

/// How the messages of serde begin.
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

/// How serde calls what there is, and how clients do.
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

/// How serde calls types of the application, and what they are to clients.
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
