//! Parses HTTP requests to Engine.IO into a value or the official error.
//!
//! The order of the checks is that of the official server (`verify` in `engine.io`), so that
//! clients receive the same error code from both.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};
use roomcast_protocol::{
    SessionId, Sid,
    engine::{Revision, Transport},
    websocket::handshake::{self, HandshakeError, has_token},
};

use super::refusal::{RequestError, Unknown};
use crate::{
    Config,
    engine::admission::{CredentialsFault, check_credentials},
};

/// A well-formed request. Whether its session exists is not checked here.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine::http) enum ParsedRequest {
    /// Opens a new session by polling.
    Open(Revision),
    /// Opens a new session on a WebSocket with this accept key.
    OpenWebSocket { accept: String, revision: Revision },
    /// Polls for packets.
    Poll(SessionId),
    /// Posts packets.
    Post(SessionId),
    /// Does not match the transport of any session with this id.
    Mismatch(SessionId),
    /// Has a method that no session supports.
    Unserved(SessionId),
    /// Upgrades the session to a WebSocket with this accept key.
    Upgrade { sid: SessionId, accept: String },
}

impl ParsedRequest {
    /// Returns the session id of the request, and the accept key of the requested WebSocket.
    pub(in crate::engine::http) fn session(&self) -> Option<(SessionId, Option<&str>)> {
        match self {
            Self::Open(_) | Self::OpenWebSocket { .. } => None,
            Self::Poll(id) | Self::Post(id) | Self::Mismatch(id) | Self::Unserved(id) => {
                Some((*id, None))
            }
            Self::Upgrade { sid, accept } => Some((*sid, Some(accept))),
        }
    }
}

/// Returns the id of the session that a request names, valid or not, once.
pub(in crate::engine::http) fn named_session(parts: &Parts) -> Option<Sid> {
    let query = parts.uri.query().filter(|query| query.len() <= MAX_QUERY)?;
    let query = Query::parse(query);
    Some(SessionId::parse(query.sid.value()?)?.sid)
}

/// The query parameters of Engine.IO. A repeated parameter is invalid, because different parsers
/// could use different values.
#[derive(Default)]
struct Query<'a> {
    transport: Parameter<'a>,
    sid: Parameter<'a>,
    version: Parameter<'a>,
    /// Whether the client receives binary messages as base64, in revision 3.
    base64: bool,
    /// Whether the client polls with scripts (JSONP).
    jsonp: bool,
}

#[derive(Default)]
enum Parameter<'a> {
    #[default]
    Missing,
    Once(Cow<'a, str>),
    Twice,
}

impl<'a> Parameter<'a> {
    fn set(&mut self, value: Cow<'a, str>) {
        *self = match self {
            Self::Missing => Self::Once(value),
            Self::Once(_) | Self::Twice => Self::Twice,
        };
    }

    fn value(&self) -> Option<&str> {
        match self {
            Self::Once(value) => Some(value),
            Self::Missing | Self::Twice => None,
        }
    }
}

impl<'a> Query<'a> {
    fn parse(query: &'a str) -> Self {
        let mut parsed = Self::default();
        // Without escapes, nothing needs to be decoded or allocated.
        let (mut start, mut equals) = (0, None);
        for (at, byte) in query.bytes().enumerate() {
            match byte {
                b'%' | b'+' => return Self::parse_escaped(query),
                b'=' if equals.is_none() => equals = Some(at),
                b'&' => {
                    parsed.take_pair(query, start, equals, at);
                    (start, equals) = (at + 1, None);
                }
                _ => {}
            }
        }
        parsed.take_pair(query, start, equals, query.len());
        parsed
    }

    fn parse_escaped(query: &'a str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            parsed.take(&name, value);
        }
        parsed
    }

    /// Takes the parameter between two bytes of the query, whose name ends at `equals` if it has a
    /// value.
    fn take_pair(&mut self, query: &'a str, start: usize, equals: Option<usize>, end: usize) {
        let name = query.get(start..equals.unwrap_or(end)).unwrap_or_default();
        let value = equals.and_then(|equals| query.get(equals + 1..end));
        self.take(name, value.unwrap_or_default().into());
    }

    fn take(&mut self, name: &str, value: Cow<'a, str>) {
        match name {
            "transport" => self.transport.set(value),
            "sid" => self.sid.set(value),
            "EIO" => self.version.set(value),
            "b64" => self.base64 |= !value.is_empty(),
            "j" => self.jsonp = true,
            _ => {}
        }
    }

    /// Returns the revision of Engine.IO that a new session uses. As in the official server, a
    /// client that names none uses revision 3.
    fn revision(&self, config: &Config) -> Result<Revision, RequestError> {
        match &self.version {
            Parameter::Once(version) if version == "4" => return Ok(Revision::V4),
            Parameter::Once(version) if version == "3" => {}
            Parameter::Missing => {}
            Parameter::Once(_) | Parameter::Twice => return Err(RequestError::UnsupportedVersion),
        }
        if !config.session.allow_eio3 {
            Err(RequestError::UnsupportedVersion)
        } else if self.jsonp {
            Err(RequestError::ScriptPolling)
        } else if self.base64 {
            Ok(Revision::V3Base64)
        } else {
            Ok(Revision::V3)
        }
    }
}

/// Maximum size of a query, in bytes. The query is stored for the lifetime of its session.
const MAX_QUERY: usize = 4096;

/// Parses a request on the Engine.IO path.
pub(in crate::engine::http) fn parse(
    request: &Parts,
    config: &Config,
) -> Result<ParsedRequest, RequestError> {
    let query = request.uri.query().unwrap_or_default();
    if query.len() > MAX_QUERY {
        return Err(RequestError::BadRequest);
    }
    let query = Query::parse(query);
    let transport = query
        .transport
        .value()
        .and_then(Transport::parse)
        .filter(|transport| config.session.transports.contains(transport))
        .ok_or(RequestError::UnknownTransport)?;
    if !origin_is_valid(&request.headers) {
        return Err(RequestError::InvalidOrigin);
    }
    let upgrade = is_upgrade(&request.headers);
    let contradicts = upgrade != (transport == Transport::WebSocket);
    match query.sid {
        Parameter::Missing => {
            if request.method != Method::GET {
                return Err(RequestError::BadMethod);
            }
            if contradicts {
                return Err(RequestError::TransportHandshake);
            }
            let revision = query.revision(config)?;
            // Only the request that opens a session carries credentials; later requests are
            // identified by the session id.
            check_credentials(&request.headers).map_err(|fault| match fault {
                CredentialsFault::Ambiguous => RequestError::BadRequest,
                CredentialsFault::TooLarge => RequestError::CredentialsTooLarge,
            })?;
            if upgrade {
                let accept = accept(request)?;
                Ok(ParsedRequest::OpenWebSocket { accept, revision })
            } else {
                Ok(ParsedRequest::Open(revision))
            }
        }
        Parameter::Twice => Err(RequestError::UnknownSession(Unknown::Malformed)),
        Parameter::Once(sid) => {
            let malformed = RequestError::UnknownSession(Unknown::Malformed);
            let sid = SessionId::parse(&sid).ok_or(malformed)?;
            if contradicts {
                Ok(ParsedRequest::Mismatch(sid))
            } else if upgrade {
                let accept = accept(request)?;
                Ok(ParsedRequest::Upgrade { sid, accept })
            } else if request.method == Method::GET {
                Ok(ParsedRequest::Poll(sid))
            } else if request.method == Method::POST {
                Ok(ParsedRequest::Post(sid))
            } else {
                Ok(ParsedRequest::Unserved(sid))
            }
        }
    }
}

/// Returns the session id of a polling request, or `None` if the request needs the full checks.
pub(in crate::engine::http) fn session(query: &str, config: &Config) -> Option<SessionId> {
    if query.len() > MAX_QUERY || !config.session.transports.contains(&Transport::Polling) {
        return None;
    }
    let query = Query::parse(query);
    match (
        query.transport.value().and_then(Transport::parse),
        query.sid,
    ) {
        (Some(Transport::Polling), Parameter::Once(sid)) => SessionId::parse(&sid),
        _ => None,
    }
}

/// Returns whether the headers request a WebSocket, perhaps among other protocols.
pub(in crate::engine::http) fn is_upgrade(headers: &HeaderMap) -> bool {
    joined(headers, header::UPGRADE).is_some_and(|value| has_token(&value, "websocket"))
}

fn accept(request: &Parts) -> Result<String, RequestError> {
    if request.method != Method::GET || request.version != http::Version::HTTP_11 {
        return Err(RequestError::BadHandshake);
    }
    let value = |name| joined(&request.headers, name);
    let upgrade = value(header::UPGRADE);
    let connection = value(header::CONNECTION);
    let version = value(header::SEC_WEBSOCKET_VERSION);
    let key = value(header::SEC_WEBSOCKET_KEY);
    handshake::check(&handshake::Upgrade {
        upgrade: upgrade.as_deref(),
        connection: connection.as_deref(),
        version: version.as_deref(),
        key: key.as_deref(),
    })
    .map_err(|error| {
        if error == HandshakeError::Version {
            RequestError::BadWebSocketVersion
        } else {
            RequestError::BadHandshake
        }
    })?;
    Ok(handshake::accept_key(&key.unwrap_or_default()))
}

/// Returns the value of a header. If it occurs several times, the values are joined with commas
/// (RFC 9110 section 5.3).
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<Cow<'_, str>> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::to_str);
    let first = Cow::Borrowed(values.next()?.ok()?);
    values.try_fold(first, |joined, value| Some(joined + ", " + value.ok()?))
}

/// Returns whether `Origin` is valid. Browsers send no control characters (`INVALID_ORIGIN` in the
/// official server) and no second `Origin`.
fn origin_is_valid(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let first_is_valid = origins.next().is_none_or(|origin| {
        origin
            .as_bytes()
            .iter()
            .all(|byte| (b' '..0x7f).contains(byte))
    });
    first_is_valid && origins.next().is_none()
}

#[cfg(test)]
mod tests {
    use http::{Request, StatusCode};

    use super::*;

    const SID: &str = "AAAAAAAAAAAAAAAAAAAA";
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request(method: Method, query: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/socket.io/?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn get(query: &str) -> Result<ParsedRequest, RequestError> {
        parse(&request(Method::GET, query, &[]), &Config::default())
    }

    fn upgrade(query: &str, change: &[(&str, &str)]) -> Result<ParsedRequest, RequestError> {
        let mut headers = vec![
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        for (name, value) in change {
            headers.retain(|(n, _)| n != name);
            headers.push((name, value));
        }
        parse(&request(Method::GET, query, &headers), &Config::default())
    }

    #[test]
    fn repeated_headers_of_a_websocket_count_as_one_list() {
        let request_with = |more: &[(&str, &str)]| {
            let mut headers = vec![
                ("upgrade", "websocket"),
                ("connection", "keep-alive"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", KEY),
            ];
            headers.extend_from_slice(more);
            let query = "EIO=4&transport=websocket";
            parse(&request(Method::GET, query, &headers), &Config::default())
        };
        let opened = request_with(&[("connection", "Upgrade")]);
        assert!(matches!(opened, Ok(ParsedRequest::OpenWebSocket { .. })));
        let refused = Err(RequestError::BadHandshake);
        assert_eq!(request_with(&[]), refused);
        let key = [("connection", "Upgrade"), ("sec-websocket-key", KEY)];
        assert_eq!(request_with(&key), refused);
        let version = [("connection", "Upgrade"), ("sec-websocket-version", "8")];
        let refused = Err(RequestError::BadWebSocketVersion);
        assert_eq!(request_with(&version), refused);
    }

    #[test]
    fn websocket_is_requested_by_any_upgrade_header_that_names_it() {
        let request_with = |transport: &str, upgrades: &[&str]| {
            let mut headers = vec![
                ("connection", "Upgrade"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", KEY),
            ];
            headers.extend(upgrades.iter().map(|value| ("upgrade", *value)));
            let query = format!("EIO=4&transport={transport}");
            parse(&request(Method::GET, &query, &headers), &Config::default())
        };
        for upgrades in [
            &["h2c", "websocket"][..],
            &["WebSocket", "h2c"],
            &["h2c, websocket"],
        ] {
            let opened = request_with("websocket", upgrades);
            let is_open = matches!(opened, Ok(ParsedRequest::OpenWebSocket { .. }));
            assert!(is_open, "{upgrades:?}: {opened:?}");
            let refused = Err(RequestError::TransportHandshake);
            assert_eq!(request_with("polling", upgrades), refused);
        }
        let refused = Err(RequestError::TransportHandshake);
        assert_eq!(request_with("websocket", &["h2c", "websockets"]), refused);
    }

    #[test]
    fn well_formed_requests_are_distinguished() {
        let sid = SessionId::parse(SID).unwrap();
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        assert_eq!(
            get("EIO=4&transport=polling&t=abc"),
            Ok(ParsedRequest::Open(Revision::V4))
        );
        assert_eq!(
            get(&format!("EIO=4&transport=polling&sid={SID}")),
            Ok(ParsedRequest::Poll(sid))
        );
        let post = request(
            Method::POST,
            &format!("EIO=4&transport=polling&sid={SID}"),
            &[],
        );
        assert_eq!(
            parse(&post, &Config::default()),
            Ok(ParsedRequest::Post(sid))
        );
        assert_eq!(
            upgrade("EIO=4&transport=websocket", &[]),
            Ok(ParsedRequest::OpenWebSocket {
                accept: accept.clone(),
                revision: Revision::V4,
            })
        );
        assert_eq!(
            upgrade(&format!("EIO=4&transport=websocket&sid={SID}"), &[]),
            Ok(ParsedRequest::Upgrade { sid, accept })
        );
    }

    #[test]
    fn a_wrong_version_of_the_protocol_is_code_5() {
        for query in [
            "transport=polling",
            "EIO=abc&transport=polling",
            "EIO=3&transport=polling",
            "EIO=4&EIO=4&transport=polling",
        ] {
            assert_eq!(get(query), Err(RequestError::UnsupportedVersion), "{query}");
        }
        assert_eq!(
            RequestError::UnsupportedVersion.answer(),
            (5, "Unsupported protocol version", StatusCode::BAD_REQUEST)
        );
    }

    #[test]
    fn clients_of_revision_3_are_accepted_only_with_the_option() {
        let config = Config::default().allow_eio3();
        let get = |query: &str| parse(&request(Method::GET, query, &[]), &config);
        for (query, revision) in [
            ("EIO=4&transport=polling", Revision::V4),
            ("EIO=4&transport=polling&b64=1&j=0", Revision::V4),
            ("EIO=3&transport=polling", Revision::V3),
            ("transport=polling", Revision::V3),
            ("EIO=3&transport=polling&b64=", Revision::V3),
            ("EIO=3&transport=polling&b64=1", Revision::V3Base64),
        ] {
            assert_eq!(get(query), Ok(ParsedRequest::Open(revision)), "{query}");
        }
        for query in [
            "EIO=2",
            "EIO=5",
            "EIO=",
            "EIO=03",
            "EIO=3&EIO=3",
            "EIO=3&EIO=4",
        ] {
            let query = format!("{query}&transport=polling");
            assert_eq!(
                get(&query),
                Err(RequestError::UnsupportedVersion),
                "{query}"
            );
        }
        for query in ["EIO=3&transport=polling&j=0", "transport=polling&j="] {
            assert_eq!(get(query), Err(RequestError::ScriptPolling), "{query}");
        }
    }

    #[test]
    fn an_unknown_transport_is_code_0() {
        for transport in [
            "transport=__proto__",
            "transport=constructor",
            "transport=",
            "transport=webtransport",
            "transport=polling&transport=websocket",
            "transport[]=polling",
            "",
        ] {
            assert_eq!(
                get(&format!("EIO=4&{transport}")),
                Err(RequestError::UnknownTransport),
                "{transport}"
            );
        }
        let polling_only = Config::default().transports([Transport::Polling]);
        let websocket = request(Method::GET, "EIO=4&transport=websocket", &[]);
        assert_eq!(
            parse(&websocket, &polling_only),
            Err(RequestError::UnknownTransport)
        );
    }

    #[test]
    fn only_get_opens_a_session() {
        for method in [
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::HEAD,
        ] {
            let request = request(method, "EIO=4&transport=polling", &[]);
            assert_eq!(
                parse(&request, &Config::default()),
                Err(RequestError::BadMethod)
            );
        }
    }

    #[test]
    fn malformed_session_id_is_unknown() {
        for sid in [
            "__proto__",
            "%00",
            "%3Cscript%3E",
            "%0d%0aX:1",
            "",
            "AAAAAAAAAAAAAAAAAAAA&sid=AAAAAAAAAAAAAAAAAAAA",
        ] {
            let query = format!("EIO=4&transport=polling&sid={sid}");
            assert_eq!(
                get(&query),
                Err(RequestError::UnknownSession(Unknown::Malformed)),
                "{sid}"
            );
        }
    }

    #[test]
    fn transport_and_upgrade_header_must_agree() {
        assert_eq!(
            get("EIO=4&transport=websocket"),
            Err(RequestError::TransportHandshake)
        );
        assert_eq!(
            upgrade("EIO=4&transport=polling", &[]),
            Err(RequestError::TransportHandshake)
        );
        let sid = SessionId::parse(SID).unwrap();
        assert_eq!(
            get(&format!("EIO=4&transport=websocket&sid={SID}")),
            Ok(ParsedRequest::Mismatch(sid))
        );
    }

    #[test]
    fn a_malformed_websocket_handshake_is_refused() {
        let query = "EIO=4&transport=websocket";
        assert_eq!(
            upgrade(query, &[("sec-websocket-key", "c2hvcnQ=")]),
            Err(RequestError::BadHandshake)
        );
        assert_eq!(
            upgrade(query, &[("connection", "close")]),
            Err(RequestError::BadHandshake)
        );
        assert_eq!(
            upgrade(query, &[("sec-websocket-version", "12")]),
            Err(RequestError::BadWebSocketVersion)
        );
        assert_eq!(RequestError::BadWebSocketVersion.answer().2, 426);
    }

    #[test]
    fn credentials_too_large_to_store_open_no_session() {
        let open = |headers: &[(&str, &str)]| {
            let request = request(Method::GET, "EIO=4&transport=polling", headers);
            parse(&request, &Config::default())
        };
        let (most, more) = ("x".repeat(16 << 10), "x".repeat((16 << 10) + 1));
        for name in ["authorization", "cookie"] {
            assert_eq!(
                open(&[(name, &most)]),
                Ok(ParsedRequest::Open(Revision::V4)),
                "{name}"
            );
            let refused = Err(RequestError::CredentialsTooLarge);
            assert_eq!(open(&[(name, &more)]), refused, "{name}");
            assert_eq!(open(&[(name, &most), ("cookie", "a")]), refused, "{name}");
        }
        assert_eq!(RequestError::CredentialsTooLarge.answer().2, 431);
        let twice = [("authorization", "Basic x"), ("authorization", "Bearer y")];
        assert_eq!(open(&twice), Err(RequestError::BadRequest));
    }

    #[test]
    fn two_origin_headers_are_invalid() {
        let twice = [
            ("origin", "http://a.example"),
            ("origin", "http://b.example"),
        ];
        let request = request(Method::GET, "EIO=4&transport=polling", &twice);
        assert_eq!(
            parse(&request, &Config::default()),
            Err(RequestError::InvalidOrigin)
        );
    }
}
