use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// A position in a journal. Its text is two numbers with a hyphen between them, like the ids of
/// Redis stream entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Position {
    /// The time in milliseconds.
    pub time: u64,
    /// The sequence number within this millisecond.
    pub number: u64,
}

impl Position {
    /// Parses a position. Returns `None` if the text is not a position.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (time, number) = text.split_once('-')?;
        let is_plain = |digits: &str| {
            (1..=20).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_plain(time) || !is_plain(number) {
            return None;
        }
        let (time, number) = (time.parse().ok()?, number.parse().ok()?);
        Some(Self { time, number })
    }

    /// Returns the position as one number, or `None` if it does not fit. Times until the year 2527
    /// fit.
    pub(crate) fn packed(self) -> Option<u64> {
        // The time takes the upper bits, so that the numbers sort like the positions.
        let fits = self.time < 1 << 44 && self.number < 1 << 20;
        fits.then_some(self.time << 20 | self.number)
    }

    pub(crate) const fn unpack(packed: u64) -> Self {
        Self {
            time: packed >> 20,
            number: packed & 0xf_ffff,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.time, self.number)
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a position"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_two_numbers() {
        for text in ["0-0", "1719000000000-12", "18446744073709551615-1"] {
            assert_eq!(Position::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "-",
            "1-",
            "-1",
            "1",
            "1-2-3",
            "a-1",
            "1-+2",
            " 1-2",
            "99999999999999999999-1",
        ] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
        let place = |time, number| Position { time, number }.packed();
        assert!(place(1_719_000_000_000, 1) < place(1_719_000_000_001, 0));
        assert_eq!(place(1, 1 << 20), None);
        let (time, number) = (1_719_000_000_000, (1 << 20) - 1);
        let packed = place(time, number).unwrap();
        assert_eq!(Position::unpack(packed), Position { time, number });
    }
}
