//! Guests: users whose identity is not verified.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Credentials, Principal, name::is_name};
use crate::metrics::hex;

/// The optional data of a guest in the payload of the `CONNECT` packet.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Introduction {
    name: Option<String>,
    guest_key: Option<String>,
}

/// Admits a guest.
///
/// The same `guestKey` results in the same user, also on the next visit and in other tabs. The key
/// is a secret of the client and cannot be derived from the id. Without a key, the user is new.
///
/// # Errors
///
/// If the name or the key is invalid.
pub(crate) fn admit(credentials: &Credentials<'_>) -> Result<Principal, GuestError> {
    let introduction: Option<Introduction> = credentials.parse().map_err(|_| GuestError::Shape)?;
    introduction.unwrap_or_default().admit()
}

/// The prefix of guest ids.
const GUEST_ID: &str = "guest:";

/// The user who stands for all erased users, as the author of their messages.
pub(crate) const ERASED: &str = "erased";

/// Returns whether no token or login may name a user: a guest, or the one that stands for erased
/// users.
pub(crate) fn is_reserved(user_id: &str) -> bool {
    is_guest(user_id) || user_id == ERASED
}

/// Returns whether a user id belongs to a guest. Tokens and logins with such an id are refused.
pub(crate) fn is_guest(user_id: &str) -> bool {
    user_id.starts_with(GUEST_ID)
}

impl Introduction {
    fn admit(self) -> Result<Principal, GuestError> {
        if let Some(name) = &self.name
            && !is_name(name, 40)
        {
            return Err(GuestError::Name);
        }
        let digits = match self.guest_key {
            // The id is public, so it is derived with a hash that does not reveal the key.
            Some(key) if is_of_length(&key, 16, 64) => digits(&Sha256::digest(key)),
            Some(_) => return Err(GuestError::Key),
            None => {
                let mut random = [0; 8];
                getrandom::fill(&mut random).expect("the operating system gives random bytes");
                digits(&random)
            }
        };
        let subject = format!("{GUEST_ID}{digits}");
        let name = self.name.unwrap_or_else(|| subject.clone());
        Ok(Principal::guest(subject, name))
    }
}

/// Returns the first 16 hexadecimal digits.
fn digits(bytes: &[u8]) -> String {
    hex(bytes.get(..8).unwrap_or(bytes))
}

fn is_of_length(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.chars().take(max + 1).count())
}

/// The reason why a guest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuestError {
    /// The payload is not an object with string fields.
    Shape,
    /// The name is too short, too long, or has control or invisible characters.
    Name,
    /// The key is too short or too long.
    Key,
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "auth must be an object with the texts name and guestKey, if any",
            Self::Name => {
                "name must have 1 to 40 characters, something to see, and no control or invisible characters"
            }
            Self::Key => "guestKey must have 16 to 64 characters",
        })
    }
}

impl std::error::Error for GuestError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_id_is_stable_for_a_key() {
        // printf 0123456789abcdef | sha256sum
        let guest = introduce(None, Some("0123456789abcdef")).unwrap();
        assert_eq!(guest.subject, "guest:9f9f5111f7b27a78");
        assert_eq!(guest.name, guest.subject);
        assert!(guest.guest && guest.roles.is_empty());
        let named = introduce(Some("Ann"), Some("0123456789abcdef")).unwrap();
        assert_eq!((named.subject, named.name.as_str()), (guest.subject, "Ann"));
    }

    #[test]
    fn guests_without_a_key_have_distinct_ids() {
        let (first, second) = (
            introduce(None, None).unwrap(),
            introduce(None, None).unwrap(),
        );
        assert_ne!(first.subject, second.subject);
        let digits = first.subject.strip_prefix("guest:").unwrap();
        assert!(digits.len() == 16 && digits.chars().all(|c| c.is_ascii_hexdigit()));
    }

    #[test]
    fn names_and_keys_have_limits_counted_in_characters() {
        for name in ["A", "ä".repeat(40).as_str(), "<b>"] {
            assert!(introduce(Some(name), None).is_ok(), "{name:?}");
        }
        for name in [
            "",
            " ",
            "a\nb",
            "a\u{7f}",
            "a\u{200b}",
            "ä".repeat(41).as_str(),
        ] {
            assert_eq!(
                introduce(Some(name), None),
                Err(GuestError::Name),
                "{name:?}"
            );
        }
        for (length, allowed) in [(0, false), (15, false), (16, true), (64, true), (65, false)] {
            let key = "ä".repeat(length);
            assert_eq!(introduce(None, Some(&key)).is_ok(), allowed, "{length}");
        }
    }

    fn introduce(name: Option<&str>, guest_key: Option<&str>) -> Result<Principal, GuestError> {
        let introduction = Introduction {
            name: name.map(Into::into),
            guest_key: guest_key.map(Into::into),
        };
        introduction.admit()
    }
}
