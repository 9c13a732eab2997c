//! Requests that reach a server other than that of their session.

mod identity;
mod proofs;

use std::collections::HashMap;

use parking_lot::Mutex;
use roomcast_protocol::Tag;
use tokio::net::TcpListener;

use super::{
    server::{Client, site},
    *,
};
use crate::{
    config::{Cookie, Cors},
    engine::{
        Forwarder,
        forwarding::{Bounds, Directory, LocalServer, Owner},
    },
};

/// The announcements of the servers.
#[derive(Clone, Default)]
pub(super) struct Cluster(Arc<Mutex<HashMap<Tag, Announcement>>>);

#[derive(Clone)]
struct Announcement {
    address: String,
    key: u8,
}

/// The uptime of all servers.
const UPTIME: Duration = Duration::from_secs(1000);

impl Directory for Cluster {
    fn owner(&self, tag: Tag) -> Option<Owner> {
        let known = self.0.lock().get(&tag).cloned()?;
        Owner::new(&known.address, [known.key; 32], UPTIME)
    }

    fn uptime(&self) -> Duration {
        UPTIME
    }
}

impl Cluster {
    /// Returns the forwarder of the server with this number.
    fn forwarder(
        &self,
        number: u8,
        address: SocketAddr,
        limit: usize,
        metrics: &Arc<Metrics>,
    ) -> Arc<Forwarder> {
        let address = format!("http://{address}");
        let own = LocalServer {
            tag: tag(number),
            key: [number; 32],
            address: &address,
            path: "/socket.io",
        };
        let bounds = Bounds {
            requests: limit,
            tunnels: limit,
        };
        let forwarder = Forwarder::new(own, bounds, 4 << 20, self.clone(), metrics);
        Arc::new(forwarder)
    }

    /// Registers the server with this number.
    pub(super) fn register(&self, number: u8, address: SocketAddr) {
        let known = Announcement {
            address: format!("http://{address}"),
            key: number,
        };
        self.0.lock().insert(tag(number), known);
    }

    pub(super) fn serve(&self, number: u8, config: Config) -> Echo {
        self.serve_with(number, config, 100, |_| {})
    }

    pub(super) fn serve_with(
        &self,
        number: u8,
        config: Config,
        limit: usize,
        change: impl FnOnce(&mut Engine),
    ) -> Echo {
        let RawEngine(mut engine) = RawEngine::new(config, |session, message| {
            session.send(&message);
        });
        let listener = bind(([127, 0, 0, 1], 0).into(), &Config::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let new = Arc::get_mut(&mut engine).unwrap();
        new.forwarder = Some(self.forwarder(number, address, limit, &new.metrics));
        change(new);
        self.register(number, address);
        tokio::spawn(serve(site(&engine), None, Arc::new(listener)));
        Echo { address, engine }
    }

    fn pair(&self) -> [Echo; 2] {
        [
            self.serve(1, Config::default()),
            self.serve(2, Config::default()),
        ]
    }
}

pub(super) fn tag(number: u8) -> Tag {
    Tag::from_random([number; 6])
}

pub(super) fn count(echo: &Echo, counter: Counter) -> u64 {
    echo.engine.metrics.counter(counter)
}

/// Polls until a condition holds that has no notification.
pub(super) async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap();
}

/// Returns a server that accepts connections and never responds.
pub(super) async fn mute() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Accepts a connection at such a server, and answers its challenge like the server `number`.
pub(super) async fn prove(listener: &TcpListener, number: u8) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let own = listener.local_addr().unwrap();
    let forwarder = Cluster::default().forwarder(number, own, 1, &Arc::default());
    let challenge = challenge(&mut stream).await;
    let identity = forwarder.identify(&challenge.try_into().unwrap()).unwrap();
    let identity = identity.to_str().unwrap();
    let answer = format!("HTTP/1.1 204 No Content\r\n{IDENTITY}: {identity}\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream
}

/// Reads a request up to its end, and returns the challenge in it.
async fn challenge(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0);
    }
    let request = String::from_utf8(request).unwrap();
    let lines: Vec<_> = request.lines().collect();
    // Nothing else is sent to an unverified server.
    let address = stream.local_addr().unwrap();
    assert_eq!(lines[0], "GET /socket.io/ HTTP/1.1");
    assert_eq!((lines[1], lines.len()), (&*format!("host: {address}"), 4));
    let challenge = lines[2].strip_prefix("x-roomcast-challenge: ").unwrap();
    challenge.to_owned()
}

const IDENTITY: &str = "x-roomcast-identity";

pub(super) const UNKNOWN: &str = r#"{"code":1,"message":"Session ID unknown"}"#;
const HEADER: &str = "x-roomcast-forwarded";

pub(super) fn target(sid: &str) -> String {
    format!("/socket.io/?EIO=4&transport=polling&sid={sid}")
}

#[tokio::test]
async fn forwarded_session_is_served_as_by_its_owner() {
    let [a, b] = Cluster::default().pair();
    let sid = a.open().await;
    assert_eq!(sid.len(), 28);
    assert_eq!(b.post(&sid, "4one\x1e4two").await, (200, "ok".into()));
    assert_eq!(b.poll(&sid).await, (200, "4one\x1e4two".into()));
    assert_eq!(a.post(&sid, "4three").await.0, 200);
    assert_eq!(b.poll(&sid).await, (200, "4three".into()));
    // The polls wait at the session.
    let (answer, posted) = tokio::join!(b.poll(&sid), async {
        until(|| a.engine.metrics.gauge(Gauge::PollsWaiting) == 1).await;
        assert_eq!(b.engine.metrics.gauge(Gauge::RequestsForwarded), 1);
        b.post(&sid, "4four").await
    });
    assert_eq!(
        (answer, posted),
        ((200, "4four".into()), (200, "ok".into()))
    );
    assert_eq!(b.post(&sid, "1").await.0, 200);
    a.all_closed().await;
    assert_eq!(b.poll(&sid).await, (400, UNKNOWN.into()));
    // The server that knows the reason has counted it.
    assert_eq!(count(&a, Counter::RejectedSessionOver), 1);
    assert_eq!(count(&b, Counter::RejectedSessionOver), 0);
    assert_eq!(b.engine.metrics.gauge(Gauge::RequestsForwarded), 0);
    let received = count(&a, Counter::ForwardedReceived);
    assert_eq!(received, count(&b, Counter::Forwarded));
    assert_eq!(count(&a, Counter::Forwarded), 0);
}

#[tokio::test]
async fn large_and_chunked_bodies_pass_both_ways_and_too_large_ones_are_refused() {
    let [a, b] = Cluster::default().pair();
    let sid = a.open().await;
    let text = format!("4{}", "x".repeat(900_000));
    assert_eq!(b.post(&sid, &text).await, (200, "ok".into()));
    assert_eq!(b.poll(&sid).await, (200, text.clone()));
    let chunked = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\n4on\r\n1\r\ne\r\n0\r\n\r\n",
        target(&sid)
    );
    assert!(b.exchange(&chunked).await.ends_with("\r\n\r\nok"));
    assert_eq!(b.post(&sid, "bAQID").await.0, 200);
    assert_eq!(b.poll(&sid).await, (200, "4one\x1ebAQID".into()));
    let body = "x".repeat(1_000_001);
    assert_eq!(b.post(&sid, &body).await.0, 413);
    assert_eq!(b.post(&sid, "4good").await.0, 200, "the session goes on");
}

#[tokio::test]
async fn bodies_of_non_post_requests_are_not_forwarded() {
    let [a, b] = Cluster::default().pair();
    let sid = a.open().await;
    assert_eq!(a.post(&sid, "4one").await.0, 200);
    let session = format!("EIO=4&transport=polling&sid={sid}");
    for (method, status) in [("GET", 200), ("PUT", 500), ("DELETE", 500)] {
        assert_eq!(b.request(method, &session, "GET / HTTP").await.0, status);
    }
    assert_eq!(a.post(&sid, "4two").await.0, 200);
    assert_eq!(b.poll(&sid).await, (200, "4two".into()));
}

#[tokio::test]
async fn truncated_body_is_not_taken_as_complete() {
    let [a, b] = Cluster::default().pair();
    for headers in [
        "Content-Length: 9\r\n\r\n4one",
        "Transfer-Encoding: chunked\r\n\r\n4\r\n4one\r\n",
    ] {
        let sid = a.open().await;
        let mut stream = TcpStream::connect(b.address).await.unwrap();
        let post = format!("POST {} HTTP/1.1\r\nHost: x\r\n{headers}", target(&sid));
        stream.write_all(post.as_bytes()).await.unwrap();
        until(|| a.engine.metrics.gauge(Gauge::PostsWaiting) == 1).await;
        drop(stream);
        a.all_closed().await;
        assert_eq!(a.engine.metrics.counter(Counter::MessagesReceived), 0);
    }
}

#[tokio::test]
async fn response_headers_are_those_of_the_owner_and_set_once() {
    let config = || {
        Config::default()
            .cors(Cors::default().origins(["http://a.example"]))
            .cookie(Cookie::default())
            .http_compression(crate::config::HttpCompression::default())
    };
    let cluster = Cluster::default();
    let (a, b) = (cluster.serve(1, config()), cluster.serve(2, config()));
    let sid = a.open().await;
    let text = format!("4{}", "x".repeat(5000));
    assert_eq!(a.post(&sid, &text).await.0, 200);
    assert_eq!(a.post(&sid, &text).await.0, 200);
    let poll = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: http://a.example\r\n\r\n",
        target(&sid)
    );
    let lines = |answer: &str| {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let is_stable = |line: &&str| !line.starts_with("date:");
        let mut lines: Vec<_> = head
            .split("\r\n")
            .filter(is_stable)
            .map(str::to_owned)
            .collect();
        lines.sort();
        (lines, body.len())
    };
    let through = lines(&b.exchange(&poll).await);
    assert_eq!(a.post(&sid, &text).await.0, 200);
    assert_eq!(a.post(&sid, &text).await.0, 200);
    // Both messages were in the first response.
    let expected = lines(&a.exchange(&poll).await);
    assert_eq!(through, expected);
    assert!(
        through
            .0
            .contains(&"access-control-allow-origin: http://a.example".to_owned())
    );
}

#[tokio::test]
async fn aborted_forwarded_poll_is_aborted_at_the_owner() {
    let [a, b] = Cluster::default().pair();
    let sid = a.open().await;
    let mut stream = TcpStream::connect(b.address).await.unwrap();
    let poll = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", target(&sid));
    stream.write_all(poll.as_bytes()).await.unwrap();
    until(|| a.engine.metrics.gauge(Gauge::PollsWaiting) == 1).await;
    drop(stream);
    until(|| a.engine.metrics.gauge(Gauge::PollsWaiting) == 0).await;
    assert_eq!(b.engine.metrics.gauge(Gauge::RequestsForwarded), 0);
}

/// Opens a session on the first server and upgrades it through the second.
pub(super) async fn upgraded(a: &Echo, b: &Echo) -> Client {
    let sid = a.open().await;
    let mut client = b.websocket(Some(&sid)).await;
    client.send("2probe").await;
    assert_eq!(client.text().await, "3probe");
    client.send("5").await;
    client.send("4hello").await;
    assert_eq!(client.text().await, "4hello");
    client
}

#[tokio::test]
async fn websocket_at_another_server_upgrades_its_session() {
    let [a, b] = Cluster::default().pair();
    let mut client = upgraded(&a, &b).await;
    let large = format!("4{}", "x".repeat(500_000));
    client.send(&large).await;
    assert_eq!(client.text().await, large);
    assert_eq!(b.engine.metrics.gauge(Gauge::Tunnels), 1);
    assert_eq!(a.engine.metrics.gauge(Gauge::SessionsWebSocket), 1);
    drop(client);
    a.all_closed().await;
    until(|| b.engine.metrics.gauge(Gauge::Tunnels) == 0).await;
}

#[tokio::test]
async fn draining_server_closes_websockets_that_it_forwards() {
    let [a, b] = Cluster::default().pair();
    let mut client = upgraded(&a, &b).await;
    b.engine.drain(Duration::from_millis(100)).await;
    assert!(client.next().await.is_none());
    a.all_closed().await;
}

#[tokio::test]
async fn draining_server_still_serves_own_and_foreign_sessions() {
    let [a, b] = Cluster::default().pair();
    let (own, foreign) = (b.open().await, a.open().await);
    let draining = tokio::spawn({
        let engine = Arc::clone(&b.engine);
        async move { engine.drain(Duration::from_secs(3600)).await }
    });
    until(|| b.engine.is_draining()).await;
    assert_eq!(b.post(&foreign, "4x").await.0, 200);
    assert_eq!(b.poll(&foreign).await, (200, "4x".into()));
    assert_eq!(a.post(&own, "4x").await.0, 200);
    draining.abort();
}

#[tokio::test]
async fn forwarded_poll_ends_when_forwarding_server_stops() {
    let [a, b] = Cluster::default().pair();
    let sid = a.open().await;
    let (answer, ()) = tokio::join!(b.poll(&sid), async {
        until(|| a.engine.metrics.gauge(Gauge::PollsWaiting) == 1).await;
        b.engine.shutdown(DEADLINE).await;
    });
    assert_eq!(answer, (400, UNKNOWN.into()));
}

#[tokio::test]
async fn session_of_a_departed_server_is_unknown_immediately() {
    let cluster = Cluster::default();
    let [_a, b] = cluster.pair();
    // A server that is not registered, or has left.
    let strange = format!("{}{}", "A".repeat(20), tag(9).as_str());
    assert_eq!(b.poll(&strange).await, (400, UNKNOWN.into()));
    assert_eq!(count(&b, Counter::ForwardedFailed), 1);
    assert_eq!(count(&b, Counter::RejectedSessionUnowned), 1);
    // A server that has failed and is still registered: its port is closed.
    let (listener, address) = mute().await;
    drop(listener);
    cluster.register(9, address);
    assert_eq!(b.poll(&strange).await, (400, UNKNOWN.into()));
    assert_eq!(count(&b, Counter::ForwardedFailed), 2);
    assert_eq!(count(&b, Counter::RejectedSessionUnowned), 1);
    assert_eq!(count(&b, Counter::RejectedSessionUnreached), 1);
}

#[tokio::test]
async fn forwarded_request_fails_when_owner_is_unregistered() {
    let cluster = Cluster::default();
    let [_a, b] = cluster.pair();
    let (listener, address) = mute().await;
    cluster.register(9, address);
    let sid = format!("{}{}", "A".repeat(20), tag(9).as_str());
    let (answer, _connection) = tokio::join!(b.poll(&sid), async {
        let accepted = listener.accept().await.unwrap();
        cluster.0.lock().remove(&tag(9));
        accepted
    });
    assert_eq!(answer, (400, UNKNOWN.into()));
    assert_eq!(count(&b, Counter::RejectedSessionUnreached), 1);
}
