//! Queues of the client: bounded, in order, with timeouts.

use std::time::Duration;

use roomcast::client::{Client, ClientError, Connection, DisconnectReason, Options};
use tokio::net::TcpListener;

use crate::{
    fake::Fake,
    suite::{next, value, within},
};

#[tokio::test]
async fn offline_events_are_queued_up_to_a_limit() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).max_buffered(100_000);
    let socket = client.socket().unwrap();
    let text = "x".repeat(1000);
    let mut sent = 0;
    let refused = loop {
        match socket.emit("text", &text) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100, "there is no limit");
    };
    assert!(matches!(refused, ClientError::Full), "{refused:?}");
    assert!(sent > 50, "{sent}");
    socket.open();
    let mut session = fake.connected().await;
    for _ in 0..sent {
        session.next().await;
    }
    // Sending the queue makes room.
    socket.emit("text", &text).unwrap();
    session.next().await;
}

#[tokio::test]
async fn queued_events_arrive_in_send_order() {
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url()).socket().unwrap();
    for n in 0..100 {
        socket.emit("n", n).unwrap();
    }
    socket.open();
    let mut session = fake.connected().await;
    for n in 0..100 {
        assert_eq!(session.next().await, format!("42[\"n\",{n}]"));
    }
}

#[tokio::test]
async fn unread_stream_stops_reading_but_not_sending() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).max_message(10_000);
    let socket = client.socket().unwrap();
    let mut slow = socket.stream("slow");
    let mut quick = socket.stream("quick");
    socket.open();
    let mut session = fake.connected().await;
    within(socket.connect()).await.unwrap();
    let large = "x".repeat(9000);
    for n in 0..4 {
        session.send(&format!("42[\"slow\",{n},\"{large}\"]")).await;
    }
    session.send("42[\"quick\"]").await;
    // The client still sends while it reads nothing.
    socket.emit("sent", ()).unwrap();
    assert_eq!(session.next().await, "42[\"sent\"]");
    let early = tokio::time::timeout(Duration::ZERO, quick.next()).await;
    assert!(early.is_err(), "{early:?}");
    for n in 0..4 {
        assert_eq!(value::<u32>(&mut slow).await, n);
    }
    next(&mut quick).await;
}

#[tokio::test]
async fn events_waiting_for_a_full_stream_keep_their_order() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).max_message(10_000);
    let socket = client.socket().unwrap();
    let mut numbers = socket.stream("n");
    socket.open();
    let mut session = fake.accept().await;
    assert_eq!(session.next().await, "40");
    // All of it is dispatched together when the answer has arrived.
    let large = "x".repeat(2000);
    for n in 0..4 {
        session.send(&format!("42[\"n\",{n},\"{large}\"]")).await;
    }
    session.send("40{\"sid\":\"a\"}").await;
    let huge = "x".repeat(9900);
    session.send(&format!("42[\"n\",4,\"{huge}\"]")).await;
    session.send(&format!("42[\"n\",5,\"{huge}\"]")).await;
    session.send("42[\"n\",6]").await;
    for n in 0..7 {
        assert_eq!(value::<u32>(&mut numbers).await, n);
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_stops_nothing() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).max_message(10_000);
    let socket = client.socket().unwrap();
    let slow = socket.stream("slow");
    let mut quick = socket.stream("quick");
    socket.open();
    let mut session = fake.connected().await;
    let large = "x".repeat(9000);
    for n in 0..4 {
        session.send(&format!("42[\"slow\",{n},\"{large}\"]")).await;
    }
    session.send("42[\"quick\"]").await;
    drop(slow);
    next(&mut quick).await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_the_connection() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).max_message(1000);
    let socket = client.without_reconnection().socket().unwrap();
    let mut ends = socket.stream("disconnect");
    socket.open();
    let mut session = fake.connected().await;
    session.send(&format!("42[\"{}\"]", "x".repeat(1000))).await;
    assert_eq!(value::<String>(&mut ends).await, "transport error");
}

#[tokio::test]
async fn events_before_the_answer_to_connect_are_bounded() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).max_message(10_000);
    let socket = client.without_reconnection().socket().unwrap();
    let connecting = tokio::spawn({
        let socket = socket.clone();
        async move { socket.connect().await }
    });
    let mut session = fake.accept().await;
    assert_eq!(session.next().await, "40");
    for _ in 0..2 {
        session.send(&format!("42[\"{}\"]", "x".repeat(9000))).await;
    }
    session.end().await;
    within(connecting).await.unwrap().unwrap_err();
}

#[tokio::test]
async fn event_names_count_against_the_limit_before_connect() {
    let fake = Fake::start().await;
    let mut options = Options::new(fake.url());
    options.max_message = 10_000;
    let opening = tokio::spawn(async move { Connection::open(&options).await });
    let mut session = fake.accept().await;
    assert_eq!(session.next().await, "40");
    for _ in 0..2 {
        session.send(&format!("42[\"{}\"]", "x".repeat(9000))).await;
    }
    let error = within(opening).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Packet(_)), "{error:?}");
}

#[tokio::test]
async fn client_leaves_a_server_that_does_not_answer_connect() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).reconnection_delay(Duration::from_millis(1));
    let socket = client
        .connect_timeout(Duration::from_secs(10))
        .socket()
        .unwrap();
    let connecting = tokio::spawn({
        let socket = socket.clone();
        async move { socket.connect().await }
    });
    let mut session = fake.accept().await;
    assert_eq!(session.next().await, "40");
    let error = within(connecting).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error:?}");
    session.end().await;
    // The next session can be accepted.
    let _session = fake.connected().await;
}

#[tokio::test]
async fn client_leaves_a_server_that_sends_no_ping() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).without_reconnection();
    let socket = client.socket().unwrap();
    let mut ends = socket.stream("disconnect");
    socket.open();
    let mut session = fake.accept_with(500, 10_000).await;
    assert_eq!(session.next().await, "40");
    session.send("40{\"sid\":\"a\"}").await;
    let reason: DisconnectReason = value(&mut ends).await;
    assert_eq!(reason, DisconnectReason::PingTimeout);
}

#[tokio::test]
async fn silent_server_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(format!("http://{}", silent.local_addr().unwrap()));
    let client = client.connect_timeout(Duration::from_millis(50));
    let error = within(client.connect()).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error:?}");
}

#[tokio::test]
async fn invalid_options_are_refused_immediately() {
    let refused = |client: roomcast::client::ClientBuilder| client.build().unwrap_err().to_string();
    let client = || Client::builder("http://localhost");
    assert!(refused(client().randomization_factor(f64::NAN)).contains("randomization_factor"));
    assert!(refused(client().auth(serde_json::json!(1))).contains("object"));
    assert!(refused(client().header("X", "a\nb")).contains("header"));
    assert!(refused(Client::builder("ftp://x")).contains("only http"));
    let client = client().build().unwrap();
    assert!(client.socket("/a,b").is_err());
}

#[test]
fn a_client_without_a_runtime_is_refused() {
    let error = Client::builder("http://localhost").build().unwrap_err();
    assert!(error.to_string().contains("runtime"), "{error}");
}

#[test]
fn client_is_disconnected_when_its_runtime_has_ended() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (socket, _session) = runtime.block_on(async {
        let fake = Fake::start().await;
        let socket = Client::builder(fake.url()).socket().unwrap();
        socket.open();
        let session = fake.connected().await;
        within(socket.connect()).await.unwrap();
        (socket, session)
    });
    assert!(socket.is_connected());
    drop(runtime);
    assert!(!socket.is_connected() && !socket.is_active());
    let error = socket.emit("x", ()).unwrap_err();
    assert!(matches!(error, ClientError::Disconnected(_)), "{error:?}");
}
