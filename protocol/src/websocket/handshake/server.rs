use std::fmt;

use super::{VERSION, has_token};

/// The header values of a request that asks for a WebSocket; `None` where a header is missing.
///
/// Values of a header that comes several times are joined with a comma (RFC 9110 section 5.3). The
/// method (GET) and the HTTP version (1.1) are for the caller to check.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upgrade<'a> {
    /// `Upgrade`
    pub upgrade: Option<&'a str>,
    /// `Connection`
    pub connection: Option<&'a str>,
    /// `Sec-WebSocket-Version`
    pub version: Option<&'a str>,
    /// `Sec-WebSocket-Key`
    pub key: Option<&'a str>,
}

/// Checks that a request asks for a WebSocket as RFC 6455 section 4.2.1 wants it.
///
/// # Errors
///
/// The first header that is wrong; [`HandshakeError::status`] is how to answer.
pub fn check(request: &Upgrade<'_>) -> Result<(), HandshakeError> {
    if !request
        .upgrade
        .is_some_and(|value| has_token(value, "websocket"))
    {
        return Err(HandshakeError::Upgrade);
    }
    if !request
        .connection
        .is_some_and(|value| has_token(value, "upgrade"))
    {
        return Err(HandshakeError::Connection);
    }
    if request.version != Some(VERSION) {
        return Err(HandshakeError::Version);
    }
    if !request.key.is_some_and(is_nonce) {
        return Err(HandshakeError::Key);
    }
    Ok(())
}

/// Which header of a request for a WebSocket is missing or wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// `Upgrade` does not name `websocket`.
    Upgrade,
    /// `Connection` does not name `upgrade`.
    Connection,
    /// `Sec-WebSocket-Version` is not 13; the answer should have `Sec-WebSocket-Version: 13`.
    Version,
    /// `Sec-WebSocket-Key` is not 16 bytes in base64.
    Key,
}

impl HandshakeError {
    /// Every variant, for tables and metrics.
    pub const ALL: &[Self] = &[Self::Upgrade, Self::Connection, Self::Version, Self::Key];

    /// The HTTP status to answer with: 426 if another version was asked for, else 400.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Upgrade | Self::Connection | Self::Key => 400,
            Self::Version => 426,
        }
    }

    /// A short constant name, for labels of metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Connection => "connection",
            Self::Version => "version",
            Self::Key => "key",
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upgrade => "the upgrade header does not name websocket",
            Self::Connection => "the connection header does not name upgrade",
            Self::Version => "the websocket version is not 13",
            Self::Key => "the websocket key is not 16 bytes in base64",
        })
    }
}

impl std::error::Error for HandshakeError {}

/// Whether this is base64 of 16 bytes: 22 characters and their padding.
///
/// The four bits that the last character has too many are not looked at, as by other servers.
fn is_nonce(key: &str) -> bool {
    let Some(digits) = key.strip_suffix("==") else {
        return false;
    };
    digits.len() == 22
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Upgrade<'_> = Upgrade {
        upgrade: Some("websocket"),
        connection: Some("Upgrade"),
        version: Some("13"),
        key: Some("dGhlIHNhbXBsZSBub25jZQ=="),
    };

    #[test]
    fn b4_a_request_as_in_the_rfc_is_accepted() {
        assert_eq!(check(&GOOD), Ok(()));
        let firefox = Upgrade {
            connection: Some("keep-alive, Upgrade"),
            upgrade: Some("WebSocket"),
            ..GOOD
        };
        assert_eq!(check(&firefox), Ok(()));
    }

    #[test]
    fn b4_a_missing_or_short_key_is_a_bad_request() {
        for key in [
            None,
            Some(""),
            Some("=="),
            Some("dGhlIHNhbXBsZQ=="),
            Some("dGhlIHNhbXBsZSBub25jZQ"),
            Some("dGhlIHNhbXBsZSBub25jZTE="),
            Some("dGhlIHNhbXBsZSBub25jZTEy"),
            Some("dGhlIHNhbXBsZSBub25jZ!=="),
            Some("ähhlIHNhbXBsZSBub25jZQ=="),
            Some(" dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            let error = check(&Upgrade { key, ..GOOD }).unwrap_err();
            assert_eq!((error, error.status()), (HandshakeError::Key, 400));
        }
    }

    #[test]
    fn b4_another_version_asks_for_an_upgrade_of_the_client() {
        for version in [
            None,
            Some("12"),
            Some("8"),
            Some("0"),
            Some("13, 8"),
            Some("013"),
        ] {
            let error = check(&Upgrade { version, ..GOOD }).unwrap_err();
            assert_eq!((error, error.status()), (HandshakeError::Version, 426));
        }
    }

    #[test]
    fn b2_an_upgrade_to_something_else_is_a_bad_request() {
        for upgrade in [None, Some("h2c"), Some("websockets"), Some("")] {
            assert_eq!(
                check(&Upgrade { upgrade, ..GOOD }),
                Err(HandshakeError::Upgrade)
            );
        }
        for connection in [None, Some("keep-alive"), Some("close"), Some("")] {
            let error = check(&Upgrade { connection, ..GOOD }).unwrap_err();
            assert_eq!((error, error.status()), (HandshakeError::Connection, 400));
        }
    }

    #[test]
    fn b5_b6_long_values_are_refused_without_backtracking() {
        // Walked once each; a quadratic scan would not come back.
        let blanks = format!("b{}x", " ".repeat(5_000_000));
        let commas = ",".repeat(5_000_000);
        for value in [Some(blanks.as_str()), Some(commas.as_str())] {
            let upgrade = Upgrade {
                upgrade: value,
                ..GOOD
            };
            assert_eq!(check(&upgrade), Err(HandshakeError::Upgrade));
            let connection = Upgrade {
                connection: value,
                ..GOOD
            };
            assert_eq!(check(&connection), Err(HandshakeError::Connection));
            let version = Upgrade {
                version: value,
                ..GOOD
            };
            assert_eq!(check(&version), Err(HandshakeError::Version));
            let key = Upgrade { key: value, ..GOOD };
            assert_eq!(check(&key), Err(HandshakeError::Key));
        }
    }
}
