//! Identities of connected sockets. A leaf module: it must not depend on transports or sockets.
//!
//! Every authentication mechanism produces a [`Principal`]; later stages never see a token.

use std::{net::IpAddr, time::SystemTime};

use roomcast_protocol::socket::{Args, ArgumentError};
use serde::de::DeserializeOwned;

/// The identity of a connected socket. Services base their decisions on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Principal {
    /// The user's id, unique among all users.
    pub subject: String,
    /// The display name, visible to other users.
    pub name: String,
    /// The roles, exactly as the issuer of the credentials wrote them.
    pub roles: Vec<String>,
    /// Whether the identity is unverified.
    pub guest: bool,
    /// When the identity expires; the socket is disconnected at that time.
    pub expires_at: Option<SystemTime>,
    /// The id (`jti`) of the token that proved the identity.
    pub token_id: Option<String>,
    /// An identifier of the login session that proved the identity, such as a hash of its id or of
    /// the token's `sid`.
    pub session: Option<String>,
    /// Additional data of the login session or token, a JSON object.
    pub data: Option<std::sync::Arc<str>>,
}

impl Principal {
    /// Creates a known user without roles, whose name is the subject.
    pub fn new(subject: impl Into<String>) -> Self {
        let subject = subject.into();
        Self {
            name: subject.clone(),
            subject,
            roles: Vec::new(),
            guest: false,
            expires_at: None,
            token_id: None,
            session: None,
            data: None,
        }
    }

    /// Creates a guest with this id and name.
    pub fn guest(subject: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            guest: true,
            ..Self::new(subject)
        }
    }

    /// Creates the principal of all users of a namespace without authentication: a guest with an
    /// empty id and an empty name.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::guest("", "")
    }

    /// Sets the display name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds a role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// Sets when the identity expires.
    #[must_use]
    pub fn with_expiry(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Returns whether the principal has this role.
    #[must_use]
    pub fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }
}

/// The credentials that a client sends to prove its identity.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Credentials<'a> {
    /// The payload of the `CONNECT` packet: the client's option `auth`.
    pub payload: &'a Args,
    /// The value of the `Authorization` header of the handshake request. Header values are bytes
    /// (RFC 9110, 5.5), so a value that is not text is present but invalid.
    pub authorization: Option<&'a [u8]>,
    /// The value of the `Cookie` header of the handshake request; several headers are joined by `;
    /// ` (RFC 9113, 8.2.3). It is bytes because one malformed cookie does not invalidate the rest.
    pub cookie: Option<&'a [u8]>,
    /// Whether the page that sent the request may use its user's cookies. If not, a cookie proves
    /// nothing.
    pub trusted_origin: bool,
    /// The query of the handshake request.
    pub query: Option<&'a str>,
    /// The address from which the client connects.
    pub address: IpAddr,
}

impl<'a> Credentials<'a> {
    /// Creates credentials without headers and query, from a trusted origin.
    #[must_use]
    pub fn new(payload: &'a Args, address: IpAddr) -> Self {
        Self {
            payload,
            authorization: None,
            cookie: None,
            trusted_origin: true,
            query: None,
            address,
        }
    }

    /// Sets the two headers that may carry credentials.
    #[must_use]
    pub fn with_headers(self, authorization: Option<&'a [u8]>, cookie: Option<&'a [u8]>) -> Self {
        Self {
            authorization,
            cookie,
            ..self
        }
    }

    /// States that the page that sent the request must not use its user's cookies.
    #[must_use]
    pub fn with_untrusted_origin(self) -> Self {
        Self {
            trusted_origin: false,
            ..self
        }
    }

    /// Sets the query of the request, without its question mark.
    #[must_use]
    pub fn with_query(self, query: Option<&'a str>) -> Self {
        Self { query, ..self }
    }

    /// Deserializes the payload as `T`. With `Option<T>`, the payload may be missing.
    ///
    /// # Errors
    ///
    /// If the payload is missing or does not match `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ArgumentError> {
        self.payload.get(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Principal;

    #[test]
    fn principal_has_only_its_assigned_roles() {
        let principal = Principal::new("u1").with_role("admin");
        assert!(principal.has("admin"));
        assert!(!principal.has("service"));
        assert_eq!(principal.name, "u1");
        assert!(!principal.guest);
    }

    #[test]
    fn a_guest_is_marked_as_one() {
        let guest = Principal::guest("guest:1", "Ann");
        assert!(guest.guest);
        assert_eq!(guest.name, "Ann");
        assert!(Principal::anonymous().subject.is_empty());
    }
}
