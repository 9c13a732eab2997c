//! Servers prove their identity before they are sent client data.

use tokio::net::TcpListener;

use super::{Cluster, IDENTITY, UNKNOWN, challenge, count, mute, prove, tag, target};
use crate::engine::tests::*;

/// Sends a client request with secrets in each of its parts.
async fn secret_request(b: &Echo, method: &str, sid: &str, more: &str) -> String {
    let request = format!(
        "{method} {}&token=canary HTTP/1.1\r\nHost: canary.example\r\nConnection: close\r\n\
         Authorization: Bearer canary\r\nCookie: canary=1\r\nContent-Length: 7\r\n{more}\r\n4canary",
        target(sid)
    );
    b.exchange(&request).await
}

#[tokio::test]
async fn unverified_address_receives_no_client_data() {
    let cluster = Cluster::default();
    let [a, b] = cluster.pair();
    let sid = a.open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // It has the address of the previous server, and knows the key of another server.
    let address = listener.local_addr().unwrap();
    cluster.register(1, address);
    let imposter = tokio::spawn(async move {
        let forwarder = Cluster::default().forwarder(9, address, 1, &Arc::default());
        let (mut stream, _) = listener.accept().await.unwrap();
        let own = challenge(&mut stream).await;
        let [version, _, nonce] = own.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let own = format!("{version} {} {nonce}", tag(9).as_str());
        let identity = forwarder.identify(&own.try_into().unwrap()).unwrap();
        let identity = identity.to_str().unwrap();
        let answer = format!("HTTP/1.1 204 No Content\r\n{IDENTITY}: {identity}\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
        listener
    });
    for method in ["GET", "POST"] {
        let answer = secret_request(&b, method, &sid, "").await;
        assert!(answer.ends_with(UNKNOWN), "{answer}");
    }
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let target = target(&sid).replace("polling", "websocket");
    let upgrade = format!("GET {target}&token=canary HTTP/1.1\r\nHost: x\r\n{websocket}\r\n");
    assert!(b.exchange(&upgrade).await.contains("Session ID unknown"));
    // All requests caused only one challenge.
    assert_eq!(count(&b, Counter::NodesUnproved), 1);
    assert_eq!(count(&b, Counter::ForwardedFailed), 3);
    let listener = timeout(DEADLINE, imposter).await.unwrap().unwrap();
    let more = timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(more.is_err(), "it is challenged again");
}

#[tokio::test]
async fn challenge_relayed_to_the_owner_is_not_answered() {
    let cluster = Cluster::default();
    let [a, b] = cluster.pair();
    let sid = a.open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    cluster.register(1, listener.local_addr().unwrap());
    let relaying = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let challenge = challenge(&mut stream).await;
        let request = format!(
            "GET /socket.io/ HTTP/1.1\r\nHost: x\r\nx-roomcast-challenge: {challenge}\r\nConnection: close\r\n\r\n"
        );
        let answer = a.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        let answer = answer.replace("connection: close\r\n", "");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    };
    let (answer, rest) = tokio::join!(b.poll(&sid), relaying);
    assert_eq!(answer, (400, UNKNOWN.into()));
    assert_eq!(rest, b"");
    assert_eq!(count(&b, Counter::NodesUnproved), 1);
}

#[tokio::test(start_paused = true)]
async fn server_is_challenged_again_after_a_delay_for_a_bounded_time() {
    let cluster = Cluster::default();
    let b = cluster.serve(2, Config::default());
    let (listener, address) = mute().await;
    cluster.register(9, address);
    let sid = format!("{}{}", "A".repeat(20), tag(9).as_str());
    let failed = async |expected| {
        assert_eq!(b.poll(&sid).await, (400, UNKNOWN.into()));
        assert_eq!(count(&b, Counter::NodesUnproved), expected);
    };
    let late = tokio::time::Instant::now();
    let ((), _silent) = tokio::join!(failed(1), listener.accept());
    assert!(late.elapsed() >= Duration::from_secs(2));
    failed(1).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    // A response without an end.
    let endless = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        challenge(&mut stream).await;
        let long = format!("HTTP/1.1 204 No Content\r\nx: {}", "x".repeat(4096));
        let _ = stream.write_all(long.as_bytes()).await;
        stream
    };
    let now = tokio::time::Instant::now();
    let ((), _endless) = tokio::join!(failed(2), endless);
    assert!(now.elapsed() < Duration::from_secs(2));
    tokio::time::advance(Duration::from_secs(5)).await;
    let ((status, body), mut stream) = tokio::join!(b.poll(&sid), async {
        let mut stream = prove(&listener, 9).await;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
        stream
    });
    assert_eq!((status, &*body), (200, "ok"));
    // The next request uses the same connection, without another challenge.
    let (answer, ()) = tokio::join!(b.poll(&sid), async {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        assert!(request.starts_with(b"GET /socket.io/?EIO=4"));
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\non";
        stream.write_all(answer).await.unwrap();
    });
    assert_eq!(answer, (200, "on".into()));
}

#[tokio::test]
async fn challenges_for_another_server_and_malformed_ones_are_not_answered() {
    let cluster = Cluster::default();
    let [a, _b] = cluster.pair();
    let nonce = "A".repeat(43);
    let challenge_server = async |method: &str, challenge: &str| {
        let request = format!(
            "{method} /socket.io/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{challenge}\r\n"
        );
        let answer = a.exchange(&request).await;
        (answer[9..12].to_owned(), answer.contains(IDENTITY))
    };
    let good = format!("x-roomcast-challenge: 1 {} {nonce}\r\n", tag(1).as_str());
    assert_eq!(challenge_server("GET", &good).await, ("204".into(), true));
    for (method, challenge) in [
        ("POST", good.clone()),
        ("GET", format!("{good}{good}")),
        ("GET", good.replace(tag(1).as_str(), tag(2).as_str())),
        ("GET", good.replace(&nonce, "A")),
    ] {
        assert_eq!(
            challenge_server(method, &challenge).await,
            ("404".into(), false),
            "{challenge}"
        );
    }
}
