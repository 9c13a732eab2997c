use std::time::Duration;

use roomcast::client::{Client, ClientError, DisconnectReason};

use crate::{
    fake::Fake,
    suite::{Suite, within},
};

const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(10);

fn is_timeout<T>(answer: &Result<T, ClientError>) -> bool {
    matches!(answer, Err(ClientError::Timeout(_)))
}

#[tokio::test]
async fn should_timeout_after_the_given_delay_when_socket_is_not_connected() {
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url()).socket().unwrap();
    let request = socket.timeout(SOON).emit_with_ack::<()>("event", ());
    assert!(is_timeout(&within(request).await));
    // The event is no longer sent.
    socket.open();
    let mut session = fake.connected().await;
    socket.emit("next", ()).unwrap();
    assert_eq!(session.next().await, "42[\"next\"]");
}

#[tokio::test]
async fn should_timeout_when_the_server_does_not_acknowledge_the_event() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let request = socket.timeout(SOON).emit_with_ack::<()>("unknown", ());
    assert!(is_timeout(&within(request).await));
}

#[tokio::test]
async fn should_timeout_when_the_server_does_not_acknowledge_the_event_in_time() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let request = socket
        .timeout(Duration::ZERO)
        .emit_with_ack::<u8>("echo", 42);
    assert!(is_timeout(&within(request).await));
    let late: u8 = within(socket.emit_with_ack("echo", 43)).await.unwrap();
    assert_eq!(late, 43);
}

#[tokio::test]
async fn should_not_timeout_when_the_server_does_acknowledge_the_event() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let request = socket.timeout(LATE).emit_with_ack::<u8>("echo", 42);
    assert_eq!(within(request).await.unwrap(), 42);
}

#[tokio::test]
async fn should_use_the_default_timeout_value() {
    let suite = Suite::start().await;
    let client = suite.client("").ack_timeout(SOON);
    let socket = within(client.connect()).await.unwrap();
    assert!(is_timeout(
        &within(socket.emit_with_ack::<()>("unknown", ())).await
    ));
}

#[tokio::test]
async fn should_ack_with_an_error_upon_disconnection() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let request = socket.timeout(LATE).emit_with_ack::<()>("unknown", "a");
    let (answer, ()) = within(async { tokio::join!(request, socket.disconnect()) }).await;
    assert!(
        matches!(
            answer,
            Err(ClientError::Disconnected(
                DisconnectReason::ClientDisconnect
            ))
        ),
        "{answer:?}"
    );
}

#[tokio::test]
async fn should_ack_with_an_error_upon_disconnection_with_the_default_timeout() {
    let suite = Suite::start().await;
    let client = suite.client("").ack_timeout(LATE);
    let socket = within(client.connect()).await.unwrap();
    let request = socket.emit_with_ack::<()>("unknown", "a");
    let (answer, ()) = within(async { tokio::join!(request, socket.disconnect()) }).await;
    assert!(
        matches!(
            answer,
            Err(ClientError::Disconnected(
                DisconnectReason::ClientDisconnect
            ))
        ),
        "{answer:?}"
    );
}

#[tokio::test]
async fn should_not_discard_an_unsent_ack() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    within(socket.disconnect()).await;
    let request = socket.emit_with_ack::<String>("echo", "a");
    let (answer, connected) = within(async { tokio::join!(request, socket.connect()) }).await;
    connected.unwrap();
    assert_eq!(answer.unwrap(), "a");
}
