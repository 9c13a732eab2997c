//! HTTP responses of the engine.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, response::Parts};
use http_body_util::Full;
use roomcast_protocol::SessionId;

use super::{compression::Encoding, refusal::RequestError};
use crate::{
    config::{Cookie, Priority, SameSite},
    time::http_date,
};

/// A response of the engine.
pub(in crate::engine::http) type Reply = Response<Full<Bytes>>;

/// Marks a response of another server, to which no headers are added.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::http) struct RemoteResponse;

/// A response. The most frequent kinds do not store their headers.
#[derive(Debug)]
pub(in crate::engine::http) enum HttpAnswer {
    /// Packets for a polling client.
    Packets(Bytes, Form),
    /// The packets that a client posted have been read.
    Accepted,
    /// Any other response.
    Other(Reply),
}

impl HttpAnswer {
    pub(in crate::engine::http) fn into_reply(self) -> Reply {
        match self {
            Self::Packets(packets, form) => payload(packets, form),
            Self::Accepted => session(Bytes::from_static(OK), "text/html"),
            Self::Other(reply) => reply,
        }
    }

    /// Returns the head and the body.
    pub(in crate::engine::http) fn into_parts(self) -> (Head, Bytes) {
        match self {
            Self::Packets(packets, form) if form.is_binary => {
                let reply = payload(packets, form);
                Self::Other(reply).into_parts()
            }
            Self::Packets(packets, form) if form.is_for_old_explorer => {
                (Head::Known(OLD_EXPLORER), packets)
            }
            Self::Packets(packets, _) => (Head::Known(PACKETS), packets),
            Self::Accepted => (Head::Known(ACCEPTED), Bytes::from_static(OK)),
            Self::Other(reply) => {
                let (parts, body) = reply.into_parts();
                (Head::Parts(parts), body.into_inner().unwrap_or_default())
            }
        }
    }
}

/// The head of a response, without its length and `Connection` headers.
#[derive(Debug)]
pub(in crate::engine) enum Head {
    /// A constant head.
    Known(&'static str),
    Parts(Parts),
}

const PACKETS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=UTF-8\r\n\
    cache-control: no-store\r\nx-content-type-options: nosniff\r\n";
const OLD_EXPLORER: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=UTF-8\r\n\
    cache-control: no-store\r\nx-content-type-options: nosniff\r\nx-xss-protection: 0\r\n";
const ACCEPTED: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\
    cache-control: no-store\r\nx-content-type-options: nosniff\r\n";
/// The body of the response to a post.
const OK: &[u8] = b"ok";

pub(in crate::engine::http) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::default();
    *reply.status_mut() = status;
    harden(&mut reply);
    reply
}

/// Adds `X-Content-Type-Options: nosniff`, so that browsers do not interpret a response as another
/// type, such as a script (WHATWG Fetch, "nosniff"). Similar headers are not needed, because they
/// concern documents and the resources that pages load.
pub(in crate::engine::http) fn harden(reply: &mut Reply) {
    let headers = reply.headers_mut();
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
}

pub(in crate::engine::http) fn closing(status: StatusCode) -> Reply {
    let mut reply = empty(status);
    let close = HeaderValue::from_static("close");
    reply.headers_mut().insert(header::CONNECTION, close);
    reply
}

/// The properties of a request that determine the form of its response, so that its headers can be
/// dropped.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::http) struct Form {
    pub(in crate::engine::http) encoding: Option<Encoding>,
    is_for_old_explorer: bool,
    /// Whether the packets are a binary payload of Engine.IO v3.
    is_binary: bool,
}

impl Form {
    pub(in crate::engine::http) fn of(client: &HeaderMap) -> Self {
        let value = |name| client.get(name).map(HeaderValue::as_bytes);
        Self::new(value(header::ACCEPT_ENCODING), value(header::USER_AGENT))
    }

    /// Returns the form for packets that are a binary payload of Engine.IO v3, or are not.
    pub(in crate::engine::http) fn for_payload(self, is_binary: bool) -> Self {
        Self { is_binary, ..self }
    }

    /// Determines the form from the first header of each kind.
    pub(in crate::engine::http) fn new(
        accept_encoding: Option<&[u8]>,
        user_agent: Option<&[u8]>,
    ) -> Self {
        Self {
            encoding: accept_encoding
                .and_then(|accepted| std::str::from_utf8(accepted).ok())
                .filter(|accepted| accepted.is_ascii())
                .and_then(|accepted| Encoding::best(accepted, Encoding::OF_RESPONSES)),
            is_for_old_explorer: user_agent.is_some_and(is_old_explorer),
            is_binary: false,
        }
    }
}

/// Creates a response with packets for a polling client.
pub(in crate::engine::http) fn payload(packets: Bytes, form: Form) -> Reply {
    let kind = if form.is_binary {
        "application/octet-stream"
    } else {
        "text/plain; charset=UTF-8"
    };
    let mut reply = session(packets, kind);
    if form.is_for_old_explorer {
        // This filter of old browsers mistakes script-like text in a response for an attack.
        let off = HeaderValue::from_static("0");
        reply.headers_mut().insert(header::X_XSS_PROTECTION, off);
    }
    reply
}

fn session(body: Bytes, kind: &'static str) -> Reply {
    let mut reply = Response::new(Full::from(body));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    harden(&mut reply);
    reply
}

fn is_old_explorer(agent: &[u8]) -> bool {
    [&b";MSIE"[..], b"Trident/"]
        .iter()
        .any(|word| agent.windows(word.len()).any(|part| part == *word))
}

/// Creates a response with compressed packets.
pub(in crate::engine::http) async fn compressed(
    packets: Bytes,
    level: u32,
    encoding: Encoding,
    form: Form,
) -> Reply {
    let done = if packets.len() > MAX_INLINE {
        // Compressing this much would block the other tasks of this worker.
        let packets = packets.clone();
        tokio::task::spawn_blocking(move || encoding.compress(&packets, level))
            .await
            .unwrap_or_else(|error| Err(error.into()))
    } else {
        encoding.compress(&packets, level)
    };
    match done {
        Ok(smaller) => {
            let mut reply = payload(smaller, form);
            let headers = reply.headers_mut();
            headers.insert(header::CONTENT_ENCODING, encoding.header());
            reply
        }
        Err(error) => {
            crate::throttled_log!(warn, %error, "could not compress a response, sending it uncompressed");
            payload(packets, form)
        }
    }
}

/// Creates the official response to a refused request: JSON with a code, or plain text for a
/// WebSocket request.
pub(in crate::engine::http) fn refusal(error: &RequestError, is_upgrade: bool) -> Reply {
    let (code, message, status) = error.answer();
    let mut reply = if !is_upgrade {
        empty(status)
    } else if matches!(error, RequestError::Denied(_)) {
        // The official server uses this status if the application denies a WebSocket.
        closing(StatusCode::BAD_REQUEST)
    } else {
        closing(status)
    };
    let headers = reply.headers_mut();
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(header::SEC_WEBSOCKET_VERSION, 13.into());
    }
    if let Some(after) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, after.seconds().into());
    }
    let (kind, body) = if is_upgrade {
        ("text/html", message.to_owned())
    } else {
        let message = serde_json::Value::from(message);
        let body = format!(r#"{{"code":{code},"message":{message}}}"#);
        ("application/json", body)
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    *reply.body_mut() = Full::from(body);
    reply
}

pub(in crate::engine::http) fn switching_protocols(accept: &str) -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    reply
}

impl Cookie {
    /// Returns the header that sets the cookie to a session's id. The order of the attributes is
    /// that of the official server.
    pub(in crate::engine::http) fn header(&self, id: SessionId) -> Option<HeaderValue> {
        let mut cookie = format!("{}={id}", self.name);
        if let Some(age) = self.max_age {
            cookie.push_str(&format!("; Max-Age={}", age.as_secs()));
        }
        if let Some(domain) = &self.domain {
            cookie.push_str("; Domain=");
            cookie.push_str(domain);
        }
        if !self.path.is_empty() {
            cookie.push_str("; Path=");
            cookie.push_str(&self.path);
        }
        if let Some(end) = self.expires {
            // RFC 9110, 5.6.7.
            cookie.push_str(&format!("; Expires={}", http_date(end)));
        }
        for (is_set, attribute) in [
            (self.http_only, "; HttpOnly"),
            (self.secure, "; Secure"),
            (self.partitioned, "; Partitioned"),
        ] {
            if is_set {
                cookie.push_str(attribute);
            }
        }
        cookie.push_str(match self.priority {
            None => "",
            Some(Priority::Low) => "; Priority=Low",
            Some(Priority::Medium) => "; Priority=Medium",
            Some(Priority::High) => "; Priority=High",
        });
        cookie.push_str(match self.same_site {
            None => "",
            Some(SameSite::Strict) => "; SameSite=Strict",
            Some(SameSite::Lax) => "; SameSite=Lax",
            Some(SameSite::None) => "; SameSite=None",
        });
        HeaderValue::try_from(cookie).ok()
    }

    /// Returns whether the cookie can be serialised: no part of it ends a value or starts an
    /// attribute (RFC 6265, 4.1.1).
    pub(crate) fn is_valid(&self) -> bool {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_plain = |text: &str| {
            text.bytes()
                .all(|byte| (b' '..0x7f).contains(&byte) && byte != b';')
        };
        !self.name.is_empty()
            && self.name.bytes().all(is_token)
            && is_plain(&self.path)
            && self.domain.as_deref().is_none_or(is_plain)
    }
}

/// The size in bytes up to which compression may occupy a worker thread.
const MAX_INLINE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use roomcast_protocol::Sid;

    use super::*;
    use crate::engine::http::http1::writer;

    #[test]
    fn constant_heads_equal_encoded_headers() {
        for answer in [
            || HttpAnswer::Packets(Bytes::from_static(b"4hello"), Form::new(None, None)),
            || {
                let agent = Some(&b"Mozilla/5.0 (Trident/7.0)"[..]);
                HttpAnswer::Packets(Bytes::from_static(b"4hello"), Form::new(None, agent))
            },
            || HttpAnswer::Accepted,
        ] {
            let written = |answer: HttpAnswer, close| {
                let (head, body) = answer.into_parts();
                let mut out = Vec::new();
                writer::encode(&mut out, &head, body.len(), close);
                let text = String::from_utf8(out).unwrap();
                let (text, _date) = text.split_once("date: ").unwrap();
                (text.to_owned(), body)
            };
            for close in [false, true] {
                let other = HttpAnswer::Other(answer().into_reply());
                assert_eq!(written(answer(), close), written(other, close));
            }
        }
    }

    #[test]
    fn a_cookie_has_the_official_defaults_and_order() {
        let sid = Sid::from_random([0; 15]).into();
        let plain = Cookie::default().header(sid).unwrap();
        assert_eq!(
            plain,
            "io=AAAAAAAAAAAAAAAAAAAA; Path=/; HttpOnly; SameSite=Lax"
        );
        let cookie = Cookie {
            name: "node".into(),
            path: String::new(),
            http_only: false,
            same_site: Some(SameSite::Strict),
            max_age: Some(Duration::from_secs(60)),
            expires: Some(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
            domain: Some("example.com".into()),
            secure: true,
            partitioned: true,
            priority: Some(Priority::High),
        };
        assert_eq!(
            cookie.header(sid).unwrap(),
            "node=AAAAAAAAAAAAAAAAAAAA; Max-Age=60; Domain=example.com; Expires=Tue, 14 Nov 2023 22:13:20 GMT; Secure; Partitioned; Priority=High; SameSite=Strict"
        );
    }

    #[test]
    fn a_cookie_that_would_end_early_is_refused() {
        for (name, path) in [
            ("", "/"),
            ("a b", "/"),
            ("a=b", "/"),
            ("a;b", "/"),
            ("io", "/;x"),
            ("io", "/\r\n"),
        ] {
            let cookie = Cookie::default().name(name).path(path);
            assert!(!cookie.is_valid(), "{name} {path}");
        }
        assert!(Cookie::default().is_valid());
    }
}
