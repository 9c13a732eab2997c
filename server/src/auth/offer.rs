//! Finds the credentials that a client offers, in a fixed order of places.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::{AuthFault, Credentials};

/// Offered credentials, not yet verified.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Offered<'a> {
    /// A JSON Web Token.
    Token(Cow<'a, str>),
    /// The id of a login.
    Login(Cow<'a, str>),
    /// The signed session cookie of a backend.
    Backend(&'a str),
}

/// The places to search for credentials.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CredentialSources<'a> {
    pub(crate) token_cookie: &'a str,
    /// The cookie with the id of a login session. `None` if there are no such sessions.
    pub(crate) login_cookie: Option<&'a str>,
    /// The cookie of a backend's session. `None` if there is no backend.
    pub(crate) backend_cookie: Option<&'a str>,
    /// Whether the query of the handshake may contain a token.
    pub(crate) query: bool,
}

/// The credentials in the client's `auth` option.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Payload {
    token: Option<Value>,
    session_id: Option<Value>,
}

impl CredentialSources<'_> {
    /// Returns the first credentials that the client offers.
    ///
    /// The order is `auth.token`, the bearer header, the token cookie, `auth.sessionId`, the login
    /// cookie, the backend cookie, the query. If the first credentials are invalid, later ones are
    /// not tried.
    ///
    /// # Errors
    ///
    /// Returns [`AuthFault::Malformed`] if they have the wrong form or are duplicated.
    pub(crate) fn of<'c>(
        &self,
        credentials: &Credentials<'c>,
    ) -> Result<Option<Offered<'c>>, AuthFault> {
        // A payload is an object. If it cannot be parsed, a field is duplicated.
        let payload = credentials.parse::<Option<Payload>>();
        let payload = payload.map_err(|_| AuthFault::Malformed)?;
        let payload = payload.unwrap_or_default();
        if let Some(token) = text(payload.token)? {
            return Ok(Some(Offered::Token(token)));
        }
        // The page itself writes the payload, so it takes precedence over cookies, which a browser
        // sends automatically.
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

    /// Returns the credentials in headers, or the login id in the payload, in order of precedence.
    fn of_headers<'c>(
        &self,
        credentials: &Credentials<'c>,
        session_id: Option<Option<Value>>,
    ) -> Result<Option<Offered<'c>>, AuthFault> {
        if let Some(authorization) = credentials.authorization
            && let Some(token) = bearer(authorization)?
        {
            return Ok(Some(Offered::Token(token.into())));
        }
        if let Some(token) = cookie(credentials, self.token_cookie)? {
            return Ok(Some(Offered::Token(token.into())));
        }
        let Some(login_cookie) = self.login_cookie else {
            return Ok(None);
        };
        if let Some(id) = text(session_id.flatten())? {
            return Ok(Some(Offered::Login(id)));
        }
        if let Some(id) = cookie(credentials, login_cookie)? {
            return Ok(Some(Offered::Login(id.into())));
        }
        let Some(backend_cookie) = self.backend_cookie else {
            return Ok(None);
        };
        let value = cookie(credentials, backend_cookie)?;
        Ok(value.map(Offered::Backend))
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

/// Returns the token of `Authorization: Bearer …` (RFC 6750, 2.1), or `None` for another scheme.
///
/// # Errors
///
/// Returns [`AuthFault::Malformed`] if there is no scheme, or `Bearer` without a token in UTF-8.
pub(crate) fn bearer(authorization: &[u8]) -> Result<Option<&str>, AuthFault> {
    let text = str::from_utf8(authorization).map_err(|_| AuthFault::Malformed)?;
    let text = text.trim();
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if scheme.is_empty()
        || !scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-')
    {
        return Err(AuthFault::Malformed);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let token = token.trim_start();
    if token.is_empty() {
        return Err(AuthFault::Malformed);
    }
    Ok(Some(token))
}

/// Returns the value of a cookie (RFC 6265, 5.4), regardless of other cookies.
///
/// # Errors
///
/// Returns [`AuthFault::Malformed`] if the name occurs twice, because another site may have set one
/// of them, and [`AuthFault::Origin`] if the origin is not trusted.
fn cookie<'a>(credentials: &Credentials<'a>, name: &str) -> Result<Option<&'a str>, AuthFault> {
    let mut values = credentials
        .cookie
        .into_iter()
        .flat_map(|header| header.split(|byte| *byte == b';'))
        .filter_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (key, value) = pair.split_at_checked(equals)?;
            Some((key.trim_ascii(), value.get(1..)?.trim_ascii()))
        })
        .filter(|(key, _)| *key == name.as_bytes())
        .map(|(_, value)| {
            value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""))
                .unwrap_or(value)
        });
    match (values.next(), values.next()) {
        // Browsers add cookies to requests of any page, so a cookie proves nothing without a
        // trusted origin.
        (Some(_), None) if !credentials.trusted_origin => Err(AuthFault::Origin),
        (Some(value), None) => {
            let value = str::from_utf8(value).map_err(|_| AuthFault::Malformed)?;
            Ok(Some(value))
        }
        // A subdomain may have set one of two cookies with the same name, and their order is
        // undefined.
        (Some(_), Some(_)) => Err(AuthFault::Malformed),
        (None, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::socket::{Args, Decoder, Limits};

    use super::*;

    const OFFER: CredentialSources<'static> = CredentialSources {
        token_cookie: "roomcast_token",
        login_cookie: Some("roomcast_session"),
        backend_cookie: Some("connect.sid"),
        query: false,
    };

    fn payload(json: &str) -> Args {
        let packet = Decoder::new(Limits::default()).text(format!("0{json}").into());
        packet.unwrap().unwrap().args
    }

    /// Returns the credentials that are offered, as text.
    fn offered(
        json: &str,
        authorization: Option<&[u8]>,
        cookie: Option<&[u8]>,
    ) -> Result<Option<String>, AuthFault> {
        let payload = payload(json);
        let credentials = Credentials::new(&payload, [192, 0, 2, 1].into());
        let offered = OFFER.of(&credentials.with_headers(authorization, cookie))?;
        Ok(offered.map(|offered| match offered {
            Offered::Token(token) => token.into_owned(),
            Offered::Login(id) => format!("session {id}"),
            Offered::Backend(cookie) => format!("backend {cookie}"),
        }))
    }

    #[test]
    fn backend_cookie_is_the_last_credential_considered() {
        let of = |cookie| offered("", None, Some(cookie)).unwrap();
        assert_eq!(
            of(b"connect.sid=s%3Aa.b").as_deref(),
            Some("backend s%3Aa.b")
        );
        for (cookie, first) in [
            (&b"connect.sid=x; roomcast_session=y"[..], "session y"),
            (b"connect.sid=x; roomcast_token=y", "y"),
        ] {
            assert_eq!(of(cookie).as_deref(), Some(first));
        }
        let two = offered("", None, Some(b"connect.sid=x; connect.sid=x"));
        assert_eq!(two, Err(AuthFault::Malformed));
    }

    #[test]
    fn non_utf8_cookie_does_not_affect_other_cookies() {
        for header in [
            &b"theme=caf\xe9; roomcast_token=t"[..],
            b"roomcast_token=\"t\"; \xff\xfe",
            b"\xc3\xa9=1;roomcast_token = t ;",
        ] {
            let token = offered("", None, Some(header));
            assert_eq!(token, Ok(Some("t".into())), "{}", header.escape_ascii());
        }
        let login = offered("", None, Some(b"a=\xff; roomcast_session=s"));
        assert_eq!(login, Ok(Some("session s".into())));
    }

    #[test]
    fn invalid_credentials_are_never_ignored() {
        for cookie in [
            &b"roomcast_token=caf\xe9"[..],
            b"roomcast_token=a; roomcast_token=a",
            b"roomcast_session=\xff",
        ] {
            let fault = offered("", None, Some(cookie));
            assert_eq!(
                fault,
                Err(AuthFault::Malformed),
                "{}",
                cookie.escape_ascii()
            );
        }
        for header in [
            &b""[..],
            b"Bearer",
            b"bearer  ",
            b"Bearer caf\xe9",
            b"Bearer\tt",
            b"\xff t",
            b" ",
        ] {
            let fault = offered("", Some(header), Some(b"roomcast_token=t"));
            assert_eq!(
                fault,
                Err(AuthFault::Malformed),
                "{}",
                header.escape_ascii()
            );
        }
        for json in [
            r#"{"token":"a","token":"a"}"#,
            r#"{"token":"a","t\u006fken":"a"}"#,
            r#"{"sessionId":"a","sessionId":"b"}"#,
            r#"{"token":null,"token":"a"}"#,
            r#"{"token":7}"#,
        ] {
            assert_eq!(
                offered(json, None, None),
                Err(AuthFault::Malformed),
                "{json}"
            );
        }
    }

    #[test]
    fn unknown_schemes_and_empty_payloads_have_no_credentials() {
        assert_eq!(offered("", Some(b"Basic dXNlcjpwYXNz"), None), Ok(None));
        assert_eq!(offered(r#"{"name":"Ann"}"#, None, Some(b"a=b")), Ok(None));
        let token = offered("{}", Some(b"bearer  t"), None);
        assert_eq!(token, Ok(Some("t".into())));
    }
}
