//! Who is there. A leaf: it knows neither transports nor sockets.
//!
//! Everything that proves an identity ends in a [`Principal`]; nothing behind it sees a token.

use std::{net::IpAddr, time::SystemTime};

use roomcast_protocol::socket::{Args, ArgumentError};
use serde::de::DeserializeOwned;

/// The identity of a connected socket: what services decide by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Principal {
    /// The user's id, unique among all users.
    pub subject: String,
    /// The name that others see.
    pub name: String,
    /// Roles, as the issuer of the credentials wrote them.
    pub roles: Vec<String>,
    /// Whether nobody vouches for the identity.
    pub guest: bool,
    /// When the identity ends; the socket is disconnected then.
    pub expires_at: Option<SystemTime>,
    /// The id of the token that proved the identity, its `jti`.
    pub token_id: Option<String>,
    /// What the login session that proved the identity is known by, such as a hash of its id or of the token's `sid`.
    pub session: Option<String>,
    /// What the login session or the token carries along, a JSON object.
    pub data: Option<std::sync::Arc<str>>,
}

impl Principal {
    /// A known user without roles, whose name is the subject.
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

    /// A guest with this id and name.
    pub fn guest(subject: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            guest: true,
            ..Self::new(subject)
        }
    }

    /// The principal of everybody in a namespace that asks nobody for credentials: a guest whose id
    /// and name are empty.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::guest("", "")
    }

    /// Sets the name that others see.
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

    /// Sets when the identity ends.
    #[must_use]
    pub fn with_expiry(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Whether the principal has this role.
    #[must_use]
    pub fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }
}

/// What a client offers to prove who it is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Credentials<'a> {
    /// The payload of the `CONNECT` packet: the client's option `auth`.
    pub payload: &'a Args,
    /// The value of the `Authorization` header of the handshake request. It is bytes, as the header
    /// is (RFC 9110, 5.5): a value that is no text is there all the same, and no good.
    pub authorization: Option<&'a [u8]>,
    /// The value of the `Cookie` header of the handshake request, several of them joined by `; `
    /// (RFC 9113, 8.2.3). It is bytes, since one odd cookie says nothing about the others.
    pub cookie: Option<&'a [u8]>,
    /// Whether the page that sent the request may use its reader's cookies. A cookie proves nothing
    /// otherwise.
    pub trusted_origin: bool,
    /// The query of the handshake request.
    pub query: Option<&'a str>,
    /// Where the client connects from.
    pub address: IpAddr,
}

impl<'a> Credentials<'a> {
    /// Puts together what the client offered.
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

    /// Sets the two headers that can carry credentials.
    #[must_use]
    pub fn with_headers(self, authorization: Option<&'a [u8]>, cookie: Option<&'a [u8]>) -> Self {
        Self {
            authorization,
            cookie,
            ..self
        }
    }

    /// Sets whether the page that sent the request may use its reader's cookies. Default `true`.
    #[must_use]
    pub fn with_trusted_origin(self, trusted_origin: bool) -> Self {
        Self {
            trusted_origin,
            ..self
        }
    }

    /// Sets the query of the request, without its question mark.
    #[must_use]
    pub fn with_query(self, query: Option<&'a str>) -> Self {
        Self { query, ..self }
    }

    /// Reads the payload as `T`; `Option<T>` allows for a client without one.
    ///
    /// # Errors
    ///
    /// When there is none or it has another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ArgumentError> {
        self.payload.get(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Principal;

    #[test]
    fn a_principal_has_only_the_roles_it_was_given() {
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
