//! Events and packets that the server has processed when `disconnect` returns.

use std::time::Duration;

use roomcast::{
    Ack, Event, Io,
    client::{Change, Client, ClientError, Connection, DisconnectReason, Options, Transports},
    options::Recovery,
    testing::serve,
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    fake::Fake,
    suite::{Suite, change, changes, value, within},
    support::UnusedAddress,
};

const ALL: [Transports; 3] = [
    Transports::WebSocket,
    Transports::Polling,
    Transports::Upgrade,
];

/// The recorded events of the server of the suite.
#[derive(Debug, Deserialize)]
struct Notes {
    marks: Vec<u32>,
    reasons: Vec<String>,
}

#[tokio::test]
async fn event_before_disconnect_arrives_and_the_server_reads_disconnect() {
    let suite = Suite::start().await;
    for (round, transports) in (0..).zip(ALL) {
        let numbers = round * RUNS..(round + 1) * RUNS;
        for number in numbers.clone() {
            let client = suite.client("").transports(transports);
            let socket = within(client.connect()).await.unwrap();
            socket.emit("mark", number).unwrap();
            within(socket.disconnect()).await;
        }
        let witness = suite.connect("").await;
        let notes = within(async {
            loop {
                let notes: Notes = witness.emit_with_ack("marks", ()).await.unwrap();
                if notes.marks.len() >= numbers.len() && notes.reasons.len() >= numbers.len() {
                    break notes;
                }
            }
        })
        .await;
        assert_eq!(notes.marks, numbers.collect::<Vec<_>>(), "{transports:?}");
        for reason in notes.reasons {
            assert_eq!(reason, "client namespace disconnect", "{transports:?}");
        }
        let () = within(witness.emit_with_ack("clear marks", ()))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn leaving_one_namespace_delivers_its_events_and_spares_the_rest() {
    let suite = Suite::start().await;
    for transports in ALL {
        let client = suite.client("").transports(transports);
        let main = within(client.connect()).await.unwrap();
        let foo = main.client().socket("/foo").unwrap();
        for number in 0..20 {
            within(foo.connect()).await.unwrap();
            foo.emit("mark", number).unwrap();
            // The client enters the namespace again before the server can have answered.
            let (connected, ()) = within(async {
                let left = foo.disconnect();
                tokio::pin!(left);
                tokio::select! {
                    biased;
                    () = &mut left => {}
                    () = async {} => {}
                }
                tokio::join!(foo.connect(), left)
            })
            .await;
            connected.unwrap();
            within(foo.disconnect()).await;
        }
        let notes = within(async {
            loop {
                let notes: Notes = main.emit_with_ack("marks", ()).await.unwrap();
                if notes.marks.len() >= 20 {
                    break notes;
                }
            }
        })
        .await;
        assert_eq!(notes.marks, (0..20).collect::<Vec<_>>(), "{transports:?}");
        let () = within(main.emit_with_ack("clear marks", ())).await.unwrap();
    }
}

#[tokio::test]
async fn disconnect_is_sent_after_the_answer_to_a_ping_and_before_another() {
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url()).socket().unwrap();
    socket.open();
    let mut session = fake.connected().await;
    within(socket.connect()).await.unwrap();
    socket.emit("last", ()).unwrap();
    let read = async {
        for frame in ["42[\"last\"]", "ping", "41", "ping", "close"] {
            assert_eq!(session.frame().await, frame);
        }
    };
    within(async { tokio::join!(read, socket.disconnect()) }).await;
}

#[tokio::test]
async fn server_that_answers_no_ping_still_gets_disconnect() {
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url()).socket().unwrap();
    socket.open();
    let session = fake.connected().await;
    within(socket.connect()).await.unwrap();
    socket.emit("last", ()).unwrap();
    // The server reads nothing until the client has timed out.
    within(socket.disconnect()).await;
    assert_eq!(session.end().await, ["42[\"last\"]", "41"]);
}

#[tokio::test]
async fn session_that_was_left_is_not_continued() {
    let io = Io::builder()
        .recovery(Recovery::default())
        .namespace("/", |namespace| {
            namespace
                .on("hi", async |event: Event| {
                    event.socket.emit("hi", ());
                })
                .on("token", async |event: Event| {
                    Ack(event.socket.auth::<serde_json::Value>().unwrap())
                })
        });
    let server = serve(io).await;
    for transports in ALL {
        let client = Client::builder(format!("http://{}", server.address()));
        let client = client.transports(transports).auth(json!({"token": "ada"}));
        let socket = within(client.connect()).await.unwrap();
        let mut hi = socket.stream("hi");
        socket.emit("hi", ()).unwrap();
        within(hi.next()).await.unwrap();
        let id = socket.id();
        for is_closed in [false, true] {
            match is_closed {
                true => within(socket.client().close()).await,
                false => within(socket.disconnect()).await,
            }
            socket.set_auth(json!({"token": "eve"}));
            within(socket.connect()).await.unwrap();
            assert!(!socket.recovered(), "{transports:?}");
            assert_ne!(socket.id(), id, "{transports:?}");
            // The new token is sent without the old session's id and offset.
            let auth: serde_json::Value = within(socket.emit_with_ack("token", ())).await.unwrap();
            assert_eq!(auth, json!({"token": "eve"}), "{transports:?}");
        }
    }
}

#[tokio::test]
async fn session_left_by_disconnect_is_given_to_no_client_that_offers_it() {
    let suite = Suite::start().await;
    for transports in ALL {
        // A low-level connection knows the secret of its session, and breaks.
        let mut options = Options::new(format!("http://{}", suite.proxy.address()));
        options.auth = Some(json!({"token": "ada"}));
        let mut broken = within(Connection::open(&options)).await.unwrap();
        broken.emit("hi", &()).unwrap();
        let hi = within(broken.next()).await.unwrap();
        let offset: String = hi.args.get(0).unwrap();
        let (id, pid) = (broken.id().to_owned(), broken.pid().unwrap().to_owned());
        drop(broken);

        // A client that offers it continues the session after the server has noticed the break.
        let offered = json!({"token": "ada", "pid": pid, "offset": offset});
        let socket = within(async {
            loop {
                let client = suite.client("").transports(transports);
                let socket = client.auth(offered.clone()).connect().await.unwrap();
                if socket.id().as_ref() == Some(&id) {
                    break socket;
                }
                socket.disconnect().await;
            }
        })
        .await;
        socket.disconnect().await;

        // Such an offer begins a session if the one before was left by `disconnect`. It was never
        // continued, because Node's server forgets no session that was continued once.
        let client = suite.client("").transports(transports);
        let left = within(client.auth(json!({"token": "ada"})).connect()).await;
        let left = left.unwrap();
        let pid = suite.proxy.last_pid().unwrap();
        let mut hi = left.stream("hi");
        left.emit("hi", ()).unwrap();
        let offset: String = value(&mut hi).await;
        let id = left.id();
        within(left.disconnect()).await;
        let offered = json!({"token": "eve", "pid": pid, "offset": offset});
        let client = suite.client("").transports(transports).auth(offered);
        let other = within(client.connect()).await.unwrap();
        assert_ne!(other.id(), id, "{transports:?}");
    }
}

#[tokio::test]
async fn answer_of_a_broken_connection_names_the_reason_of_its_end() {
    let suite = Suite::start().await;
    let client = suite.client("").without_reconnection();
    let socket = within(client.connect()).await.unwrap();
    let mut changes = changes(socket.client());
    let request = socket
        .timeout(Duration::from_secs(20))
        .emit_with_ack::<()>("unknown", ());
    let cut = async {
        // The event has been read when this answer arrives.
        let _: u8 = within(socket.emit_with_ack("echo", 1)).await.unwrap();
        suite.proxy.cut();
    };
    let (answer, ()) = within(async { tokio::join!(request, cut) }).await;
    let error = answer.unwrap_err();
    let Change::Close(reason) = change(&mut changes, |_| true).await else {
        panic!("the connection did not close first");
    };
    assert!(reason.reconnects(), "{reason}");
    assert!(
        matches!(error, ClientError::Disconnected(why) if why == reason),
        "{error:?}"
    );
    assert_ne!(
        error.to_string(),
        DisconnectReason::ServerDisconnect.to_string()
    );
}

/// As many as the requirement names.
const RUNS: u32 = 200;

#[tokio::test]
async fn wait_for_a_connection_ends_when_reconnection_is_disabled() {
    let unheard = UnusedAddress::new();
    let client = Client::builder(format!("http://{}", unheard.address()));
    let client = client.reconnection_delay(Duration::from_secs(3600));
    let socket = client.socket().unwrap();
    let mut changes = changes(socket.client());
    socket.open();
    change(&mut changes, |change| matches!(change, Change::Error(_))).await;
    let mut connecting = std::pin::pin!(socket.connect());
    tokio::select! {
        biased;
        ended = &mut connecting => panic!("{ended:?}"),
        () = tokio::task::yield_now() => {}
    }
    socket.client().disable_reconnection();
    within(connecting).await.unwrap_err();
}
