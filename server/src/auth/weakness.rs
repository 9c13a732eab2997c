//! Detection of guessable secrets.

use std::fmt;

/// The reason why a secret is guessable. It contains no part of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// The secret has fewer bytes than the purpose needs.
    Short {
        purpose: &'static str,
        needed: usize,
        bytes: usize,
    },
    /// The secret repeats a few characters.
    Repeated,
}

impl Weakness {
    /// Returns why a secret is guessable, if it is. `needed` is the minimum number of bytes.
    pub(crate) fn of(purpose: &'static str, needed: usize, secret: &[u8]) -> Option<Self> {
        if secret.len() < needed {
            let bytes = secret.len();
            return Some(Self::Short {
                purpose,
                needed,
                bytes,
            });
        }
        let is_repeated = (1..=LONGEST_PATTERN).any(|period| {
            let later = secret.iter().skip(period);
            secret.len() > period && later.zip(secret).all(|(later, byte)| later == byte)
        });
        is_repeated.then_some(Self::Repeated)
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short {
                purpose,
                needed,
                bytes,
            } => write!(
                f,
                "the secret can be guessed: it has {bytes} bytes, and {purpose} needs {needed} random bytes or more; \
                 `{GENERATE}` prints a good secret"
            ),
            Self::Repeated => write!(
                f,
                "the secret can be guessed: it repeats a few characters; `{GENERATE}` prints a good secret"
            ),
        }
    }
}

/// A command that prints 64 characters, enough for every algorithm.
const GENERATE: &str = "openssl rand -base64 48";
/// Maximum length of a repeated pattern that is detected. No random secret repeats such a pattern.
const LONGEST_PATTERN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_repetitive_secrets_are_weak() {
        let weakness = |secret: &str| Weakness::of("x", 32, secret.as_bytes());
        for bytes in [0, 1, 31] {
            let secret: String = (b' '..).take(bytes).map(char::from).collect();
            let short = Weakness::Short {
                purpose: "x",
                needed: 32,
                bytes,
            };
            assert_eq!(weakness(&secret), Some(short));
        }
        for repeated in ["x".repeat(32), "changeme".repeat(5), "ab".repeat(16) + "a"] {
            assert_eq!(weakness(&repeated), Some(Weakness::Repeated), "{repeated}");
        }
        for good in [
            "0123456789abcdef0123456789abcdef",
            "a secret of at least thirty-two bytes",
        ] {
            assert_eq!(weakness(good), None, "{good}");
        }
    }
}
