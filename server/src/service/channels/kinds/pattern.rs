//! Patterns of channel names, such as `orders:{customer}:{order}`.
//!
//! A name matches a pattern as a whole. A variable part matches every text that is a valid part of
//! a name.

use std::fmt;

use crate::auth::is_name;
use crate::service::rules::bounds::NAME_CHARS;

/// The pattern of the names of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// The text itself.
    Text(String),
    /// Any text, with a name for rules about it.
    Variable(String),
}

/// The texts that stand for the variable parts of a pattern, in their order.
pub(in crate::service) type Values<'a> = Vec<&'a str>;

impl Pattern {
    /// Parses a pattern. The error states what is wrong, to be appended to the key.
    pub(in crate::service) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is missing: set it to a pattern such as `orders:{order}`".into());
        }
        let mut parts = Vec::new();
        for part in text.split(SEPARATOR) {
            let variable = part
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            let part = match variable {
                Some(name) if is_variable(name) => Part::Variable(name.to_owned()),
                None if is_part(part) && !part.contains(['{', '}']) => Part::Text(part.to_owned()),
                Some(_) | None => {
                    return Err(format!(
                        "has the part `{part}`: a part is a text of 1 to {NAME_CHARS} characters \
                         without spaces around it, `..` and `*`, or `{{name}}` with a name of \
                         lowercase letters, digits and `_`"
                    ));
                }
            };
            if matches!(part, Part::Variable(_)) && parts.contains(&part) {
                return Err(format!(
                    "has the part `{part}` twice: give each its own name"
                ));
            }
            parts.push(part);
        }
        if parts.len() > MAX_PARTS {
            return Err(format!("has more than {MAX_PARTS} parts"));
        }
        Ok(Self(parts))
    }

    /// Returns the pattern of the server's own rooms, which have variable parts in angle brackets.
    pub(in crate::service::channels) fn of_room(pattern: &str) -> Self {
        let parts = pattern.split(SEPARATOR).map(|part| {
            let variable = part
                .strip_prefix('<')
                .and_then(|rest| rest.strip_suffix('>'));
            variable.map_or_else(
                || Part::Text(part.to_owned()),
                |name| Part::Variable(name.to_owned()),
            )
        });
        Self(parts.collect())
    }

    /// Returns the texts of the variable parts if a name matches.
    pub(in crate::service::channels) fn matches<'a>(&self, name: &'a str) -> Option<Values<'a>> {
        let Self(parts) = self;
        let mut texts = name.split(SEPARATOR);
        let mut values = Vec::new();
        for part in parts {
            let text = texts.next()?;
            match part {
                Part::Text(expected) if expected == text => {}
                Part::Variable(_) if is_part(text) => values.push(text),
                Part::Text(_) | Part::Variable(_) => return None,
            }
        }
        texts.next().is_none().then_some(values)
    }

    /// Returns a name that both patterns match, if there is one.
    pub(in crate::service::channels) fn common_name(&self, other: &Self) -> Option<String> {
        if self.0.len() != other.0.len() {
            return None;
        }
        let parts = self.0.iter().zip(&other.0).map(|parts| match parts {
            (Part::Text(one), Part::Text(other)) => (one == other).then_some(one),
            (Part::Text(text), Part::Variable(_)) | (Part::Variable(_), Part::Text(text)) => {
                Some(text)
            }
            (Part::Variable(name), Part::Variable(_)) => Some(name),
        });
        let parts: Option<Vec<_>> = parts.map(|part| part.map(String::as_str)).collect();
        parts.map(|parts| parts.join(":"))
    }

    /// Returns the position of a variable part among the [`Values`].
    pub(in crate::service::channels) fn position(&self, variable: &str) -> Option<usize> {
        self.variables().position(|name| name == variable)
    }

    /// Returns the names of the variable parts.
    pub(in crate::service::channels) fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Variable(name) => Some(name.as_str()),
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Variable(name) => write!(f, "{{{name}}}"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, part) in self.0.iter().enumerate() {
            if n > 0 {
                write!(f, "{SEPARATOR}")?;
            }
            part.fmt(f)?;
        }
        Ok(())
    }
}

/// Returns whether a text can be a part of the name of a channel.
fn is_part(text: &str) -> bool {
    is_name(text, NAME_CHARS) && !text.contains('*') && !text.contains("..") && text.trim() == text
}

/// Returns whether a text can be the name of a variable part.
fn is_variable(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !name.is_empty() && name.len() <= MAX_VARIABLE && name.chars().all(is_letter)
}

/// Stands between the parts of a name.
const SEPARATOR: char = ':';
/// The maximum number of parts of a name.
const MAX_PARTS: usize = 8;
/// The maximum number of characters of the name of a variable part.
const MAX_VARIABLE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn name_matches_as_a_whole_and_gives_its_variable_parts() {
        let orders = pattern("orders:{customer}:{order}");
        assert_eq!(orders.matches("orders:7:42"), Some(vec!["7", "42"]));
        assert_eq!(orders.matches("orders:ü ö:x"), Some(vec!["ü ö", "x"]));
        assert_eq!(pattern("news").matches("news"), Some(vec![]));
        let longest = "ü".repeat(NAME_CHARS);
        assert!(orders.matches(&format!("orders:{longest}:1")).is_some());
        for wrong in [
            "",
            "orders",
            "orders:7",
            "orders:7:",
            "orders::42",
            "orders:7:42:1",
            "orders:7:42:",
            ":orders:7:42",
            "Orders:7:42",
            "orders:7:*",
            "orders:7:..",
            "orders:7:a..b",
            "orders:7: 42",
            "orders:7:4\n2",
            "orders:7:4\u{200b}2",
            "orders:\u{202e}7:42",
            &format!("orders:{longest}ü:1"),
        ] {
            assert_eq!(orders.matches(wrong), None, "{wrong:?}");
        }
        let many = format!("orders{}", ":1".repeat(100_000));
        assert_eq!(orders.matches(&many), None);
    }

    #[test]
    fn wrong_patterns_are_refused_with_the_part() {
        for (text, part) in [
            ("", "is missing"),
            ("orders:", "the part ``"),
            ("orders:{}", "the part `{}`"),
            ("orders:{Customer}", "the part `{Customer}`"),
            ("orders:x{id}", "the part `x{id}`"),
            ("orders:*", "the part `*`"),
            ("orders:..", "the part `..`"),
            ("or\u{200b}ders", "a part is a text"),
            ("orders:{id}:{id}", "`{id}` twice"),
            ("a:b:c:d:e:f:g:h:i", "more than 8 parts"),
        ] {
            let fault = Pattern::parse(text).unwrap_err();
            assert!(fault.contains(part), "{text}: {fault}");
        }
        let text = "orders:{customer}:archive:{order_2}";
        assert_eq!(pattern(text).to_string(), text);
    }

    #[test]
    fn patterns_overlap_if_one_name_matches_both() {
        for (one, other, common) in [
            ("orders:{a}", "orders:{b}", Some("orders:a")),
            ("orders:{a}", "orders:archive", Some("orders:archive")),
            ("{kind}:{a}", "orders:x", Some("orders:x")),
            ("orders:{a}", "tickets:{a}", None),
            ("orders:{a}", "orders:{a}:{b}", None),
            ("orders:a:{b}", "orders:{a}:b", Some("orders:a:b")),
            ("orders:a:{b}", "orders:b:{b}", None),
        ] {
            let (one, other) = (pattern(one), pattern(other));
            assert_eq!(one.common_name(&other).as_deref(), common, "{one} {other}");
            let reverse = other.common_name(&one);
            assert_eq!(reverse.is_some(), common.is_some(), "{other} {one}");
            for name in reverse.as_deref().into_iter().chain(common) {
                assert!(one.matches(name).is_some() && other.matches(name).is_some());
            }
        }
        let trades = Pattern::of_room("trades:<userId>");
        assert_eq!(
            trades.common_name(&pattern("trades:{x}")).as_deref(),
            Some("trades:userId")
        );
    }
}
