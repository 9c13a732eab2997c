//! Entry points for fuzzing.

use roomcast_protocol::Sid;

use super::{
    http1::parser::{self, Parsed, Paths},
    message::request,
};

/// Owns all paths. Requests for paths of simple characters belong to this session.
struct All(Option<Sid>);

impl Paths for All {
    fn owns(&self, _: &str) -> bool {
        true
    }

    fn session(&self, path: &str, _: &str) -> Option<Sid> {
        let is_simple = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'/';
        let is_path = path.starts_with('/') && path.bytes().all(is_simple);
        self.0.filter(|_| is_path)
    }
}

/// A plain request as the engine reads it.
#[derive(Debug)]
pub struct PlainHead {
    /// The method, and the target without its fragment.
    pub line: (String, String),
    /// Names are in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The lengths of the head and of the body after it, in bytes.
    pub len: (usize, u64),
}

/// Parses the head of a request on any path without hyper, if it is plain and complete.
#[must_use]
pub fn head(bytes: &[u8]) -> Option<PlainHead> {
    let session_request = parser::parse(bytes, &All(Some(Sid::from_random([0; 15]))));
    let Parsed::Plain(head) = parser::parse(bytes, &All(None)) else {
        assert!(!matches!(
            session_request,
            Parsed::SessionRequest(_) | Parsed::Plain(_)
        ));
        return None;
    };
    if let Parsed::SessionRequest(session_request) = session_request {
        assert_eq!(
            (session_request.len, session_request.body),
            (head.len, head.body)
        );
        assert_eq!(session_request.keep_alive, head.keep_alive);
        assert_eq!(
            session_request.is_post,
            head.parts.method == http::Method::POST
        );
        assert!(!head.parts.headers.contains_key(http::header::ORIGIN));
    }
    let whole = bytes.get(..head.len).unwrap_or_default();
    assert!((0..head.len).all(|seen| parser::may_end(whole, seen)));
    let headers = head.parts.headers.iter();
    Some(PlainHead {
        line: (head.parts.method.to_string(), head.parts.uri.to_string()),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect(),
        len: (head.len, head.body),
    })
}

/// Parses a request line's query and headers as the engine does.
pub fn request(query: &str, headers: &http::HeaderMap) {
    let Ok(uri) = http::Uri::try_from(format!("/socket.io/?{query}")) else {
        return;
    };
    for method in [http::Method::GET, http::Method::POST] {
        let mut request = http::Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        let (parts, ()) = request.into_parts();
        let config = crate::Config::default();
        for config in [config.clone(), config.allow_eio3()] {
            if let Err(error) = request::parse(&parts, &config) {
                let (code, _, status) = error.answer();
                assert!(code <= 5 && status.is_client_error());
            }
        }
    }
}
