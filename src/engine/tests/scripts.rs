//! Requests as bytes: well-formed, malformed, pipelined, and for WebSockets.

pub(super) const CLOSE: &str = "Connection: close\r\n";
pub(super) const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// A masked frame, with one byte per character.
pub(super) const CLOSE_FRAME: &str = "\u{88}\u{82}\0\0\0\0\u{3}\u{e8}";
pub(super) const PING: &str = "\u{89}\u{81}\0\0\0\0x";
pub(super) const TEXT: &str = "\u{81}\u{82}\0\0\0\x004x";

pub(super) fn request(method: &str, target: &str, headers: &str, body: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}")
}

pub(super) fn get(target: &str) -> String {
    request("GET", target, CLOSE, "")
}

/// Returns a POST to a session.
pub(super) fn post(headers: &str, body: &str) -> String {
    request("POST", SESSION, headers, body)
}

pub(super) const OPEN: &str = "/socket.io/?EIO=4&transport=polling";
pub(super) const SESSION: &str = "/socket.io/?EIO=4&transport=polling&sid={sid}";
pub(super) const SOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Returns well-formed requests, one per connection.
pub(super) fn good() -> Vec<String> {
    let close_and = |headers: &str| format!("{CLOSE}{headers}");
    let mut all: Vec<String> = [
        OPEN,
        "/socket.io/",
        "/socket.io/?EIO=3&transport=polling",
        "/socket.io/?EIO=4&transport=polling&t=abc",
        "/socket.io/?EIO=4&transport=carrier%20pigeon",
        "/socket.io/?EIO=4&transport=polling&sid=none",
        "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA",
        "/socket.io/?EIO=4&transport=websocket&sid={sid}",
        SOCKET,
        "/socket.io",
        "//socket.io/",
        "/elsewhere",
        "/socket.io/?EIO=4&transport=polling#fragment",
        "/socket.io/?EIO=4&transport=polling&x=\u{e4}",
        "http://x/socket.io/?EIO=4&transport=polling",
        "*",
        "",
    ]
    .map(get)
    .into();
    for method in ["HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        for target in [OPEN, SESSION] {
            all.push(request(method, target, CLOSE, ""));
        }
    }
    for headers in [
        "Origin: http://a.example\r\n",
        "Origin: http://a.example\r\nOrigin: http://b.example\r\n",
        "Origin: \u{e4}\r\n",
        "User-Agent: x;MSIE 8\r\n",
        "Accept-Encoding: gzip\r\n",
        "Upgrade: h2c\r\n",
        "Content-Length: 0\r\n",
        "X-Empty:\r\nX-Two: 1\r\nX-Two: 2\r\n",
        "Access-Control-Request-Headers: x-a\r\n",
    ] {
        for method in ["GET", "OPTIONS"] {
            all.push(request(method, OPEN, &close_and(headers), ""));
        }
    }
    for (headers, body) in [
        ("Content-Length: 6\r\n", "4hello"),
        ("Content-Length: 0\r\n", ""),
        ("", ""),
        ("Content-Length: 1\r\n", "7"),
        ("Content-Length: 3\r\n", "b4!"),
        ("Content-Length: 0006\r\n", "4hello"),
        (
            "Content-Length: 6\r\nContent-Type: application/octet-stream\r\n",
            "4hello",
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "2\r\n4a\r\n1\r\nb\r\n0\r\n\r\n",
        ),
    ] {
        all.push(post(&close_and(headers), body));
    }
    all
}

/// Returns malformed requests, and requests that must not be parsed as two.
pub(super) fn odd() -> Vec<String> {
    let mut all = Vec::new();
    for head in [
        "GET {open} HTTP/1.0\r\n\r\n",
        "GET {open} HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
        "GET {open} HTTP/2.0\r\n\r\n",
        "GET {open} HTTP/1.2\r\n\r\n",
        "GET {open}\r\n\r\n",
        "GET  {open} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "get {open} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET {open} HTTP/1.1 \r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET {open} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n\r\n",
        "\r\n\r\nGET {open} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET {open} HTTP/1.1\nHost: x\nConnection: close\n\n",
        "GET {open} HTTP/1.1\r\nHost: x\r\nConnection: close\n\r\n",
        "GET {open} HTTP/1.1\rHost: x\rConnection: close\r\r",
        "GET {open} HTTP/1.1\r\nHost: x\r\n Connection: close\r\n\r\n",
        "GET {open} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: a\r\n b\r\n\r\n",
        "GET {open} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX : a\r\n\r\n",
        "GET {open} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: a\0b\r\n\r\n",
        "GET {open} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX\r\n\r\n",
        "GET {open} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n: a\r\n\r\n",
        "GET {open} HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET {open} HTTP/1.1\r\n\r\n",
        "GET {open} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET {open} HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET {open} HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET {open} HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
        "GET http://x{open} HTTP/1.1\r\n\r\n",
        "GET /elsewhere HTTP/1.1\r\n\r\n",
        "GET {open} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab",
        "CONNECT x:80 HTTP/1.1\r\nConnection: close\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{0}",
    ] {
        all.push(head.replace("{open}", OPEN));
    }
    // Request smuggling: a parser that determines the length differently finds another request in
    // the body.
    for headers in [
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 40\r\n",
        "Content-Length: 40\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: xchunked\r\nContent-Length: 2\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length: 2 \r\n",
        "Content-Length: \u{b2}\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Content-Length: 18446744073709551618\r\n",
        "Content-Length:\r\n",
    ] {
        let second = request("GET", "/elsewhere", CLOSE, "");
        all.push(post(&format!("{CLOSE}{headers}"), &format!("4a{second}")));
    }
    let padding = "x".repeat(40_000);
    all.push(get(&format!("{OPEN}&x={}", &padding[..5000])));
    for lines in [97, 98, 99, 100, 200] {
        all.push(request(
            "GET",
            OPEN,
            &format!("{CLOSE}{}", "X: y\r\n".repeat(lines)),
            "",
        ));
    }
    for len in [8000, 20_000, 32_000] {
        let headers = format!("{CLOSE}X: {}\r\n", &padding[..len]);
        all.push(request("GET", OPEN, &headers, ""));
    }
    all
}

/// Returns pipelined requests of one connection.
pub(super) fn sequences() -> Vec<String> {
    let six = "Content-Length: 6\r\n";
    let poll = request("GET", SESSION, "", "");
    let last = get("/elsewhere");
    let unknown = request(
        "GET",
        "/socket.io/?EIO=4&transport=polling&sid=none",
        "",
        "",
    );
    vec![
        [&post(six, "4hello"), &poll, &get(OPEN)[..]].concat(),
        [&post(six, "4hello"), &post(six, "4world"), &poll, &last[..]].concat(),
        [&unknown.repeat(40), &last[..]].concat(),
        [&unknown, &request("HEAD", OPEN, "", ""), &get(OPEN)[..]].concat(),
        [&last.replace(CLOSE, ""), &post(six, "4hello"), &last[..]].concat(),
        [&post(six, "4hello"), "\r\n", &poll, &last[..]].concat(),
        [&post(six, "4hello"), "garbage\r\n\r\n"].concat(),
        [&post(six, "4hello!"), &last[..]].concat(),
        [&get(OPEN), &poll[..]].concat(),
        [
            &request("OPTIONS", OPEN, "", ""),
            &post(six, "4hello"),
            &request("DELETE", SESSION, "", ""),
            &last[..],
        ]
        .concat(),
    ]
}

/// Returns valid and invalid requests for a WebSocket.
pub(super) fn upgrades() -> Vec<String> {
    let mut all = vec![
        request("GET", SOCKET, UPGRADE, CLOSE_FRAME),
        request("GET", SOCKET, UPGRADE, &format!("{TEXT}{CLOSE_FRAME}")),
        request(
            "GET",
            SOCKET,
            &UPGRADE.replace("Upgrade\r\n", "Upgrade, close\r\n"),
            CLOSE_FRAME,
        ),
    ];
    for (from, to) in [
        ("13", "12"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        ("Connection: Upgrade\r\n", ""),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: WebSocket\r\n"),
    ] {
        let headers = format!("{}{CLOSE}", UPGRADE.replace(from, to));
        all.push(request("GET", SOCKET, &headers, CLOSE_FRAME));
        all.push(request("GET", OPEN, &headers, CLOSE_FRAME));
    }
    let unknown = "/socket.io/?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA";
    all.push(request("GET", unknown, UPGRADE, ""));
    all.push(request("POST", SOCKET, UPGRADE, ""));
    all
}
