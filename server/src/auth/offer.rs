//! What a client offers, found in the places where it may be, in one order.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::{AuthFault, Credentials};

/// Something that proves an identity, or does not.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Offered<'a> {
    /// A JSON Web Token.
    Token(Cow<'a, str>),
    /// The id of a session.
    Session(Cow<'a, str>),
}

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer<'a> {
    pub(crate) token_cookie: &'a str,
    /// None: there are no sessions.
    pub(crate) session_cookie: Option<&'a str>,
    /// Whether the query of the handshake counts.
    pub(crate) query: bool,
}

/// The part of the client's option `auth` that proves something.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Payload {
    token: Option<Value>,
    session_id: Option<Value>,
}

impl Offer<'_> {
    /// What the client offers first: `auth.token`, the bearer header, the cookie with a token,
    /// `auth.sessionId`, the cookie with a session's id, the query. Later ones are not tried if
    /// that one is no good.
    ///
    /// # Errors
    ///
    /// [`AuthFault::Malformed`] if it is not of the shape it should have, or is there twice.
    pub(crate) fn of<'c>(
        &self,
        credentials: &Credentials<'c>,
    ) -> Result<Option<Offered<'c>>, AuthFault> {
        // A payload of another shape offers nothing here; who lets guests in looks at it again.
        let payload: Option<Payload> = credentials.parse().unwrap_or_default();
        let payload = payload.unwrap_or_default();
        if let Some(token) = text(payload.token)? {
            return Ok(Some(Offered::Token(token)));
        }
        if let Some(token) = self.of_headers(credentials, Some(payload.session_id))? {
            return Ok(Some(token));
        }
        if self.query
            && let Some(query) = credentials.query
        {
            let mut tokens = form_urlencoded::parse(query.as_bytes())
                .filter(|(name, _)| name == "token")
                .map(|(_, value)| value.into_owned());
            return match (tokens.next(), tokens.next()) {
                (Some(token), None) => Ok(Some(Offered::Token(token.into()))),
                (Some(_), Some(_)) => Err(AuthFault::Malformed),
                (None, _) => Ok(None),
            };
        }
        Ok(None)
    }

    /// What the headers offer, with the session's id of the payload in between.
    fn of_headers<'c>(
        &self,
        credentials: &Credentials<'c>,
        session_id: Option<Option<Value>>,
    ) -> Result<Option<Offered<'c>>, AuthFault> {
        if let Some(token) = credentials.authorization.and_then(bearer) {
            return Ok(Some(Offered::Token(token.into())));
        }
        if let Some(token) = cookie(credentials, self.token_cookie)? {
            return Ok(Some(Offered::Token(token.into())));
        }
        let Some(session_cookie) = self.session_cookie else {
            return Ok(None);
        };
        if let Some(id) = text(session_id.flatten())? {
            return Ok(Some(Offered::Session(id)));
        }
        let id = cookie(credentials, session_cookie)?;
        Ok(id.map(|id| Offered::Session(id.into())))
    }
}

fn text(value: Option<Value>) -> Result<Option<Cow<'static, str>>, AuthFault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.into())),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(AuthFault::Malformed)
        }
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750, 2.1); none if it is another scheme.
pub(crate) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

/// The value of a cookie (RFC 6265, 5.4). Two of one name are none: somebody else may have set one
/// of them. One that any page can have made the browser send is none either.
fn cookie<'a>(credentials: &Credentials<'a>, name: &str) -> Result<Option<&'a str>, AuthFault> {
    let mut values = credentials
        .cookie
        .into_iter()
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| {
            value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .unwrap_or(value)
        });
    match (values.next(), values.next()) {
        (Some(_), None) if !credentials.trusted_origin => Err(AuthFault::Origin),
        (Some(value), None) => Ok(Some(value)),
        (Some(_), Some(_)) => Err(AuthFault::Malformed),
        (None, _) => Ok(None),
    }
}
