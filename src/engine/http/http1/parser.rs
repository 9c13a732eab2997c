//! Parses the head of a plain request with the parser that hyper uses.
//!
//! A plain request is what Engine.IO clients send: `GET`, `POST` or `OPTIONS`, HTTP/1.1, a path,
//! one valid host, and at most one body length. All other requests are left to hyper from the first
//! byte on. So one implementation judges unusual and malformed requests, and two parsers never
//! interpret the same bytes differently.

use std::{mem::MaybeUninit, ops::Range};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, request::Parts,
};
use roomcast_protocol::Sid;

use crate::engine::{
    forwarding,
    http::message::{
        characters::{Characters, split_at_byte},
        host,
        reply::Form,
    },
};

/// Maximum size of a request head, in bytes.
pub(in crate::engine::http) const MAX_HEADER_BYTES: usize = 32 * 1024;
/// Maximum number of headers of a request.
pub(in crate::engine::http) const MAX_HEADERS: usize = 100;

/// Determines which requests belong to the server.
pub(in crate::engine::http) trait Paths {
    /// Returns whether the server serves requests for this path.
    fn owns(&self, path: &str) -> bool;

    /// Returns the session of a poll (`GET`) or post (`POST`), if a [`SessionRequest`] contains
    /// everything that matters of the request.
    fn session(&self, path: &str, query: &str) -> Option<Sid>;
}

/// The result of parsing the first bytes of a request.
#[derive(Debug)]
pub(in crate::engine::http) enum Parsed {
    /// An incomplete head.
    Partial,
    /// A request that hyper must parse.
    Unsupported,
    /// The head of a plain request.
    Plain(Box<Head>),
    /// The head of a request of a session, without anything else that matters.
    SessionRequest(SessionRequest),
}

/// The required data of most heads, those of session requests. It needs no allocation.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::http) struct SessionRequest {
    pub(super) sid: Sid,
    pub(in crate::engine::http) is_post: bool,
    pub(super) form: Form,
    pub(in crate::engine::http) len: usize,
    pub(in crate::engine::http) body: u64,
    pub(in crate::engine::http) keep_alive: bool,
}

/// The head of a plain request.
#[derive(Debug)]
pub(in crate::engine::http) struct Head {
    pub(in crate::engine::http) parts: Parts,
    /// The length of the head in bytes.
    pub(in crate::engine::http) len: usize,
    /// The length of the body after it in bytes.
    pub(in crate::engine::http) body: u64,
    /// Whether the client may send another request on the connection.
    pub(in crate::engine::http) keep_alive: bool,
}

/// Parses the head at the start of `bytes`, if it is plain and for a path of the server.
pub(in crate::engine::http) fn parse(bytes: &[u8], paths: &impl Paths) -> Parsed {
    if bytes
        .first()
        .is_some_and(|first| !first.is_ascii_uppercase())
    {
        // For example, empty lines before a request are left to hyper.
        return Parsed::Unsupported;
    }
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(len)) if len <= MAX_HEADER_BYTES => len,
        Ok(httparse::Status::Complete(_)) => return Parsed::Unsupported,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Unsupported,
    };
    if let Some(session_request) = session_request(len, &request, paths) {
        return Parsed::SessionRequest(session_request);
    }
    plain(bytes, len, &request, paths)
        .map_or(Parsed::Unsupported, |head| Parsed::Plain(Box::new(head)))
}

/// Parses the head of a session request. Returns `None` if the head contains anything else that
/// matters.
fn session_request(
    len: usize,
    request: &httparse::Request<'_, '_>,
    paths: &impl Paths,
) -> Option<SessionRequest> {
    let is_post = match request.method? {
        "GET" => false,
        "POST" => true,
        _ => return None,
    };
    let (path, query) = split_at_byte(request.path?, b'?');
    let query = query?;
    if request.version != Some(1) || !query.bytes().all(|byte| SIMPLE.contains(byte)) {
        return None;
    }
    let (mut hosts, mut body, mut keep_alive) = (0, None, true);
    let (mut accept_encoding, mut user_agent) = (None, None);
    for httparse::Header { name, value } in &*request.headers {
        let is = |known: HeaderName| name.eq_ignore_ascii_case(known.as_str());
        // Names are first distinguished by their length, because most differ in it.
        match name.len() {
            4 if is(header::HOST) => {
                hosts += 1;
                if !host::is_valid(value) {
                    return None;
                }
            }
            // An origin must be checked, and `Expect` must be answered before the body arrives.
            6 if is(header::EXPECT) || is(header::ORIGIN) => return None,
            7 if is(header::UPGRADE) => return None,
            10 if is(header::CONNECTION) => keep_alive &= !closes(value),
            10 if is(header::USER_AGENT) => user_agent = user_agent.or(Some(*value)),
            12 if is(header::CONTENT_TYPE) && !value.starts_with(b"text/plain") => return None,
            14 if is(header::CONTENT_LENGTH) && body.replace(number(value)?).is_some() => {
                return None;
            }
            15 if is(header::ACCEPT_ENCODING) => {
                accept_encoding = accept_encoding.or(Some(*value));
            }
            17 if is(header::TRANSFER_ENCODING) => return None,
            // A request forwarded by another server carries the address of its client, which must
            // be verified.
            20 if is(forwarding::HEADER) => return None,
            _ => {}
        }
    }
    let body = body.unwrap_or(0);
    if hosts != 1 || body > 0 && !is_post {
        return None;
    }
    Some(SessionRequest {
        sid: paths.session(path, query)?,
        is_post,
        form: Form::new(accept_encoding, user_agent),
        len,
        body,
        keep_alive,
    })
}

fn plain(
    bytes: &[u8],
    len: usize,
    request: &httparse::Request<'_, '_>,
    paths: &impl Paths,
) -> Option<Head> {
    let method = match request.method? {
        "GET" => Method::GET,
        "POST" => Method::POST,
        "OPTIONS" => Method::OPTIONS,
        _ => return None,
    };
    let target = request.path?;
    if request.version != Some(1) || !target.starts_with('/') {
        return None;
    }
    // The head is copied once, and everything else is a slice of the copy.
    let whole = Bytes::copy_from_slice(bytes.get(..len)?);
    let slice = |part: &[u8]| whole.slice(place(bytes, part));
    let uri = Uri::from_maybe_shared(slice(target.as_bytes())).ok()?;
    if !paths.owns(uri.path()) {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    let (mut body, mut keep_alive) = (None, true);
    for header in &*request.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(slice(header.value)).ok()?;
        if name == header::CONTENT_LENGTH {
            if body.is_some() {
                return None;
            }
            body = Some(number(header.value)?);
        } else if name == header::TRANSFER_ENCODING || name == header::EXPECT {
            return None;
        } else if name == header::CONNECTION {
            keep_alive &= !closes(header.value);
        }
        headers.append(name, value);
    }
    let body = body.unwrap_or(0);
    if body > 0 && method != Method::POST || !host::is_named(Version::HTTP_11, &headers) {
        return None;
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = uri;
    parts.version = Version::HTTP_11;
    parts.headers = headers;
    Some(Head {
        parts,
        len,
        body,
        keep_alive,
    })
}

/// The characters of a query that needs no decoding.
const SIMPLE: Characters = Characters::alphanumeric_and(b"=&-_.");

/// Returns whether a `Connection` header requests a close (RFC 9110, 7.6.1).
pub(super) fn closes(connection: &[u8]) -> bool {
    if connection.eq_ignore_ascii_case(b"keep-alive") {
        return false;
    }
    let mut options = connection.split(|byte| *byte == b',');
    connection.is_ascii()
        && options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Returns whether a head may end after the first `seen` bytes. If not, parsing again is useless.
pub(in crate::engine::http) fn may_end(bytes: &[u8], seen: usize) -> bool {
    let fresh = bytes.get(seen.saturating_sub(3)..).unwrap_or_default();
    fresh.windows(2).any(|end| end == b"\n\n") || fresh.windows(3).any(|end| end == b"\n\r\n")
}

/// Parses digits only (RFC 9110, 8.6), up to plausible body lengths.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 15 {
        return None;
    }
    // Fifteen digits do not overflow.
    digits.iter().try_fold(0, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number * 10 + digit)
    })
}

/// Returns the range of `part` in `whole`.
fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    // The parser returns slices of its input, so the difference of the addresses is the position. A
    // slice of anything else would give an empty range.
    let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    match start.checked_add(part.len()) {
        Some(end) if end <= whole.len() => start..end,
        Some(_) | None => 0..0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct SitePaths;

    impl Paths for SitePaths {
        fn owns(&self, path: &str) -> bool {
            path == "/socket.io/"
        }

        fn session(&self, path: &str, query: &str) -> Option<Sid> {
            let sid = query.strip_prefix("sid=").filter(|_| self.owns(path));
            sid.and_then(Sid::parse)
        }
    }

    fn read(bytes: &str) -> Parsed {
        parse(bytes.as_bytes(), &SitePaths)
    }

    fn plain(bytes: &str) -> Head {
        let Parsed::Plain(head) = read(bytes) else {
            panic!("{bytes:?} is not plain");
        };
        *head
    }

    fn get(headers: &str) -> String {
        format!("GET /socket.io/?EIO=4 HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
    }

    fn post(headers: &str) -> String {
        format!("POST /socket.io/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
    }

    #[test]
    fn a_plain_request_is_read() {
        let request = get("X-Two: 1\r\nCookie:  a=b \r\nx-two: 2\r\nEmpty:\r\n");
        let head = plain(&format!("{request}rest"));
        assert_eq!(head.len, request.len());
        assert_eq!((head.body, head.keep_alive), (0, true));
        assert_eq!(head.parts.method, Method::GET);
        assert_eq!(head.parts.uri, "/socket.io/?EIO=4");
        assert_eq!(head.parts.version, Version::HTTP_11);
        let headers = &head.parts.headers;
        assert_eq!(headers["host"], "x");
        assert_eq!(headers["cookie"], "a=b");
        assert_eq!(headers["empty"], "");
        assert_eq!(
            headers.get_all("x-two").iter().collect::<Vec<_>>(),
            ["1", "2"]
        );
        let head = plain(&post("content-length: 007\r\n"));
        assert_eq!((head.body, head.parts.method), (7, Method::POST));
    }

    /// Returns a request of a session.
    fn within_text(method: &str, headers: &str) -> String {
        let target = "/socket.io/?sid=AAAAAAAAAAAAAAAAAAAA";
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
    }

    fn within(method: &str, headers: &str) -> Parsed {
        read(&within_text(method, headers))
    }

    #[test]
    fn session_request_needs_only_sid_body_and_keep_alive() {
        let headers = "Accept: */*\r\nCookie: a=b\r\nConnection: keep-alive\r\n";
        let Parsed::SessionRequest(poll) = within("GET", headers) else {
            panic!("a poll");
        };
        assert_eq!(poll.sid.as_str(), "AAAAAAAAAAAAAAAAAAAA");
        assert_eq!((poll.is_post, poll.body, poll.keep_alive), (false, 0, true));
        let headers =
            "content-type: text/plain;charset=UTF-8\r\ncontent-length: 5\r\nCONNECTION: Close\r\n";
        let Parsed::SessionRequest(post) = within("POST", headers) else {
            panic!("a post");
        };
        assert_eq!((post.is_post, post.body, post.keep_alive), (true, 5, false));
    }

    #[test]
    fn session_request_with_other_relevant_headers_is_not_short() {
        for (method, headers) in [
            ("GET", "Origin: http://x\r\n"),
            ("GET", "Upgrade: websocket\r\n"),
            ("OPTIONS", ""),
            ("POST", "Content-Type: application/octet-stream\r\n"),
        ] {
            let parsed = within(method, headers);
            assert!(matches!(parsed, Parsed::Plain(_)), "{method} {headers}");
        }
        for (method, headers) in [
            ("GET", "Content-Length: 1\r\n"),
            ("POST", "Content-Length: 1\r\nContent-Length: 1\r\n"),
            (
                "POST",
                "Content-Length: 1\r\ntransfer-encoding: chunked\r\n",
            ),
            ("POST", "Content-Length: 1\r\nEXPECT: 100-continue\r\n"),
            ("POST", "Content-Length: x\r\n"),
        ] {
            let parsed = within(method, headers);
            assert!(matches!(parsed, Parsed::Unsupported), "{method} {headers}");
        }
        let escaped = get("").replace("EIO=4", "sid=AAAAAAAAAAAAAAAAAAA%41");
        assert!(matches!(read(&escaped), Parsed::Plain(_)));
    }

    #[test]
    fn client_may_request_close() {
        for (connection, keep_alive) in [
            ("keep-alive", true),
            ("Upgrade", true),
            ("close", false),
            ("keep-alive,  CLOSE", false),
            ("closed", true),
            ("", true),
        ] {
            let head = plain(&get(&format!("Connection: {connection}\r\n")));
            assert_eq!(head.keep_alive, keep_alive, "{connection}");
        }
        let twice = get("Connection: close\r\nConnection: keep-alive\r\n");
        assert!(!plain(&twice).keep_alive);
    }

    #[test]
    fn ambiguous_requests_are_passed_to_hyper() {
        for request in [
            post("Content-Length: 3\r\nContent-Length: 3\r\n"),
            post("Content-Length: 3\r\nContent-Length: 4\r\n"),
            post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
            post("Transfer-Encoding: chunked\r\n"),
            post("Transfer-Encoding: identity\r\n"),
            post("Content-Length: +3\r\n"),
            post("Content-Length: -3\r\n"),
            post("Content-Length: 3, 3\r\n"),
            post("Content-Length: 0x3\r\n"),
            post("Content-Length: 3 3\r\n"),
            post("Content-Length: 99999999999999999999\r\n"),
            post("Content-Length:\r\n"),
            post("Content-Length : 3\r\n"),
            post("Content-Length: 3\r\nExpect: 100-continue\r\n"),
            get("Content-Length: 3\r\n"),
            get("X: a\r\n folded\r\n"),
            get(" X: a\r\n"),
            get("X: a\0b\r\n"),
            get("X\r\n"),
            get("").replace("1.1", "1.0"),
            get("").replace("1.1", "2.0"),
            get("").replace("GET", "HEAD"),
            get("").replace("GET", "DELETE"),
            get("").replace("GET", "get"),
            get("").replace("/socket.io/", "/elsewhere"),
            get("").replace("/socket.io/", "http://x/socket.io/"),
            get("").replace("/socket.io/", "*"),
            get("").replace("GET ", "GET  "),
            format!("\r\n{}", get("")),
            format!("\n{}", get("")),
            get(&"X: y\r\n".repeat(MAX_HEADERS + 1)),
        ] {
            assert!(matches!(read(&request), Parsed::Unsupported), "{request:?}");
        }
    }

    #[test]
    fn request_without_one_valid_host_is_passed_to_hyper() {
        for hosts in [
            "",
            "Host: x\r\nhost: x\r\n",
            "Host: a b\r\n",
            "Host: http://x\r\n",
        ] {
            for request in [get(""), within_text("GET", ""), within_text("POST", "")] {
                let request = request.replace("Host: x\r\n", hosts);
                assert!(matches!(read(&request), Parsed::Unsupported), "{request:?}");
            }
        }
    }

    #[test]
    fn a_head_is_partial_until_its_last_byte() {
        let request = get("Connection: close\r\n");
        for end in 0..request.len() {
            assert!(matches!(read(&request[..end]), Parsed::Partial), "{end}");
            assert!(!may_end(&request.as_bytes()[..end], 0), "{end}");
        }
        for seen in 0..request.len() {
            assert!(may_end(request.as_bytes(), seen), "{seen}");
        }
        assert_eq!(plain(&request).len, request.len());
    }
}
