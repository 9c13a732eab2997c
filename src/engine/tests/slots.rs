//! Tests requests and WebSockets of other servers' sessions when no slot is free.

use super::{
    forwarding::{Cluster, UNKNOWN, count, mute, prove, tag, target, until, upgraded},
    *,
};

#[tokio::test]
async fn silent_server_times_out_and_waiting_request_gets_503() {
    let cluster = Cluster::default();
    let config = Config::default()
        .ping_interval(Duration::from_secs(3))
        .ping_timeout(Duration::from_secs(2))
        .body_timeout(Duration::from_secs(5));
    let b = cluster.serve_with(2, config, 1, |_| {});
    let (listener, address) = mute().await;
    cluster.register(9, address);
    let sid = format!("{}{}", "A".repeat(20), tag(9).as_str());
    let ((late, full), _connection) = tokio::join!(
        async {
            tokio::join!(b.poll(&sid), async {
                until(|| b.engine.metrics.gauge(Gauge::RequestsForwarded) == 1).await;
                b.poll(&sid).await
            })
        },
        prove(&listener, 9)
    );
    assert_eq!(late, (400, UNKNOWN.into()));
    assert_eq!(count(&b, Counter::RejectedSessionUnreached), 1);
    // It waited for the ping timeout, which is shorter than the timeout of a request.
    assert_eq!(full.0, 503);
    assert_eq!(count(&b, Counter::ForwardedFull), 1);
    assert_eq!(b.engine.metrics.gauge(Gauge::RequestsForwarded), 0);
}

#[tokio::test]
async fn polls_sharing_one_slot_all_progress_without_loss() {
    const SESSIONS: usize = 20;
    let cluster = Cluster::default();
    let a = cluster.serve(1, Config::default());
    let b = cluster.serve_with(2, Config::default(), 1, |_| {});
    let mut sids = Vec::new();
    for _ in 0..SESSIONS {
        sids.push(a.open().await);
    }
    // All sessions poll through the other server concurrently, and receive only what each sends in
    // between.
    let session = async |sid: &str| {
        let mut received = Vec::new();
        for n in 0..3 {
            let message = format!("4{n}");
            let (posted, mut polled) = tokio::join!(b.post(sid, &message), b.poll(sid));
            assert_eq!(posted.0, 200);
            loop {
                let (status, body) = polled;
                assert_eq!(status, 200, "{body}");
                if body != "6" {
                    received.push(body);
                    break;
                }
                polled = b.poll(sid).await;
            }
        }
        received
    };
    let sessions = futures_util::future::join_all(sids.iter().map(|sid| session(sid)));
    for received in timeout(DEADLINE, sessions).await.unwrap() {
        assert_eq!(received, ["40", "41", "42"]);
    }
    assert_eq!(count(&b, Counter::ForwardedFull), 0);
    assert_eq!(
        a.engine.metrics.gauge(Gauge::SessionsPolling),
        SESSIONS as i64
    );
}

#[tokio::test]
async fn client_continues_polling_when_tunnels_are_full() {
    let cluster = Cluster::default();
    let a = cluster.serve(1, Config::default());
    let b = cluster.serve_with(2, Config::default(), 1, |_| {});
    let _first = upgraded(&a, &b).await;
    let second = a.open().await;
    until(|| b.engine.metrics.gauge(Gauge::Tunnels) == 1).await;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        target(&second).replace("polling", "websocket")
    );
    assert!(b.exchange(&request).await.starts_with("HTTP/1.1 503"));
    assert_eq!(count(&b, Counter::TunnelsRefused), 1);
    // WebSockets take no slots of requests.
    assert_eq!(b.post(&second, "4on").await.0, 200);
    assert_eq!(b.poll(&second).await, (200, "4on".into()));
}
