//! Sessions: opening, closing, recovery and transports.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use roomcast::{
    Config, Connect, Event, Io,
    client::{Auth, Client, ClientError, ConnectError, DisconnectReason, Transports},
    options::Recovery,
    testing::serve,
};
use serde_json::{Value, json};

use crate::{
    fake::Fake,
    suite::{Suite, next, value, within},
};

#[tokio::test]
async fn every_transport_reconnects_and_continues() {
    let suite = Suite::start().await;
    for transports in [
        Transports::WebSocket,
        Transports::Polling,
        Transports::Upgrade,
    ] {
        let client = suite.client("").transports(transports);
        let socket = within(client.connect()).await.unwrap();
        let mut connects = socket.stream("connect");
        let mut ends = socket.stream("disconnect");
        for n in 0..2 {
            suite.proxy.cut();
            let reason: DisconnectReason = value(&mut ends).await;
            assert!(reason.reconnects(), "{transports:?} {reason}");
            next(&mut connects).await;
            let echoed: i32 = within(socket.emit_with_ack("echo", n)).await.unwrap();
            assert_eq!(echoed, n, "{transports:?}");
        }
        within(socket.disconnect()).await;
    }
}

#[tokio::test]
async fn recovered_session_gets_missed_events_once_and_in_order() {
    let io = Io::builder()
        .recovery(Recovery::default())
        .namespace("/", |namespace| namespace);
    let server = serve(io).await;
    let proxy = crate::proxy::Proxy::start(server.address()).await;
    let client = Client::builder(format!("http://{}", proxy.address()));
    let client = client
        .reconnection_delay(Duration::from_millis(200))
        .randomization_factor(0.0);
    let socket = client.auth(json!({"name": "ada"})).socket().unwrap();
    let mut numbers = socket.stream("n");
    let mut connects = socket.stream("connect");
    let mut ends = socket.stream("disconnect");
    within(socket.connect()).await.unwrap();
    next(&mut connects).await;
    let id = socket.id();
    server.io().emit("n", 0);
    assert_eq!(value::<u32>(&mut numbers).await, 0);
    for round in 0..3 {
        proxy.cut();
        next(&mut ends).await;
        for n in 1..=10 {
            server.io().emit("n", round * 10 + n);
        }
        next(&mut connects).await;
        assert!(socket.recovered());
        assert_eq!(socket.id(), id);
        for n in 1..=10 {
            assert_eq!(value::<u32>(&mut numbers).await, round * 10 + n);
        }
    }
}

#[tokio::test]
async fn the_offset_and_the_secret_are_offered_beside_auth() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).reconnection_delay(Duration::from_millis(1));
    let socket = client.auth(json!({"token": "t"})).socket().unwrap();
    let mut hi = socket.stream("hi");
    socket.open();
    let mut session = fake.accept().await;
    assert_eq!(session.next().await, "40{\"token\":\"t\"}");
    session.send("40{\"sid\":\"a\",\"pid\":\"p\"}").await;
    drop(session);
    let mut session = fake.accept().await;
    let offered = session.next().await;
    let offered: Value = serde_json::from_str(offered.strip_prefix("40").unwrap()).unwrap();
    assert_eq!(offered, json!({"pid": "p", "token": "t"}));
    session.send("40{\"sid\":\"a\",\"pid\":\"p\"}").await;
    session.send("42[\"hi\",\"offset-1\"]").await;
    next(&mut hi).await;
    drop(session);
    let mut session = fake.accept().await;
    let offered = session.next().await;
    let offered: Value = serde_json::from_str(offered.strip_prefix("40").unwrap()).unwrap();
    assert_eq!(
        offered,
        json!({"pid": "p", "offset": "offset-1", "token": "t"})
    );
    // Missed events arrive before the answer.
    session.send("42[\"hi\",\"offset-2\"]").await;
    session.send("40{\"sid\":\"a\",\"pid\":\"p\"}").await;
    assert_eq!(value::<String>(&mut hi).await, "offset-2");
    assert!(socket.recovered());
}

#[tokio::test]
async fn dropping_the_last_handle_writes_sent_events_and_closes() {
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url()).socket().unwrap();
    socket.on("x", async || {});
    socket.open();
    let session = fake.connected().await;
    within(socket.connect()).await.unwrap();
    let (client, stream) = (socket.client().clone(), socket.stream("y"));
    drop(socket);
    drop(client);
    for n in 0..3 {
        stream.socket().emit("n", n).unwrap();
    }
    drop(stream);
    let texts = session.end().await;
    assert_eq!(texts, ["42[\"n\",0]", "42[\"n\",1]", "42[\"n\",2]", "41"]);
}

#[tokio::test]
async fn dropping_the_last_handle_sends_each_event_of_the_retry_queue_once() {
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url()).retries(3).socket().unwrap();
    socket.open();
    let mut session = fake.connected().await;
    within(socket.connect()).await.unwrap();
    for n in 0..4 {
        socket.emit("n", n).unwrap();
    }
    // The first event is in flight, and the others wait for its acknowledgement.
    assert_eq!(session.next().await, "420[\"n\",0]");
    drop(socket);
    let texts = session.end().await;
    assert_eq!(
        texts,
        ["421[\"n\",1]", "422[\"n\",2]", "423[\"n\",3]", "41"]
    );
}

#[tokio::test]
async fn a_function_for_auth_is_called_at_each_connect() {
    let fake = Fake::start().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let auth = Auth::with(move || {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, String>(json!({"call": call})) }
    });
    let client = Client::builder(fake.url()).reconnection_delay(Duration::from_millis(1));
    let socket = client.auth(auth).socket().unwrap();
    socket.open();
    for call in 0..3 {
        let mut session = fake.accept().await;
        assert_eq!(session.next().await, format!("40{{\"call\":{call}}}"));
    }
}

#[tokio::test]
async fn a_function_for_auth_that_fails_is_a_connect_error() {
    let suite = Suite::start().await;
    let failing = Auth::with(async || Err::<Value, _>("no token"));
    let socket = suite.client("").auth(failing).socket().unwrap();
    let mut errors = socket.stream("connect_error");
    let error = within(socket.connect()).await.unwrap_err();
    assert!(matches!(error, ClientError::Options(_)), "{error:?}");
    assert_eq!(value::<ConnectError>(&mut errors).await.message, "no token");
    assert!(!socket.is_active());
    socket.set_auth(json!({}));
    within(socket.connect()).await.unwrap();
}

#[tokio::test]
async fn a_function_for_auth_that_takes_too_long_is_a_connect_error() {
    let suite = Suite::start().await;
    let waiting = Auth::with(async || std::future::pending::<Result<Value, String>>().await);
    let client = suite.client("").auth(waiting);
    let socket = client
        .connect_timeout(Duration::from_secs(10))
        .socket()
        .unwrap();
    let mut errors = socket.stream("connect_error");
    let error = within(socket.connect()).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout("auth")), "{error:?}");
    assert_eq!(value::<ConnectError>(&mut errors).await.message, "timeout");
    assert!(!socket.is_active());
}

#[tokio::test]
async fn a_connect_error_has_the_data_of_the_server() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace.middleware(async |_: Connect| {
            Err::<(), _>(roomcast::Refusal::new("LATER", "not now").data(json!({"after": 5})))
        })
    });
    let server = serve(io).await;
    let client = Client::builder(format!("http://{}", server.address()));
    let socket = client.socket().unwrap();
    let mut errors = socket.stream("connect_error");
    let error = within(socket.connect()).await.unwrap_err();
    let ClientError::Refused { code, message, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!((&*code, &*message), ("LATER", "not now"));
    let reported: ConnectError = value(&mut errors).await;
    assert_eq!(reported.data.unwrap(), json!({"after": 5, "code": "LATER"}));
}

#[tokio::test]
async fn headers_cookies_query_and_path_reach_the_server_on_every_transport() {
    let mut config = Config::default();
    config.http.path = "/chat/".into();
    let io = Io::builder().config(config).namespace("/", |namespace| {
        namespace.on_connect(async |event: Event| {
            let handshake = event.socket.handshake();
            let header = |name: &str| {
                let mut headers = handshake.headers();
                headers.find_map(|(key, value)| {
                    key.eq_ignore_ascii_case(name).then(|| value.to_owned())
                })
            };
            let seen = json!([
                header("x-app"),
                header("cookie"),
                handshake.query_value("room")
            ]);
            event.socket.emit("seen", seen);
        })
    });
    let server = serve(io).await;
    for transports in [Transports::WebSocket, Transports::Polling] {
        let client = Client::builder(format!("http://{}?room=7", server.address()));
        let client = client
            .path("/chat")
            .transports(transports)
            .header("X-App", "bot");
        let client = client.cookie("a", "1").cookie("b", "2");
        let socket = client.socket().unwrap();
        let mut seen = socket.stream("seen");
        within(socket.connect()).await.unwrap();
        assert_eq!(
            value::<Value>(&mut seen).await,
            json!(["bot", "a=1; b=2", "7"])
        );
    }
}

#[tokio::test]
async fn client_stays_disconnected_after_a_server_disconnect() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).reconnection_delay(Duration::from_millis(1));
    let socket = client.socket().unwrap();
    let mut ends = socket.stream("disconnect");
    socket.open();
    let mut session = fake.connected().await;
    session.send("41").await;
    assert_eq!(value::<String>(&mut ends).await, "io server disconnect");
    assert!(!socket.is_active());
    session.end().await;
}

#[tokio::test]
async fn closing_the_client_ends_all_sockets_and_they_can_be_connected_again() {
    let suite = Suite::start().await;
    let main = suite.connect("").await;
    let foo = main.client().socket("/foo").unwrap();
    within(foo.connect()).await.unwrap();
    let mut ends = [main.stream("disconnect"), foo.stream("disconnect")];
    within(main.client().close()).await;
    for end in &mut ends {
        let reason: DisconnectReason = value(end).await;
        assert_eq!(reason, DisconnectReason::ForcedClose);
    }
    assert!(!main.is_active() && !foo.is_active());
    within(foo.connect()).await.unwrap();
    assert_eq!(suite.proxy.accepted(), 2);
}

#[tokio::test]
async fn connect_answer_after_disconnect_is_reverted() {
    let fake = Fake::start().await;
    let main = Client::builder(fake.url()).socket().unwrap();
    let foo = main.client().socket("/foo").unwrap();
    main.open();
    let mut session = fake.connected().await;
    foo.open();
    assert_eq!(session.next().await, "40/foo,");
    within(foo.disconnect()).await;
    session.send("40/foo,{\"sid\":\"b\"}").await;
    assert_eq!(session.next().await, "41/foo,");
    assert!(main.is_active() && !foo.is_connected());
}
