use super::{VERSION, has_token};
use crate::error::errors;

/// The header values of a request to open a WebSocket; `None` for a missing header.
///
/// The caller joins the values of a header that occurs several times with commas (RFC 9110 section
/// 5.3), and checks the method (GET) and the HTTP version (1.1).
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

/// Checks that a request is a valid WebSocket request (RFC 6455 section 4.2.1).
///
/// # Errors
///
/// Returns the first invalid header; [`HandshakeError::status`] is the status of the response.
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

errors! {
    /// The missing or invalid header of a request to open a WebSocket.
    #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
    #[non_exhaustive]
    pub enum HandshakeError {
        /// `Upgrade` does not contain the token `websocket`.
        Upgrade => "upgrade", "the upgrade header does not name websocket";
        /// `Connection` does not contain the token `upgrade`.
        Connection => "connection", "the connection header does not name upgrade";
        /// `Sec-WebSocket-Version` is not 13; the response should contain `Sec-WebSocket-Version:
        /// 13`.
        Version => "version", "the websocket version is not 13";
        /// `Sec-WebSocket-Key` is not 16 bytes in base64.
        Key => "key", "the websocket key is not 16 bytes in base64";
    }
    /// Returns a short constant name for metric labels.
    pub fn name(self);

    /// Returns the HTTP status of the response: 426 for [`Version`](Self::Version), otherwise 400.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Upgrade | Self::Connection | Self::Key => 400,
            Self::Version => 426,
        }
    }
}

/// Returns whether this is base64 of 16 bytes: 22 characters and their padding.
///
/// The four unused bits of the last character are not checked; other servers do not check them.
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
    fn b4_a_version_other_than_13_is_answered_with_426() {
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
        // Each value is scanned once; a quadratic scan would take forever.
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
