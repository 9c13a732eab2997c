//! Options of the engine as a client sees them: paths, cookie, compression, origins.

use std::{io::Read as _, time::Duration};

use roomcast::{
    Builder, Config, Event, Io, Server,
    options::{Cookie, Cors, HttpCompression, PerMessageDeflate, SameSite, Transport},
};
use serde_json::json;

use crate::{
    local::{Local, until},
    support::{Polling, RawClient, Response, http::sid_of},
};

pub(crate) const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
pub(crate) const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

pub(crate) fn builder(config: Config) -> Builder {
    Io::builder().config(config).namespace("/", |namespace| {
        namespace
            .on("big", async |event: Event, bytes: usize| {
                event.socket.emit("big", "x".repeat(bytes));
            })
            .on("plain", async |event: Event, bytes: usize| {
                event
                    .socket
                    .without_compression()
                    .emit("big", "x".repeat(bytes));
            })
    })
}

fn serve(config: Config) -> Local {
    Local::serve(builder(config))
}

pub(crate) fn get(server: &Local, target: &str, headers: &str) -> Response {
    ask(server, "GET", target, headers)
}

pub(crate) fn ask(server: &Local, method: &str, target: &str, headers: &str) -> Response {
    let mut client = RawClient::connect(server.address());
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
    ));
    client.response()
}

pub(crate) fn upgrade(server: &Local, target: &str) -> Response {
    RawClient::connect(server.address()).upgrade(target)
}

#[test]
fn the_path_is_answered_with_its_slash_and_on_request_without() {
    let server = serve(Config::default());
    assert_eq!(get(&server, POLLING, "").status, 200);
    for other in [
        "/socket.io?EIO=4&transport=polling",
        "/engine.io/?EIO=4&transport=polling",
        "/socket.iofoo/?EIO=4&transport=polling",
    ] {
        assert_eq!(get(&server, other, "").status, 404, "{other}");
    }
    let server = serve(Config::default().path("/chat").optional_trailing_slash());
    for own in [
        "/chat?EIO=4&transport=polling",
        "/chat/?EIO=4&transport=polling",
    ] {
        assert_eq!(get(&server, own, "").status, 200, "{own}");
    }
    assert_eq!(get(&server, POLLING, "").status, 404);
}

#[test]
fn initial_packet_follows_the_open_packet() {
    let server = serve(Config::default().initial_packet("hello é").allow_eio3());
    let body = get(&server, POLLING, "").body;
    assert!(
        body.starts_with("0{") && body.ends_with("}\x1e4hello é"),
        "{body}"
    );
    let body = get(&server, &POLLING.replace("EIO=4", "EIO=3"), "").body;
    assert!(
        body.contains(":0{") && body.ends_with("}8:4hello é"),
        "{body}"
    );
    let mut client = RawClient::connect(server.address());
    client.open_websocket("/socket.io/");
    client.expect_text("4hello é");
}

#[test]
fn options_have_the_official_names_too() {
    let config: Config = serde_json::from_value(json!({
        "path": "/x/",
        "addTrailingSlash": false,
        "transports": ["websocket"],
        "allowUpgrades": false,
        "allowEIO3": true,
        "initialPacket": "x",
        "pingInterval": "1s",
        "pingTimeout": "2s",
        "upgradeTimeout": "3s",
        "connectTimeout": "4s",
        "maxHttpBufferSize": 5,
        "httpCompression": {"threshold": 6},
        "perMessageDeflate": {"threshold": 7, "serverMaxWindowBits": 10, "clientMaxWindowBits": 11},
        "cookie": {"name": "n", "httpOnly": false, "sameSite": "strict", "maxAge": "7s"},
        "cors": {"origin": ["a"], "allowedHeaders": [], "exposedHeaders": [], "maxAge": "8s",
            "preflightContinue": true, "optionsSuccessStatus": 200},
        "serveClient": false,
        "destroyUpgrade": false,
        "destroyUpgradeTimeout": "9s",
    }))
    .unwrap();
    let expected = Config::default()
        .path("/x/")
        .optional_trailing_slash()
        .transports([Transport::WebSocket])
        .without_upgrades()
        .allow_eio3()
        .initial_packet("x")
        .ping_interval(Duration::from_secs(1))
        .ping_timeout(Duration::from_secs(2))
        .upgrade_timeout(Duration::from_secs(3))
        .connect_timeout(Duration::from_secs(4))
        .max_payload(5)
        .http_compression(HttpCompression::default().threshold(6))
        .per_message_deflate(
            PerMessageDeflate::default()
                .threshold(7)
                .server_max_window_bits(10)
                .client_max_window_bits(11),
        )
        .cookie(
            Cookie::default()
                .name("n")
                .without_http_only()
                .same_site(SameSite::Strict)
                .max_age(Duration::from_secs(7)),
        )
        .cors(
            Cors::default()
                .origins(["a"])
                .allowed_headers([] as [&str; 0])
                .max_age(Duration::from_secs(8))
                .preflight_continue()
                .options_success_status(200),
        )
        .without_client_files()
        .keep_unanswered_upgrades()
        .destroy_upgrade_timeout(Duration::from_secs(9));
    assert_eq!(config, expected);
}

#[test]
fn the_defaults_are_the_official_ones() {
    let server = serve(Config::default());
    let open = get(&server, POLLING, "");
    let (start, rest) = open.body.split_at(r#"0{"sid":""#.len() + 20);
    assert!(start.starts_with(r#"0{"sid":""#));
    assert_eq!(
        rest,
        r#"","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
    );
    for absent in ["set-cookie", "access-control-allow-origin", "vary"] {
        assert_eq!(open.header(absent), None, "{absent}");
    }
    let config = Config::default();
    assert_eq!(config.session.upgrade_timeout, Duration::from_secs(10));
    assert_eq!(config.sockets.connect_timeout, Duration::from_secs(45));
    assert_eq!(config.http.destroy_upgrade_timeout, Duration::from_secs(1));
    assert!(
        config.http.serve_client && config.http.destroy_upgrade && config.http.add_trailing_slash
    );
}

#[test]
fn upgrades_are_offered_only_if_they_are_possible() {
    for config in [
        Config::default().without_upgrades(),
        Config::default().transports([Transport::Polling]),
    ] {
        let server = serve(config);
        let session = Polling::open(server.address(), "/socket.io/");
        let open = get(&server, POLLING, "").body;
        assert!(open.contains(r#""upgrades":[]"#), "{open}");
        assert_eq!(upgrade(&server, &session.upgrade).status, 400);
        assert_eq!(session.post("40").status, 200);
    }
    let server = serve(Config::default().transports([Transport::WebSocket]));
    let refused = get(&server, POLLING, "");
    assert_eq!(
        refused.parts(),
        (400, r#"{"code":0,"message":"Transport unknown"}"#)
    );
    assert_eq!(upgrade(&server, WEBSOCKET).status, 101);
}

#[test]
fn first_polling_answer_sets_the_cookie_if_configured() {
    let server = serve(Config::default().cookie(Cookie::default()));
    let open = get(&server, POLLING, "");
    let sid = sid_of(&open.body);
    let expected = format!("io={sid}; Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(open.header("set-cookie"), Some(&*expected));
    let target = format!("{POLLING}&sid={sid}");
    let posted = RawClient::connect(server.address()).request("POST", &target, "40");
    assert_eq!(posted.header("set-cookie"), None);
    assert_eq!(get(&server, &target, "").header("set-cookie"), None);
    assert_eq!(upgrade(&server, WEBSOCKET).header("set-cookie"), None);
}

#[test]
fn a_cookie_has_the_attributes_it_was_given() {
    let server = serve(
        Config::default().cookie(
            Cookie::default()
                .name("node")
                .path(String::new())
                .without_http_only()
                .same_site(SameSite::None)
                .max_age(Duration::from_secs(60))
                .domain("example.com")
                .secure()
                .partitioned(),
        ),
    );
    let open = get(&server, POLLING, "");
    let cookie = open.header("set-cookie").unwrap();
    let (_, attributes) = cookie.split_once("; ").unwrap();
    assert!(cookie.starts_with("node="));
    assert_eq!(
        attributes,
        "Max-Age=60; Domain=example.com; Secure; Partitioned; SameSite=None"
    );
}

#[test]
fn a_cookie_that_cannot_be_written_is_an_error_when_building() {
    let io = Io::builder().config(Config::default().cookie(Cookie::default().path("/\r\nX: y")));
    assert!(io.build().is_err());
}

/// Polls the answer to `event` with this many bytes, and returns its encoding and body.
fn poll(server: &Local, event: &str, bytes: usize, accepted: &str) -> (Option<String>, Vec<u8>) {
    let session = Polling::open(server.address(), "/socket.io/");
    assert_eq!(session.post("40").status, 200);
    assert_eq!(session.poll().status, 200);
    let posted = session.post(format!("42[\"{event}\",{bytes}]"));
    assert_eq!(posted.status, 200);
    let mut client = RawClient::connect(server.address());
    client.send(format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {accepted}\r\n\r\n",
        session.target
    ));
    let head = String::from_utf8(client.take_until(b"\r\n\r\n")).unwrap();
    let value = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut lines = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        lines.next().map(|(_, value)| value.to_owned())
    };
    let length = value("content-length").unwrap().parse().unwrap();
    (value("content-encoding"), client.take(length))
}

#[test]
fn polling_answers_are_compressed_from_the_threshold_on() {
    let server = serve(Config::default());
    let whole = |bytes: usize| format!("42[\"big\",\"{}\"]", "x".repeat(bytes));
    let at = 1024 - whole(0).len();
    let (encoding, body) = poll(&server, "big", at - 1, "gzip, deflate");
    assert_eq!((encoding, body.len()), (None, 1023));
    for (accepted, expected) in [
        ("gzip, deflate", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("gzip;q=0.7, deflate;q=0.8, br", "deflate"),
        ("*", "gzip"),
    ] {
        // The second answer is large enough to be compressed on another thread.
        for bytes in [at, 500_000] {
            let (encoding, body) = poll(&server, "big", bytes, accepted);
            assert_eq!(encoding.as_deref(), Some(expected), "{accepted}");
            assert!(body.len() < bytes / 50 + 100, "{accepted}: {}", body.len());
            let body = &body[..];
            let mut text = String::new();
            match expected {
                "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
                _ => flate2::read::ZlibDecoder::new(body).read_to_string(&mut text),
            }
            .unwrap();
            assert!(text == whole(bytes), "{accepted}");
        }
    }
    let (encoding, body) = poll(&server, "big", at - 1, "deflate");
    assert_eq!((encoding, body.len()), (None, 1023));
    for accepted in ["identity", "gzip;q=0", "br, zstd", "compress"] {
        assert_eq!(poll(&server, "big", 2000, accepted).0, None, "{accepted}");
    }
}

#[test]
fn polling_answers_are_uncompressed_if_either_side_declines() {
    let server = serve(Config::default());
    for accepted in ["gzip", "deflate"] {
        let (encoding, body) = poll(&server, "plain", 2000, accepted);
        assert_eq!((encoding, body.len()), (None, 2012), "{accepted}");
    }
    let off = serve(Config::default().http_compression(None));
    assert_eq!(poll(&off, "big", 2000, "gzip").0, None);
    let threshold =
        serve(Config::default().http_compression(HttpCompression::default().threshold(0)));
    assert_eq!(
        poll(&threshold, "big", 1, "gzip").0.as_deref(),
        Some("gzip")
    );
}

#[test]
fn cors_headers_follow_the_options() {
    let server = Local::serve(
        builder(
            Config::default().cors(
                Cors::default()
                    .origins(["https://*.example.com"])
                    .allow_credentials()
                    .exposed_headers(["x-b"])
                    .max_age(Duration::from_secs(600)),
            ),
        )
        .cors_origin(|origin| origin == "https://extra.example"),
    );
    for origin in ["https://a.example.com", "https://extra.example"] {
        let answer = get(&server, POLLING, &format!("Origin: {origin}\r\n"));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            Some("true")
        );
        assert_eq!(answer.header("access-control-expose-headers"), Some("x-b"));
        assert_eq!(answer.header("vary"), Some("Origin"));
        let preflight = ask(
            &server,
            "OPTIONS",
            POLLING,
            &format!("Origin: {origin}\r\n"),
        );
        assert_eq!(preflight.status, 204);
        assert_eq!(preflight.header("access-control-max-age"), Some("600"));
    }
    let other = get(&server, POLLING, "Origin: https://other.example\r\n");
    assert_eq!(other.status, 200);
    assert_eq!(other.header("access-control-allow-origin"), None);
}

#[test]
fn unsupported_method_on_a_session_is_answered_500() {
    let server = serve(Config::default());
    let session = Polling::open(server.address(), "/socket.io/");
    for method in ["PUT", "DELETE", "PATCH"] {
        assert_eq!(ask(&server, method, &session.target, "").parts(), (500, ""));
    }
    assert_eq!(session.post("40").status, 200);
}

#[test]
fn internet_explorer_gets_x_xss_protection_disabled() {
    let server = serve(Config::default());
    let agent = |agent: &str| {
        let answer = get(&server, POLLING, &format!("User-Agent: {agent}\r\n"));
        answer.header("x-xss-protection").map(str::to_owned)
    };
    let explorer = agent("Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0)");
    assert_eq!(explorer.as_deref(), Some("0"));
    assert!(agent("Mozilla/5.0 (compatible;MSIE 8.0)").is_some());
    assert_eq!(agent("Mozilla/5.0 (X11; Linux) Firefox/130.0"), None);
}

#[test]
fn clients_are_counted_from_their_handshake_to_their_end() {
    let server = serve(Config::default());
    assert_eq!(server.io.clients_count(), 0);
    let session = Polling::open(server.address(), "/socket.io/");
    let mut client = server.open();
    assert_eq!(server.io.clients_count(), 2);
    client.send_text("1");
    session.leave();
    until(|| server.io.clients_count() == 0);
}

#[test]
fn upgrade_without_a_router_answer_is_refused_after_timeout() {
    // One route never answers; the other answers after the timeout that refuses the first.
    let late = async || {
        // Longer than the timeout.
        tokio::time::sleep(Duration::from_millis(200)).await;
        "late"
    };
    let router = axum::Router::new()
        .route("/never", axum::routing::get(std::future::pending::<&str>))
        .route("/late", axum::routing::get(late));
    let upgrade = |config: Config, target: &str| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let io = builder(config.destroy_upgrade_timeout(Duration::from_millis(50)));
        let server = Server::new(io.build().unwrap()).router(router.clone());
        let server = runtime.block_on(server.bind("127.0.0.1:0")).unwrap();
        let address = server.local_addrs()[0];
        runtime.spawn(server.run());
        RawClient::connect(address).upgrade(target)
    };
    let refused = upgrade(Config::default(), "/never");
    assert_eq!(refused.parts(), (400, ""));
    assert_eq!(refused.header("connection"), Some("close"));
    let keeping = Config::default().keep_unanswered_upgrades();
    assert_eq!(upgrade(keeping, "/late").parts(), (200, "late"));
}
