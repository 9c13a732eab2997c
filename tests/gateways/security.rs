//! Origins, cookies and security headers of browsers, on the real server.

use std::process::Command;

use tempfile::TempDir;

use crate::guard::{KEY, token};
use crate::server::ServerProcess;
use crate::support::{Frame, Polling, RawClient, Response};

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";

fn start(variables: &[(&str, &str)]) -> (ServerProcess, TempDir) {
    let folder = TempDir::new().unwrap();
    let binary = ServerProcess::start(folder.path(), variables);
    (binary, folder)
}

fn ask(server: &ServerProcess, method: &str, target: &str, headers: &str) -> Response {
    let mut client = RawClient::connect(server.address());
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: chat.example\r\nContent-Length: 0\r\n{headers}\r\n"
    ));
    client.response()
}

#[test]
fn every_page_and_every_answer_of_the_api_has_security_headers() {
    let (server, _folder) = start(&[]);
    for target in [
        "/",
        "/health/live",
        "/health/ready",
        "/api/v1/blocks",
        "/none",
    ] {
        let answer = ask(&server, "GET", target, "");
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{target}: {policy}");
        }
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{target}");
        }
        assert_eq!(answer.header("strict-transport-security"), None);
    }
}

#[test]
fn engine_answers_and_client_files_are_not_sniffed() {
    let (server, _folder) = start(&[]);
    let session = Polling::open(server.address(), "/socket.io/");
    let own = "Origin: http://chat.example\r\n";
    let unknown = "/socket.io/?EIO=4&transport=__proto__";
    let preflight = format!("{own}Access-Control-Request-Method: POST\r\n");
    let foreign = "Origin: https://evil.example\r\n";
    for (method, target, headers, status) in [
        ("GET", OPEN, "", 200),
        ("GET", OPEN, own, 200),
        ("GET", OPEN, foreign, 403),
        ("GET", unknown, "", 400),
        ("PUT", OPEN, "", 400),
        ("OPTIONS", OPEN, &preflight, 204),
    ] {
        let answer = ask(&server, method, target, headers);
        assert_eq!(answer.status, status, "{method} {target}");
        let nosniff = answer.header("x-content-type-options");
        assert_eq!(nosniff, Some("nosniff"), "{method} {target}");
    }
    assert_eq!(
        session
            .post("40{\"name\":\"Ann\"}")
            .header("x-content-type-options"),
        Some("nosniff")
    );
    assert_eq!(
        session.poll().header("x-content-type-options"),
        Some("nosniff")
    );
    for file in ["socket.io.js", "socket.io.min.js.map"] {
        for (method, headers) in [("GET", ""), ("GET", own), ("POST", "")] {
            let answer = ask(&server, method, &format!("/socket.io/{file}"), headers);
            let nosniff = answer.header("x-content-type-options");
            assert_eq!(nosniff, Some("nosniff"), "{method} {file}");
            // Pages of all origins may load it.
            let policy = answer.header("cross-origin-resource-policy");
            assert_eq!(policy, Some("cross-origin"), "{method} {file}");
        }
    }
}

#[test]
fn tls_terminating_proxy_enables_strict_transport_security() {
    let proxied = ("ROOMCAST_SERVER__TRUSTED_PROXIES", "127.0.0.1");
    let (server, _folder) = start(&[proxied]);
    let over_tls = "X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: https\r\n";
    let answer = ask(&server, "GET", "/", over_tls);
    assert!(answer.header("strict-transport-security").is_some());
    let (server, _folder) = start(&[]);
    let answer = ask(&server, "GET", "/", over_tls);
    assert_eq!(answer.header("strict-transport-security"), None);
}

#[test]
fn f9_pages_of_other_origins_are_refused_on_both_transports() {
    let (server, _folder) = start(&[("ALLOWED_ORIGINS", "https://app.example")]);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let websocket = OPEN.replace("polling", "websocket");
    for (origin, is_allowed) in [
        ("https://app.example", true),
        ("http://chat.example", true),
        ("http://app.example", false),
        ("https://app.example.evil.example", false),
        ("https://evil.example", false),
        ("http://localhost:5173", false),
        ("null", false),
        ("*", false),
        ("file://", false),
        ("https://*", false),
    ] {
        let header = format!("Origin: {origin}\r\n");
        let answer = ask(&server, "GET", OPEN, &header);
        let status = if is_allowed { 200 } else { 403 };
        assert_eq!(answer.status, status, "{origin}");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, is_allowed.then_some(origin), "{origin}");
        let answer = ask(&server, "GET", &websocket, &format!("{header}{upgrade}"));
        let status = if is_allowed { 101 } else { 403 };
        assert_eq!(answer.status, status, "{origin}");
        let preflight = format!("{header}Access-Control-Request-Method: POST\r\n");
        let answer = ask(&server, "OPTIONS", OPEN, &preflight);
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, is_allowed.then_some(origin), "{origin}");
    }
    server.expect_log(&["request refused", "origin not allowed", "127.0.0.1"]);
}

#[test]
fn f8_raw_origin_does_not_reach_the_log() {
    let (server, _folder) = start(&[("ROOMCAST_LOG__LEVEL", "debug")]);
    for origin in ["http://a\x1b[31m", "http://a\x01b", "http://a\rb"] {
        let answer = ask(&server, "GET", OPEN, &format!("Origin: {origin}\r\n"));
        assert_eq!(answer.status, 400, "{origin:?}");
    }
    let answer = ask(
        &server,
        "GET",
        OPEN,
        "Origin: http://evil.example\\n2026 INFO forged\r\n",
    );
    assert_eq!(answer.status, 403);
    server.expect_log(&["request refused"]);
    assert!(!server.log().contains('\x1b'), "{}", server.log());
    assert!(!server.log().contains("forged"), "{}", server.log());
}

#[test]
fn opaque_or_wildcard_origins_prevent_startup() {
    for origins in ["*", "null", "https://app.example,*", "https://*"] {
        let output = Command::new(env!("CARGO_BIN_EXE_roomcast"))
            .env("ALLOWED_ORIGINS", origins)
            .env("ROOMCAST_LISTEN", "127.0.0.1:0")
            .env("ROOMCAST_STORE", "memory:")
            .output()
            .unwrap();
        assert!(!output.status.success(), "{origins}");
        let output = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(
            output.contains("credentials to any origin"),
            "{origins}: {output}"
        );
    }
}

/// Returns the answer to a CONNECT over a WebSocket with these request headers.
pub(crate) fn connect(server: &ServerProcess, headers: &str) -> String {
    connected(server, headers).1
}

/// Does the same, and also returns the connection.
pub(crate) fn connected(server: &ServerProcess, headers: &str) -> (RawClient, String) {
    let mut client = RawClient::connect(server.address());
    client.send(format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: chat.example\r\n{headers}\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert_eq!(client.response().status, 101);
    let open = text(&mut client);
    assert!(open.starts_with("0{"), "{open}");
    client.send_text("40");
    let answer = text(&mut client);
    (client, answer)
}

/// Returns the next packet of a client, which must be a text.
pub(crate) fn text(client: &mut RawClient) -> String {
    match client.message() {
        Frame::Text(text) => text,
        other @ (Frame::Binary(_) | Frame::Close(_) | Frame::Ping(_) | Frame::Pong(_)) => {
            panic!("{other:?} is no text")
        }
    }
}

#[test]
fn a_cookie_counts_only_on_requests_of_pages_that_may_use_it() {
    let guests = ("ROOMCAST_AUTH__GUESTS", "true");
    let origins = ("ALLOWED_ORIGINS", "https://app.example");
    let (server, _folder) = start(&[KEY, guests, origins]);
    let token = token("user");
    let cookie = format!("Cookie: roomcast_token={token}\r\n");
    for sender in [
        "Origin: https://app.example\r\n",
        "Origin: http://chat.example\r\n",
        "Sec-Fetch-Site: same-origin\r\n",
    ] {
        let answer = connect(&server, &format!("{cookie}{sender}"));
        assert!(answer.starts_with("40{"), "{sender}: {answer}");
    }
    // A client whose cookie is ignored does not become a guest.
    for sender in [
        "",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: none\r\n",
    ] {
        let answer = connect(&server, &format!("{cookie}{sender}"));
        let refused = r#"44{"message":"unauthorized","data":{"code":"UNAUTHENTICATED"}}"#;
        assert_eq!(answer, refused, "{sender}");
    }
    server.expect_log(&["cookie of an origin that is not allowed"]);
    // Credentials that browsers never send by themselves need no origin.
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert!(connect(&server, &bearer).starts_with("40{"));
    assert!(!server.log().contains(&token[..40]), "{}", server.log());
}

/// Returns the outcome of a request with these headers and a CONNECT with this payload: the status
/// if no session was opened, otherwise the answer.
fn outcome(server: &ServerProcess, headers: &[u8], payload: &str) -> String {
    let mut client = RawClient::connect(server.address());
    let mut request =
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: chat.example\r\n\
        Origin: http://chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            .to_vec();
    request.extend_from_slice(headers);
    request.extend_from_slice(b"\r\n");
    client.send(&request);
    let status = client.response().status;
    if status != 101 {
        return status.to_string();
    }
    assert!(matches!(client.message(), Frame::Text(open) if open.starts_with("0{")));
    client.send_text(format!("40{payload}"));
    let Frame::Text(answer) = client.message() else {
        panic!("no answer")
    };
    if !answer.starts_with("40{") {
        return answer;
    }
    assert!(matches!(client.message(), Frame::Text(told) if told.contains("\"operator\"")));
    "let in".into()
}

#[test]
fn odd_headers_keep_credentials_and_bad_ones_make_no_guest() {
    let guests = ("ROOMCAST_AUTH__GUESTS", "true");
    let (server, _folder) = start(&[KEY, guests]);
    let token = token("user");
    let cookie = |around: &[u8]| [around, token.as_bytes(), b"\r\n"].concat();
    let odd = "x".repeat(16_000);
    for headers in [
        cookie(b"Cookie: theme=caf\xe9; roomcast_token="),
        cookie(b"Cookie: theme=dark\r\nCookie: roomcast_token="),
        cookie(format!("X-Odd: {odd}\r\nAuthorization: Bearer ").as_bytes()),
    ] {
        let outcome = outcome(&server, &headers, "");
        assert_eq!(outcome, "let in", "{}", headers.escape_ascii());
    }
    let refused = r#"44{"message":"unauthorized","data":{"code":"UNAUTHENTICATED"}}"#;
    let large = format!("Cookie: a={}\r\n", "x".repeat(16 << 10));
    let bearer = format!("Authorization: Bearer {token}\r\n");
    for (headers, payload, expected) in [
        (&b"Authorization: Bearer\r\n"[..], "", refused),
        (b"Authorization: Bearer caf\xe9\r\n", "", refused),
        (b"Authorization: Bearer \xff\r\n", "", refused),
        (b"Authorization:\r\n", "", refused),
        (b"Cookie: roomcast_token=\xff\r\n", "", refused),
        (
            b"Cookie: roomcast_token=x\r\nCookie: roomcast_token=x\r\n",
            "",
            refused,
        ),
        (
            b"Cookie: a=b\r\nCookie: roomcast_session=x\r\n",
            "",
            refused,
        ),
        (b"", r#"{"name":"Ann","token":"x","token":"x"}"#, refused),
        (
            b"",
            r#"{"name":"Ann","sessionId":"x","sessionId":"x"}"#,
            refused,
        ),
        (
            b"Authorization: Basic eDp5\r\nAuthorization: Bearer x\r\n",
            "",
            "400",
        ),
        (format!("{bearer}{bearer}").as_bytes(), "", "400"),
        (format!("{large}{bearer}").as_bytes(), "", "431"),
        (large.as_bytes(), r#"{"name":"Ann"}"#, "431"),
    ] {
        let outcome = outcome(&server, headers, payload);
        let shown = headers.escape_ascii().to_string();
        assert_eq!(outcome, expected, "{:.80} {payload}", shown);
    }
    // The same applies to the HTTP API.
    let admin = crate::guard::token("admin");
    for (headers, status) in [
        (format!("Authorization: Bearer {admin}\r\n"), 200),
        (
            format!("Authorization: Bearer {admin}\r\nAuthorization: Bearer x\r\n"),
            401,
        ),
        (
            format!("Authorization: Bearer x\r\nAuthorization: Bearer {admin}\r\n"),
            401,
        ),
        ("Authorization: Bearer\r\n".into(), 401),
        ("Authorization: Bearer caf\u{e9}\r\n".into(), 401),
    ] {
        let answer = ask(&server, "GET", "/api/v1/blocks", &headers);
        assert_eq!(answer.status, status, "{headers}");
    }
}

#[test]
fn the_official_client_comes_with_the_binary() {
    let (server, _folder) = start(&[]);
    for name in [
        "socket.io",
        "socket.io.min",
        "socket.io.esm.min",
        "socket.io.msgpack.min",
    ] {
        let file = ask(&server, "GET", &format!("/socket.io/{name}.js"), "");
        assert_eq!(file.status, 200, "is there no npm here? {}", file.body);
        let version = file.header("etag").unwrap().trim_matches('"');
        assert!(
            file.body.contains(&format!("Socket.IO v{version}")),
            "{name}"
        );
        let map = ask(&server, "GET", &format!("/socket.io/{name}.js.map"), "");
        assert_eq!(map.status, 200, "{name}");
    }
    let mut client = RawClient::connect(server.address());
    client.send("GET /socket.io/socket.io.js HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br\r\n\r\n");
    let head = String::from_utf8(client.take_until(b"\r\n\r\n")).unwrap();
    assert!(head.contains("content-encoding: br\r\n"), "{head}");
}
