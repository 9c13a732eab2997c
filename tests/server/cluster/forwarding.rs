//! Polling requests that reach a server other than that of their session.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU8, Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use roomcast::{
    Ack, Config, Event, Io,
    adapter::NodeOptions,
    metrics::{Counter, Gauge},
};

use super::hub::Hub;
use crate::{
    deflate,
    local::{Local, text, until},
    support::{Polling, RawClient, websocket::masked},
};

/// Returns an address that no other test uses, derived from the process id and a counter.
fn address() -> String {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [high, low, ..] = (std::process::id() % 60_000 + 256).to_le_bytes();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("127.{}.{}.{count}:7411", high.max(1), low.max(1))
}

/// Starts a server that announces its address to the other servers of `hub`.
fn serve(hub: &Hub, change: impl FnOnce(NodeOptions) -> NodeOptions) -> Local {
    serve_with(hub, Config::default(), change)
}

fn serve_with(hub: &Hub, config: Config, change: impl FnOnce(NodeOptions) -> NodeOptions) -> Local {
    let address = address();
    let node = NodeOptions::default().address(format!("http://{address}"));
    let io = Io::builder()
        .config(config)
        .adapter(hub.adapter())
        .node(change(node))
        .namespace("/", |namespace| {
            namespace.on("echo", async |_: Event, text: String| Ack(text))
        });
    Local::serve_at(&address, io)
}

fn pair(hub: &Hub) -> [Local; 2] {
    let servers = [serve(hub, |node| node), serve(hub, |node| node)];
    until(|| servers.iter().all(|server| server.io.nodes().len() == 2));
    servers
}

#[test]
fn polling_client_may_reach_any_server_of_a_cluster() {
    let hub = Hub::new();
    let [here, there] = pair(&hub);
    let session = Polling::open(here.address(), "/socket.io/");
    assert_eq!(session.sid.len(), 28);
    let elsewhere = || RawClient::connect(there.address());
    let connect = elsewhere().request("POST", &session.target, "40");
    assert_eq!(connect.parts(), (200, "ok"));
    assert!(session.poll().body.starts_with("40{"));
    let echo = elsewhere().request("POST", &session.target, "420[\"echo\",\"hello\"]");
    assert_eq!(echo.parts(), (200, "ok"));
    let answer = elsewhere().get(&session.target);
    assert_eq!(answer.parts(), (200, "430[\"hello\"]"));
    assert_eq!(there.io.metrics().counter(Counter::Forwarded), 3);
    assert_eq!(here.io.metrics().counter(Counter::ForwardedReceived), 3);

    let mut socket = elsewhere();
    assert_eq!(socket.upgrade(&session.upgrade).status, 101);
    socket.send_text("2probe");
    assert_eq!(text(&mut socket), "3probe");
    socket.send_text("5");
    socket.send_text("421[\"echo\",\"on\"]");
    assert_eq!(text(&mut socket), "431[\"on\"]");
    assert_eq!(there.io.metrics().gauge(Gauge::Tunnels), 1);
}

#[test]
fn compression_is_agreed_and_works_through_another_server() {
    let hub = Hub::new();
    let config = || Config::default().per_message_deflate(deflate::options());
    let [here, there] = [(); 2].map(|()| serve_with(&hub, config(), |node| node));
    until(|| here.io.nodes().len() == 2 && there.io.nodes().len() == 2);
    let session = Polling::open(here.address(), "/socket.io/");
    let mut client = RawClient::connect(there.address());
    let response = deflate::offer(&mut client, &session.upgrade, &[deflate::OFFER]);
    assert_eq!(response.status, 101, "{response:?}");
    let agreed = response.header("sec-websocket-extensions");
    assert_eq!(agreed, Some(deflate::ANSWER));
    client.send_text("2probe");
    assert_eq!(deflate::text(&mut client), "3probe");
    client.send_text("5");
    client.send_text("40");
    assert!(deflate::text(&mut client).starts_with("40{"));
    let event = format!("420[\"echo\",\"{}\"]", "a".repeat(60));
    client.send(masked(0xc1, deflate::compressed(&event)));
    let (first, answer) = deflate::raw(&mut client);
    assert_eq!(first, 0xc1);
    let expected = format!("430[\"{}\"]", "a".repeat(60));
    assert_eq!(deflate::inflated(answer), expected);
    assert_eq!(there.io.metrics().gauge(Gauge::Tunnels), 1);
}

/// Listens, records what the first connection sends, and sends this answer.
fn impostor(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let recording = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        let mut recorded = String::new();
        stream.read_to_string(&mut recorded).unwrap();
        recorded
    });
    (address, recording)
}

/// Sends a poll with secrets of a client and returns the status.
fn poll_with_secrets(at: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    let request = format!(
        "GET {target}&token=canary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: Bearer canary\r\nCookie: session=canary\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer[9..12].to_owned()
}

#[test]
fn impostor_at_a_server_address_gets_no_credentials() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 204 No Content\r\nx-roomcast-identity: 1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n\r\n",
    ] {
        let hub = Hub::new();
        let (address, recording) = impostor(answer);
        let moved = serve(&hub, |node| node.address(format!("http://{address}")));
        let other = serve(&hub, |node| node);
        until(|| other.io.nodes().len() == 2 && moved.io.nodes().len() == 2);
        let session = Polling::open(moved.address(), "/socket.io/");
        assert_eq!(poll_with_secrets(other.address(), &session.target), "400");
        let recorded = recording.join().unwrap();
        assert!(!recorded.contains("canary"), "{recorded}");
        assert!(recorded.contains("x-roomcast-challenge: 1 "), "{recorded}");
        assert_eq!(other.io.metrics().counter(Counter::NodesUnproved), 1);
    }
}

#[test]
fn an_address_in_a_heartbeat_that_is_not_sealed_is_not_used() {
    let hub = Hub::plain();
    let (address, recording) = impostor("");
    let moved = serve(&hub, |node| node.address(format!("http://{address}")));
    let other = serve(&hub, |node| node);
    until(|| other.io.nodes().len() == 2 && moved.io.nodes().len() == 2);
    let known = other.io.nodes();
    let known = known.iter().find(|node| !node.is_this).unwrap();
    assert_eq!(known.address, None);
    let session = Polling::open(moved.address(), "/socket.io/");
    assert_eq!(poll_with_secrets(other.address(), &session.target), "400");
    drop(TcpStream::connect(address).unwrap());
    assert_eq!(recording.join().unwrap(), "", "nothing else has connected");
    assert_eq!(
        other.io.metrics().counter(Counter::RejectedSessionUnowned),
        1
    );
}

#[test]
fn session_of_a_server_that_left_is_unknown() {
    let hub = Hub::new();
    let [here, there] = pair(&hub);
    let session = Polling::open(here.address(), "/socket.io/");
    here.runtime
        .block_on(here.io.close(Duration::from_secs(10)));
    until(|| there.io.nodes().len() == 1);
    let answer = RawClient::connect(there.address()).get(&session.target);
    let unknown = "{\"code\":1,\"message\":\"Session ID unknown\"}";
    assert_eq!(answer.parts(), (400, unknown));
}

#[test]
fn polling_sessions_survive_an_outage_longer_than_the_lease() {
    let every = Duration::from_millis(50);
    let lease = every * 20;
    let hub = Hub::new();
    let hurried = |node: NodeOptions| node.heartbeat(every).lease(lease);
    let servers = [serve(&hub, hurried), serve(&hub, hurried)];
    let [here, there] = &servers;
    until(|| servers.iter().all(|server| server.io.nodes().len() == 2));
    let session = Polling::open(here.address(), "/socket.io/");
    let elsewhere = || RawClient::connect(there.address());
    assert_eq!(
        elsewhere().request("POST", &session.target, "40").status,
        200
    );
    assert!(elsewhere().get(&session.target).body.starts_with("40{"));
    let echo = |n: u32| {
        let sent = elsewhere().request("POST", &session.target, format!("42{n}[\"echo\",\"x\"]"));
        assert_eq!(sent.parts(), (200, "ok"));
        let answer = elsewhere().get(&session.target);
        assert_eq!(answer.parts(), (200, &*format!("43{n}[\"x\"]")));
    };
    let names = servers
        .each_ref()
        .map(|server| server.io.node().unwrap().clone());
    for name in &names {
        hub.isolate(name);
    }
    let silent = || {
        let nodes = there.io.nodes();
        let other = nodes.iter().find(|node| !node.is_this);
        other.map(|node| node.heartbeat_age)
    };
    // A heartbeat after that time would have reported that the other server has left.
    until(|| silent().is_none_or(|age| age > lease + every * 4));
    echo(1);
    for name in &names {
        hub.reconnect(name);
    }
    until(|| silent().is_some_and(|age| age < lease));
    echo(2);
    // A server that is silent while all others receive heartbeats expires after its lease.
    hub.isolate(&names[0]);
    until(|| silent().is_none());
    let unowned = elsewhere().get(&session.target);
    assert_eq!(unowned.status, 400);
}

#[test]
fn session_ids_have_no_node_part_without_forwarding() {
    let hub = Hub::new();
    let none = serve(&hub, |node| node.max_forwarded(0));
    let encrypted = serve(&hub, |node| node.address("https://h:1"));
    for server in [none, encrypted] {
        let session = Polling::open(server.address(), "/socket.io/");
        assert_eq!(session.sid.len(), 20);
    }
}
