//! Mistakes in the configuration: what is wrong, where, and what would be right.

use std::fmt;

use serde::Serialize;
use toml::Value;

use super::reference::expected;

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Mistake {
    /// What is wrong, and a remedy.
    pub(super) fault: String,
    /// The key or variable that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nearest: Option<String>,
    /// The settings that cause the mistake. Empty if it is caused by a default.
    pub(super) settings: Vec<Place>,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    /// The file, the environment variable, or the flag.
    pub(super) source: String,
    /// The line in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// The value, unless it may be a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    /// The type that the key expects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expected: Option<String>,
}

impl Mistake {
    pub(super) fn at(place: Place, fault: impl Into<String>) -> Self {
        Self {
            fault: fault.into(),
            nearest: None,
            settings: vec![place],
        }
    }
}

impl Mistake {
    /// Returns the keys of the settings that cause the mistake, as far as they have one.
    pub(in crate::cli) fn keys(&self) -> impl Iterator<Item = &str> {
        let settings = self.settings.iter();
        settings.filter_map(|place| place.key.as_deref())
    }

    /// Formats the fault of an unknown variable, which names its source.
    pub(super) fn summary(&self) -> String {
        let nearest = self
            .nearest
            .iter()
            .map(|nearest| format!(", did you mean {nearest}?"));
        nearest.fold(self.fault.clone(), |fault, nearest| fault + &nearest)
    }
}

impl Place {
    /// A source without a key, such as a file that cannot be read.
    pub(super) fn of(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            line: None,
            key: None,
            value: None,
            expected: None,
        }
    }

    /// Adds the key, with its value unless that may be a secret.
    pub(super) fn with_key(mut self, key: &str, value: &Value) -> Self {
        // A table has the right type already: the fault is about a part of it.
        self.expected = expected(key).filter(|_| !value.is_table());
        self.value = Some(shown(key, key, value));
        self.key = Some(key.to_owned());
        self
    }

    /// Adds a key without its value.
    pub(super) fn named(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Adds an unknown key with the expected type of the nearest key.
    pub(super) fn with_unknown(mut self, key: &str, nearest: Option<&str>, value: &Value) -> Self {
        self.expected = nearest.and_then(expected);
        self.value = Some(shown(key, nearest.unwrap_or_default(), value));
        self.key = Some(key.to_owned());
        self
    }
}

/// Formats a value, unless it may be a secret: that depends on the name of the key, and for a
/// misspelled key also on the type of the key that was probably meant.
fn shown(key: &str, meant: &str, value: &Value) -> String {
    let expected = expected(meant).unwrap_or_default();
    let may_be_any_text = expected.is_empty() || expected.ends_with("text");
    if is_secret(key) || is_secret(meant) || (key != meant && may_be_any_text) {
        return HIDDEN.to_owned();
    }
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Returns whether the value of a key may be a secret, or a URL with a password.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let name = key.rsplit(['.', '_']).next().unwrap_or_default();
    let words = ["secret", "token", "passw", "cred"];
    let is_text = expected(&key).is_none_or(|expected| expected.ends_with("text"));
    name == "url" || (is_text && words.iter().any(|word| key.contains(word)))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        self.line.map_or(Ok(()), |line| write!(f, ": line {line}"))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let describe = |place: &Place| {
            let value = place.value.iter().map(|value| format!("value {value}"));
            let expected = place
                .expected
                .iter()
                .map(|expected| format!("expected {expected}"));
            value.chain(expected).collect::<Vec<_>>().join(", ")
        };
        let fault = self.summary();
        match self.settings.as_slice() {
            [] => f.write_str(&fault),
            [place] => {
                write!(f, "{place}: {fault}")?;
                match describe(place) {
                    none if none.is_empty() => Ok(()),
                    details => write!(f, " ({details})"),
                }
            }
            places => {
                let places = places.iter().map(|place| {
                    let key = place.key.as_deref().unwrap_or_default();
                    format!("{place}: `{key}`: {}", describe(place))
                });
                let places: Vec<_> = places.collect();
                write!(f, "{fault} ({})", places.join("; "))
            }
        }
    }
}

/// All mistakes of a configuration, one per line.
#[cfg(test)]
#[derive(Debug)]
pub(in crate::cli) struct Mistakes(pub(in crate::cli) Vec<Mistake>);

#[cfg(test)]
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

const HIDDEN: &str = "(hidden)";
/// Maximum number of shown characters of a value.
const MAX_SHOWN: usize = 80;
