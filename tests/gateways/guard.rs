//! Admission to the real server: limits of connections, blocks, and addresses of clients behind
//! proxies.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::ServerProcess;
use crate::support::http::metric;
use crate::support::{DEADLINE, RawClient, Response};

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";
const UPGRADE: &str = "/socket.io/?EIO=4&transport=websocket";
pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";
/// Loopback is like any other address.
pub(crate) const NOT_EXEMPT: (&str, &str) = ("ROOMCAST_LIMITS__EXEMPT_LOOPBACK", "false");
const STRICT: (&str, &str) = ("ROOMCAST_LIMITS__PRESET", "strict");
pub(crate) const KEY: (&str, &str) = ("ROOMCAST_AUTH__JWT__SECRET", SECRET);
/// Connections from this machine come through a proxy.
pub(crate) const PROXIED: (&str, &str) = ("ROOMCAST_SERVER__TRUSTED_PROXIES", "127.0.0.0/8,::1");

/// Returns a token of an operator with this role.
pub(crate) fn token(role: &str) -> String {
    signed(&json!({"sub": "operator", "roles": [role], "exp": 4_000_000_000_u64}))
}

/// Returns a token with these claims.
pub(crate) fn signed(claims: &Value) -> String {
    signed_with(SECRET, claims)
}

/// Returns a token with these claims, signed with another secret.
pub(crate) fn signed_with(secret: &str, claims: &Value) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&header), part(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = ring::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub(crate) struct Server {
    pub(crate) binary: ServerProcess,
    folder: TempDir,
}

impl Server {
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let binary = ServerProcess::start(folder.path(), variables);
        Self { binary, folder }
    }

    /// Returns the folder of its database.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Kills the server and starts it again.
    pub(crate) fn restarted(self, variables: &[(&str, &str)]) -> Self {
        let Self { binary, folder } = self;
        drop(binary);
        let binary = ServerProcess::start(folder.path(), variables);
        Self { binary, folder }
    }

    /// Kills the server, changes its database and starts it again.
    pub(crate) fn restarted_after(
        self,
        change: impl FnOnce(&rusqlite::Connection),
        variables: &[(&str, &str)],
    ) -> Self {
        let Self { binary, folder } = self;
        drop(binary);
        change(&rusqlite::Connection::open(folder.path().join("chat.db")).unwrap());
        let binary = ServerProcess::start(folder.path(), variables);
        Self { binary, folder }
    }

    /// Stops the server with a signal, and starts it again on the same database.
    pub(crate) fn stopped_and_started(self, variables: &[(&str, &str)]) -> Self {
        let Self { binary, folder } = self;
        binary.terminate();
        let binary = ServerProcess::start(folder.path(), variables);
        Self { binary, folder }
    }

    fn connect(&self) -> RawClient {
        RawClient::connect(self.binary.address())
    }

    fn get(&self, target: &str, headers: &str) -> Response {
        let mut client = self.connect();
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
        ));
        client.response()
    }

    fn open(&self) -> Response {
        self.get(OPEN, "")
    }

    /// Opens a session with a header that a proxy would add.
    fn open_for(&self, header: &str) -> u16 {
        self.get(OPEN, &format!("{header}\r\n")).status
    }

    /// Calls the API with this role.
    pub(crate) fn call(&self, method: &str, path: &str, role: &str, body: &str) -> (u16, Value) {
        self.call_with(
            method,
            path,
            &format!("Authorization: Bearer {}\r\n", token(role)),
            body,
        )
    }

    fn call_with(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let mut client = self.connect();
        client.send(format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\n{headers}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = client.response();
        let body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
        (answer.status, body)
    }

    pub(crate) fn metric(&self, row: &str) -> i64 {
        metric(
            &RawClient::connect(self.binary.admin()).get("/metrics").body,
            row,
        )
    }
}

fn assert_limited(answer: &Response) {
    let body = r#"{"code":4,"message":"Too many connections"}"#;
    assert_eq!(answer.parts(), (429, body));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    // Twice the window: the client before is told the first half.
    assert!((1..=600).contains(&seconds), "{seconds}");
}

pub(crate) fn assert_blocked(answer: &Response) {
    let body = r#"{"code":4,"message":"Forbidden"}"#;
    assert_eq!(answer.parts(), (403, body));
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
}

/// Waits until `what` holds.
pub(crate) fn until(mut what: impl FnMut() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < DEADLINE, "it never happens");
        std::thread::sleep(Duration::from_millis(10)); // Poll interval.
    }
}

#[test]
fn the_standard_preset_lets_an_address_connect_sixty_times() {
    let server = Server::start(&[NOT_EXEMPT]);
    let start = Instant::now();
    for _ in 0..60 {
        assert_eq!(server.open().status, 200);
    }
    // One more each second.
    let mut more = 0;
    let mut refused = |ask: &dyn Fn() -> Response| loop {
        let answer = ask();
        if answer.status == 429 {
            return answer;
        }
        more += 1;
        let most = start.elapsed().as_secs() + 1;
        assert!(more <= most, "{more} more in less than {most} s");
    };
    assert_limited(&refused(&|| server.open()));
    let answer = refused(&|| server.connect().upgrade(UPGRADE));
    assert_eq!(answer.parts(), (429, "Too many connections"));
    assert_eq!(answer.header("connection"), Some("close"));
    server
        .binary
        .expect_log(&["connection refused", "127.0.0.1", "rate"]);
    assert!(server.metric("roomcast_connects_refused_total{reason=\"rate\"}") >= 2);
    assert!(
        server.metric("roomcast_sessions{transport=\"polling\"}")
            <= 60 + i64::try_from(more).unwrap()
    );
}

#[test]
fn the_strict_preset_lets_an_address_connect_five_times() {
    let server = Server::start(&[NOT_EXEMPT, STRICT]);
    for _ in 0..5 {
        assert_eq!(server.open().status, 200);
    }
    assert_limited(&server.open());
}

#[test]
fn refusal_is_readable_by_a_page_of_another_origin() {
    let server = Server::start(&[NOT_EXEMPT, STRICT]);
    let headers = "Origin: http://localhost:5173\r\n";
    let mut answers = (0..6).map(|_| server.get(OPEN, headers));
    let refused = answers.find(|answer| answer.status == 429).unwrap();
    let allowed = refused.header("access-control-allow-origin");
    assert_eq!(allowed, Some("http://localhost:5173"));
}

#[test]
fn loopback_is_exempt_unless_configured() {
    let server = Server::start(&[STRICT]);
    for _ in 0..70 {
        assert_eq!(server.open().status, 200);
    }
}

#[test]
fn address_connections_beyond_the_limit_are_refused() {
    let server = Server::start(&[
        NOT_EXEMPT,
        ("ROOMCAST_LIMITS__CONNECTIONS_PER_ADDRESS", "2"),
    ]);
    let mut first = server.connect();
    first.open_socket();
    let mut second = server.connect();
    second.open_socket();
    assert_limited(&server.open());
    server.binary.expect_log(&["address connections"]);
    drop(first);
    until(|| server.open().status == 200);
}

#[test]
fn forged_proxy_headers_change_nothing() {
    let server = Server::start(&[NOT_EXEMPT, STRICT]);
    for n in 0..5 {
        let forged = format!(
            "X-Forwarded-For: 203.0.113.{n}\r\nForwarded: for=203.0.113.{n}\r\nX-Real-IP: 203.0.113.{n}"
        );
        assert_eq!(server.open_for(&forged), 200);
    }
    for forged in [
        "X-Forwarded-For: 203.0.113.99",
        "Forwarded: for=203.0.113.99",
        "X-Forwarded-For: 127.0.0.1, ::1",
        "X-Real-IP: 203.0.113.99",
    ] {
        assert_eq!(server.open_for(forged), 429, "{forged}");
    }
}

#[test]
fn client_address_comes_from_the_trusted_proxy_not_the_client() {
    let server = Server::start(&[STRICT, PROXIED]);
    for n in 0..5 {
        let header = format!("X-Forwarded-For: 6.6.6.{n}, 203.0.113.1");
        assert_eq!(server.open_for(&header), 200);
    }
    for (header, status) in [
        ("X-Forwarded-For: 203.0.113.1", 429),
        ("X-Forwarded-For: 6.6.6.6, 203.0.113.1", 429),
        (
            "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.1",
            429,
        ),
        ("X-Forwarded-For: 203.0.113.1, 127.0.0.1", 429),
        ("Forwarded: for=203.0.113.1", 429),
        ("X-Forwarded-For: 203.0.113.2", 200),
        ("Forwarded: for=\"[2001:db8::1]:80\"", 200),
    ] {
        assert_eq!(server.open_for(header), status, "{header}");
    }
    // One IPv6 subscriber counts as one client.
    for n in 2..6 {
        let header = format!("X-Forwarded-For: 2001:db8::{n}");
        assert_eq!(server.open_for(&header), 200);
    }
    assert_eq!(server.open_for("X-Forwarded-For: 2001:db8::ffff"), 429);
    assert_eq!(server.open_for("X-Forwarded-For: 2001:db8:0:1::1"), 200);
}

#[test]
fn proxy_headers_that_are_no_headers_are_refused() {
    let server = Server::start(&[PROXIED]);
    for header in [
        "X-Forwarded-For: 203.0.113.1\rX-Admin: 1",
        "X-Forwarded-For: 203.0.113.1\0",
        "X-Forwarded-For : 203.0.113.1",
        "X-Forwarded-For: 1\r\n 203.0.113.1",
    ] {
        let mut client = server.connect();
        client.send(format!(
            "GET {OPEN} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n"
        ));
        assert_eq!(client.response().status, 400, "{header:?}");
    }
    let long = format!("X-Forwarded-For: {}", "6.6.6.6, ".repeat(3000));
    assert_eq!(server.open_for(&long), 200);
    assert_eq!(server.open_for("X-Forwarded-For: \x1b[31m<script>"), 400);
}

#[test]
fn client_address_comes_from_the_proxy_protocol() {
    let server = Server::start(&[STRICT, PROXIED, ("ROOMCAST_SERVER__PROXY_PROTOCOL", "true")]);
    let open = |header: &[u8]| {
        let mut client = server.connect();
        client.send(header);
        client.get(OPEN).status
    };
    let v1 = b"PROXY TCP4 203.0.113.1 192.0.2.1 4711 443\r\n";
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend([203, 0, 113, 1, 192, 0, 2, 1, 0x12, 0x67, 0x01, 0xbb]);
    for header in [&v1[..], &v2, &v1[..], &v2, &v1[..]] {
        assert_eq!(open(header), 200);
    }
    assert_eq!(open(v1), 429);
    assert_eq!(open(&v2), 429);
    assert_eq!(open(b"PROXY TCP4 203.0.113.2 192.0.2.1 4711 443\r\n"), 200);

    // In pieces, and with the client's data right after it.
    let mut slow = server.connect();
    slow.send_bytewise(b"PROXY TCP4 203.0.113.3 192.0.2.1 4711 443\r\n");
    assert_eq!(slow.get(OPEN).status, 200);
    let mut quick = server.connect();
    let request = format!("GET {OPEN} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    quick.send([&b"PROXY UNKNOWN\r\n"[..], request.as_bytes()].concat());
    assert_eq!(quick.response().status, 200);

    for malformed in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PROXY TCP4 203.0.113.1\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c............",
    ] {
        let mut client = server.connect();
        client.send(malformed);
        assert!(client.take_all().is_empty(), "{malformed:?} was answered");
    }
}

#[test]
fn proxy_protocol_of_an_untrusted_peer_is_refused() {
    let server = Server::start(&[
        ("ROOMCAST_SERVER__TRUSTED_PROXIES", "192.0.2.0/24"),
        ("ROOMCAST_SERVER__PROXY_PROTOCOL", "true"),
    ]);
    assert_eq!(server.open().status, 200);
    let mut client = server.connect();
    client.send(b"PROXY TCP4 203.0.113.1 192.0.2.1 4711 443\r\n\r\n");
    assert_eq!(client.response().status, 400);
}

#[test]
fn blocked_network_is_refused_until_unblocked() {
    let server = Server::start(&[KEY]);
    let mut client = server.connect();
    client.open_socket();

    let new = r#"{"cidr":"127.0.0.1","seconds":3600,"reason":"spam"}"#;
    let (status, block) = server.call("POST", "/blocks", "service", new);
    assert_eq!(status, 201, "{block}");
    assert_eq!(block["cidr"], "127.0.0.1/32");
    assert_eq!(block["source"], "admin");
    assert!(block["expiresAt"].is_string() && block["createdAt"].is_string());
    let (_, list) = server.call("GET", "/blocks", "admin", "");
    assert_eq!(list, json!({"blocks": [block], "hasMore": false}));

    // Connected clients are disconnected, and new clients are refused.
    client.expect_close();
    assert_blocked(&server.open());
    let answer = server.connect().upgrade(UPGRADE);
    assert_eq!(answer.parts(), (403, "Forbidden"));
    server.binary.expect_log(&["connection refused", "blocked"]);

    let server = server.restarted(&[KEY]);
    assert_blocked(&server.open());
    let path = format!("/blocks/{}", block["id"].as_str().unwrap());
    assert_eq!(server.call("DELETE", &path, "service", "").0, 204);
    assert_eq!(server.open().status, 200);
    assert_eq!(server.call("DELETE", &path, "service", "").0, 404);

    let server = server.restarted(&[KEY]);
    assert_eq!(server.open().status, 200);
}

#[test]
fn each_unchanged_block_is_on_exactly_one_page() {
    let server = Server::start(&[KEY]);
    let add = |n: usize| {
        let new = json!({"cidr": format!("192.0.2.{n}"), "seconds": 3600, "reason": "spam"});
        let (status, block) = server.call("POST", "/blocks", "service", &new.to_string());
        assert_eq!(status, 201, "{block}");
        block["id"].as_str().unwrap().to_owned()
    };
    let page = |query: &str| {
        let (status, list) = server.call("GET", &format!("/blocks?limit=2{query}"), "admin", "");
        assert_eq!(status, 200, "{list}");
        assert_eq!(list["hasMore"], list["cursor"].is_string(), "{list}");
        let blocks = list["blocks"].as_array().unwrap().iter();
        let ids: Vec<_> = blocks
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect();
        let next = list["cursor"]
            .as_str()
            .map(|cursor| format!("&cursor={cursor}"));
        (ids, next)
    };
    let staying: Vec<_> = (1..=5).map(add).collect();
    let (mut seen, mut next) = page("");
    assert_eq!(seen.len(), 2);
    // The last block seen is removed, and another is added; neither moves the rest.
    let path = format!("/blocks/{}", seen[1]);
    assert_eq!(server.call("DELETE", &path, "service", "").0, 204);
    let late = add(6);
    while let Some(query) = next {
        let (more, after) = page(&query);
        seen.extend(more);
        next = after;
    }
    assert_eq!(seen.len(), staying.len());
    assert!(staying.iter().all(|id| seen.contains(id)) && !seen.contains(&late));
    let (newest, _) = page("");
    assert!(newest.contains(&late), "newest first");
    for query in ["limit=0", "limit=201", "cursor=x", "cursor=1.x", "newest=1"] {
        let (status, answer) = server.call("GET", &format!("/blocks?{query}"), "admin", "");
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!("INVALID_PAYLOAD")),
            "{query}"
        );
    }
}

#[test]
fn the_block_list_is_for_services_and_admins_and_takes_sense_only() {
    let server = Server::start(&[KEY]);
    assert_eq!(server.call_with("GET", "/blocks", "", "").0, 401);
    let cookie = "Cookie: roomcast_token=x\r\nOrigin: http://localhost:5173\r\n";
    assert_eq!(server.call_with("GET", "/blocks", cookie, "").0, 401);
    assert_eq!(server.call("GET", "/blocks", "user", "").0, 403);
    let new = r#"{"cidr":"127.0.0.1","reason":"spam"}"#;
    assert_eq!(server.call("POST", "/blocks", "coach", new).0, 403);
    for body in [
        "",
        "{}",
        r#"{"cidr":"127.0.0.1"}"#,
        r#"{"cidr":"127.0.0.1/33","reason":"x"}"#,
        r#"{"cidr":"example.org","reason":"x"}"#,
        r#"{"cidr":"127.0.0.1","reason":""}"#,
        r#"{"cidr":"127.0.0.1","reason":"a\nb"}"#,
        r#"{"cidr":"127.0.0.1","reason":"x","seconds":0}"#,
        r#"{"cidr":"127.0.0.1","reason":"x","seconds":-1}"#,
        r#"{"cidr":"127.0.0.1","reason":"x","seconds":99999999999999999}"#,
    ] {
        let (status, answer) = server.call("POST", "/blocks", "admin", body);
        assert_eq!(status, 400, "{body}");
        assert_eq!(answer["error"]["code"], "INVALID_PAYLOAD", "{body}");
    }
    for id in ["x", "00000000-0000-0000-0000-000000000000", "%00", "1"] {
        let path = format!("/blocks/{id}");
        assert_eq!(server.call("DELETE", &path, "admin", "").0, 404, "{id}");
    }
    assert_eq!(server.open().status, 200);
}

#[test]
fn configured_networks_are_shut_out_and_stay_so() {
    let server = Server::start(&[
        KEY,
        ("ROOMCAST_LIMITS__BLOCKED", "203.0.113.0/24,127.0.0.1"),
    ]);
    assert_blocked(&server.open());
    let (_, list) = server.call("GET", "/blocks", "admin", "");
    let blocks = list["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 2);
    assert_eq!(blocks[0]["source"], "configuration");
    let path = format!("/blocks/{}", blocks[0]["id"].as_str().unwrap());
    assert_eq!(server.call("DELETE", &path, "admin", "").0, 409);
}

#[test]
fn repeated_violations_block_an_address_beyond_a_restart() {
    let variables = [
        KEY,
        NOT_EXEMPT,
        ("ROOMCAST_LIMITS__CONNECTS", "1"),
        ("ROOMCAST_LIMITS__BLOCK_AFTER", "3"),
    ];
    let server = Server::start(&variables);
    assert_eq!(server.open().status, 200);
    for _ in 0..3 {
        assert_limited(&server.open());
    }
    assert_blocked(&server.open());
    server.binary.expect_log(&["blocked", "connects too often"]);
    let (_, list) = server.call("GET", "/blocks", "admin", "");
    let block = &list["blocks"][0];
    assert_eq!(block["cidr"], "127.0.0.1/32");
    assert_eq!(block["source"], "automatic");
    assert!(block["expiresAt"].is_string());
    // It is stored soon afterwards.
    let stored = || {
        let database = rusqlite::Connection::open(server.folder.path().join("chat.db")).unwrap();
        let count = "SELECT count(*) FROM blocks";
        database
            .query_row(count, [], |row| row.get::<_, i64>(0))
            .unwrap()
            == 1
    };
    until(stored);
    let server = server.restarted(&variables);
    assert_blocked(&server.open());
}
