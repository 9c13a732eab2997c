//! A forwarded request proves its origin and specifies its client.

use http::Method;

use super::{Cluster, HEADER, UNKNOWN, UPTIME, count, mute, tag, target};
use crate::{
    config::AddressLimits,
    engine::tests::*,
    limit::{Guard, Proxies},
};

#[tokio::test]
async fn requests_with_invalid_proofs_are_refused() {
    let cluster = Cluster::default();
    let [a, _b] = cluster.pair();
    let sid = a.open().await;
    let target = target(&sid);
    let client = Peer {
        address: "192.0.2.1:7".parse().unwrap(),
        secure: true,
    };
    let proof_at = |key: u8, target: &str, at: u64| {
        let signed = crate::engine::forwarding::SignedFields {
            method: &Method::POST,
            target,
            client,
        };
        let at = Duration::from_secs(at);
        let proof = crate::engine::forwarding::sign(&[key; 32], signed, at).unwrap();
        format!("{HEADER}: {}\r\n", proof.to_str().unwrap())
    };
    let proof = |key: u8, target: &str| proof_at(key, target, 1000);
    let post = async |headers: &str| {
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: 2\r\n\r\n4x"
        );
        a.exchange(&request).await[9..12].to_owned()
    };
    let good = proof(1, &target);
    for headers in [
        // Wrong key, wrong request, duplicated proof.
        proof(2, &target),
        proof(1, "/socket.io/"),
        format!("{good}{good}"),
        // Too old, too far in the future, without a time, with another scheme.
        proof_at(1, &target, 939),
        proof_at(1, &target, 1061),
        good.replace(" 1000", ""),
        good.replace("https", "http"),
        format!("{HEADER}: https 192.0.2.1:7 AAAA\r\n"),
        format!("{HEADER}:\r\n"),
    ] {
        assert_eq!(post(&headers).await, "403", "{headers}");
    }
    assert_eq!(count(&a, Counter::RejectedForged), 9);
    assert_eq!(post(&good).await, "200");
    assert_eq!(post(&proof_at(1, &target, 940)).await, "200");
    assert_eq!(a.poll(&sid).await, (200, "4x\u{1e}4x".into()));
}

#[tokio::test]
async fn request_is_forwarded_only_once() {
    let cluster = Cluster::default();
    let [a, b] = cluster.pair();
    // A session of a third server, forwarded to `a` by a sender that knows the key of `a`.
    let (listener, address) = mute().await;
    cluster.register(9, address);
    let sid = format!("{}{}", "A".repeat(20), tag(9).as_str());
    let target = target(&sid);
    let signed = crate::engine::forwarding::SignedFields {
        method: &Method::GET,
        target: &target,
        client: Peer {
            address: "192.0.2.1:7".parse().unwrap(),
            secure: false,
        },
    };
    let proof = crate::engine::forwarding::sign(&[1; 32], signed, UPTIME).unwrap();
    let proof = proof.to_str().unwrap();
    let get = format!(
        "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{HEADER}: {proof}\r\n\r\n"
    );
    assert!(a.exchange(&get).await.ends_with(UNKNOWN));
    assert_eq!(count(&a, Counter::RejectedSessionMisdirected), 1);
    assert_eq!(
        (
            count(&a, Counter::Forwarded),
            count(&a, Counter::ForwardedFailed)
        ),
        (0, 0)
    );
    drop(listener);
    // A server with a wrong address sends nothing there, because the server at that address is a
    // different one.
    cluster.register(9, a.address);
    assert_eq!(b.poll(&sid).await.0, 400);
    assert_eq!(count(&b, Counter::NodesUnproved), 1);
    assert_eq!(count(&a, Counter::RejectedForged), 0);
}

#[tokio::test]
async fn owner_uses_client_address_from_proof() {
    let cluster = Cluster::default();
    let limits = AddressLimits::default();
    let guard = |limits: &AddressLimits, engine: &mut Engine| {
        let proxies = Proxies::new(["127.0.0.1/32".parse().unwrap()]);
        let metrics = Arc::clone(&engine.metrics);
        engine.guard = Some(Arc::new(Guard::new(limits, proxies, metrics)));
    };
    let blocking = AddressLimits::default().blocked(vec!["203.0.113.7/32".parse().unwrap()]);
    let a = cluster.serve_with(1, Config::default(), 9, |engine| guard(&blocking, engine));
    let b = cluster.serve_with(2, Config::default(), 9, |engine| guard(&limits, engine));
    let sid = a.open().await;
    let post = async |of: &str| {
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: {of}\r\nContent-Length: 2\r\n\r\n4x",
            target(&sid)
        );
        b.exchange(&request).await[9..12].to_owned()
    };
    assert_eq!(post("203.0.113.7").await, "403", "blocked at the owner");
    assert_eq!(post("203.0.113.8").await, "200");
    assert_eq!(count(&a, Counter::RefusedBlocked), 1);
    assert_eq!(count(&b, Counter::RefusedBlocked), 0);
}

#[tokio::test]
async fn sole_server_has_short_ids_and_ignores_proofs() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    assert_eq!(sid.len(), 20);
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{HEADER}: 1\r\nContent-Length: 2\r\n\r\n4x",
        target(&sid)
    );
    assert!(echo.exchange(&request).await.starts_with("HTTP/1.1 200 "));
    let tagged = format!("{sid}{}", tag(1).as_str());
    assert_eq!(echo.poll(&tagged).await, (400, UNKNOWN.into()));
    assert_eq!(count(&echo, Counter::RejectedSessionUnowned), 1);
}
