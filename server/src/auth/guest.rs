//! People nobody vouches for.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Credentials, Principal, name::is_name};

/// What a guest may say of itself in the payload of the `CONNECT` packet.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Introduction {
    name: Option<String>,
    guest_key: Option<String>,
}

/// Lets a guest in.
///
/// Who has the same `guestKey` is the same user: on the next visit, in the next tab. The key is a
/// secret of the client and the id does not give it away. Without one the user is new.
///
/// # Errors
///
/// If the name or the key does not keep to the rules.
pub(crate) fn admit(credentials: &Credentials<'_>) -> Result<Principal, GuestError> {
    let introduction: Option<Introduction> = credentials.parse().map_err(|_| GuestError::Shape)?;
    introduction.unwrap_or_default().admit()
}

/// How the ids of guests begin.
const GUEST_ID: &str = "guest:";

/// Whether a user's id is one of a guest. No token and no login is for such an id.
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
            // The id is told to everybody, so it is made from a hash that does not give the key
            // away.
            Some(key) if is_of_length(&key, 16, 64) => hex(&Sha256::digest(key)),
            Some(_) => return Err(GuestError::Key),
            None => {
                let mut random = [0; 8];
                getrandom::fill(&mut random).expect("the operating system gives random bytes");
                hex(&random)
            }
        };
        let subject = format!("{GUEST_ID}{digits}");
        let name = self.name.unwrap_or_else(|| subject.clone());
        Ok(Principal::guest(subject, name))
    }
}

/// The first 16 hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn is_of_length(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.chars().take(max + 1).count())
}

/// Why a guest is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuestError {
    /// The payload is not an object with texts.
    Shape,
    /// The name is too short, too long, or has characters that are not seen.
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
    fn a_key_makes_an_id_that_stays() {
        // printf 0123456789abcdef | sha256sum
        let guest = introduce(None, Some("0123456789abcdef")).unwrap();
        assert_eq!(guest.subject, "guest:9f9f5111f7b27a78");
        assert_eq!(guest.name, guest.subject);
        assert!(guest.guest && guest.roles.is_empty());
        let named = introduce(Some("Ann"), Some("0123456789abcdef")).unwrap();
        assert_eq!((named.subject, named.name.as_str()), (guest.subject, "Ann"));
    }

    #[test]
    fn without_a_key_everyone_is_somebody_else() {
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
