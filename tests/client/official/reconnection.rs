use std::time::Duration;

use roomcast::client::{Change, Client, ClientBuilder, Socket};
use tokio::sync::mpsc::Receiver;

use crate::{
    suite::{Suite, change, changes, next, within},
    support::UnusedAddress,
};

/// Returns a client of a port without a server, which stays unused as long as the other value
/// lives.
fn nowhere() -> (UnusedAddress, ClientBuilder) {
    let unheard = UnusedAddress::new();
    let client = Client::builder(format!("http://{}", unheard.address()));
    (unheard, client.reconnection_delay(DELAY))
}

/// Returns the numbers of the reconnection attempts until the last.
async fn attempts(changes: &mut Receiver<Change>) -> Vec<u32> {
    let mut attempts = Vec::new();
    loop {
        match change(changes, |_| true).await {
            Change::ReconnectAttempt(attempt) => attempts.push(attempt),
            Change::ReconnectFailed => return attempts,
            _ => {}
        }
    }
}

fn watched(builder: ClientBuilder) -> (Socket, Receiver<Change>) {
    let socket = builder.socket().unwrap();
    let changes = changes(socket.client());
    (socket, changes)
}

fn is_reconnect(change: &Change) -> bool {
    matches!(change, Change::Reconnect(_))
}

fn is_attempt(change: &Change) -> bool {
    matches!(change, Change::ReconnectAttempt(_))
}

/// Checks that a client does not reconnect, for many times its reconnection delay.
async fn assert_no_attempt(changes: &mut Receiver<Change>) {
    let attempting = async {
        while let Some(change) = changes.recv().await {
            if is_attempt(&change) || is_reconnect(&change) {
                return change;
            }
        }
        panic!("the client has ended");
    };
    let attempt = tokio::time::timeout(50 * DELAY, attempting).await;
    assert!(attempt.is_err(), "{attempt:?}");
}

/// Reconnection delay of the clients in these tests.
const DELAY: Duration = Duration::from_millis(10);

#[tokio::test]
async fn should_reconnect_by_default() {
    let suite = Suite::start().await;
    let (socket, mut changes) = watched(suite.client(""));
    within(socket.connect()).await.unwrap();
    suite.proxy.cut();
    change(&mut changes, is_reconnect).await;
    within(socket.connect()).await.unwrap();
}

#[tokio::test]
async fn should_reconnect_manually() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    within(socket.disconnect()).await;
    within(socket.connect()).await.unwrap();
}

#[tokio::test]
async fn should_reconnect_automatically_after_reconnecting_manually() {
    let suite = Suite::start().await;
    let (socket, mut changes) = watched(suite.client(""));
    within(socket.connect()).await.unwrap();
    within(socket.disconnect()).await;
    within(socket.connect()).await.unwrap();
    suite.proxy.cut();
    change(&mut changes, is_reconnect).await;
}

#[tokio::test]
async fn should_attempt_reconnects_after_a_failed_reconnect() {
    let suite = Suite::start().await;
    let client = suite.client("/timeout").connect_timeout(Duration::ZERO);
    let (socket, mut changes) = watched(client.reconnection_attempts(2));
    socket.open();
    assert_eq!(attempts(&mut changes).await, [1, 2]);
    socket.open();
    assert_eq!(attempts(&mut changes).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn reconnect_delay_should_increase_every_time() {
    let (_unheard, client) = nowhere();
    let client = client.reconnection_delay(Duration::from_millis(100));
    let client = client.reconnection_attempts(3).randomization_factor(0.2);
    let (socket, mut changes) = watched(client);
    socket.open();
    let mut delays = Vec::new();
    for _ in 0..3 {
        change(&mut changes, |change| matches!(change, Change::Error(_))).await;
        let start = tokio::time::Instant::now();
        change(&mut changes, is_attempt).await;
        delays.push(start.elapsed());
    }
    assert!(delays.is_sorted_by(|a, b| a < b), "{delays:?}");
    change(&mut changes, |change| *change == Change::ReconnectFailed).await;
}

#[tokio::test]
async fn should_not_reconnect_when_force_closed() {
    let suite = Suite::start().await;
    let (socket, mut changes) = watched(suite.client("/invalid").connect_timeout(Duration::ZERO));
    socket.open();
    change(&mut changes, |change| matches!(change, Change::Error(_))).await;
    within(socket.disconnect()).await;
    while changes.try_recv().is_ok() {}
    assert_no_attempt(&mut changes).await;
    assert!(!socket.is_active());
    // `open` makes it reconnect.
    socket.open();
    change(&mut changes, is_attempt).await;
}

#[tokio::test]
async fn should_stop_reconnecting_when_force_closed() {
    let suite = Suite::start().await;
    let (socket, mut changes) = watched(suite.client("/invalid").connect_timeout(Duration::ZERO));
    socket.open();
    change(&mut changes, is_attempt).await;
    within(socket.disconnect()).await;
    assert!(!socket.is_active());
    while changes.try_recv().is_ok() {}
    assert_no_attempt(&mut changes).await;
}

#[tokio::test]
async fn should_reconnect_after_stopping_reconnection() {
    let suite = Suite::start().await;
    let (socket, mut changes) = watched(suite.client("/invalid").connect_timeout(Duration::ZERO));
    socket.open();
    change(&mut changes, is_attempt).await;
    within(socket.disconnect()).await;
    socket.open();
    change(&mut changes, is_attempt).await;
}

#[tokio::test]
async fn should_stop_reconnecting_on_a_socket_and_keep_to_reconnect_on_another() {
    let suite = Suite::start().await;
    let (main, mut changes) = watched(suite.client(""));
    let asd = main.client().socket("/asd").unwrap();
    within(main.connect()).await.unwrap();
    within(asd.connect()).await.unwrap();
    let mut connects = asd.stream("connect");
    suite.proxy.cut();
    change(&mut changes, is_attempt).await;
    within(main.disconnect()).await;
    next(&mut connects).await;
    assert!(asd.is_connected() && !main.is_active());
    while changes.try_recv().is_ok() {}
    assert_no_attempt(&mut changes).await;
    assert!(asd.is_connected() && !main.is_connected());
}

#[tokio::test]
async fn should_try_to_reconnect_twice_and_fail_with_immediate_timeout() {
    let suite = Suite::start().await;
    let client = suite.client("/timeout").connect_timeout(Duration::ZERO);
    let (socket, mut changes) = watched(client.reconnection_attempts(2));
    socket.open();
    assert_eq!(attempts(&mut changes).await.len(), 2);
}

#[tokio::test]
async fn should_fire_reconnect_events_on_manager() {
    let suite = Suite::start().await;
    let client = suite
        .client("/timeout_socket")
        .connect_timeout(Duration::ZERO);
    let (socket, mut changes) = watched(client.reconnection_attempts(2));
    socket.open();
    let mut seen = Vec::new();
    while seen.last() != Some(&Change::ReconnectFailed) {
        seen.push(change(&mut changes, |_| true).await);
    }
    let timeout = || "timeout".to_owned();
    assert_eq!(
        seen,
        [
            Change::Error(timeout()),
            Change::ReconnectAttempt(1),
            Change::Error(timeout()),
            Change::ReconnectError(timeout()),
            Change::ReconnectAttempt(2),
            Change::Error(timeout()),
            Change::ReconnectError(timeout()),
            Change::ReconnectFailed,
        ]
    );
}

#[tokio::test]
async fn should_not_try_to_reconnect_when_connecting_to_correct_port_with_default_timeout() {
    let suite = Suite::start().await;
    let (socket, mut changes) = watched(suite.client("/valid"));
    within(socket.connect()).await.unwrap();
    assert_no_attempt(&mut changes).await;
    within(socket.disconnect()).await;
    assert_no_attempt(&mut changes).await;
}

#[tokio::test]
async fn should_stop_trying_to_reconnect() {
    let (_unheard, client) = nowhere();
    // Long enough that the test cancels before the next attempt.
    let client = client
        .reconnection_delay(40 * DELAY)
        .randomization_factor(0.0);
    let (socket, mut changes) = watched(client);
    socket.open();
    change(&mut changes, |change| {
        matches!(change, Change::ReconnectError(_))
    })
    .await;
    socket.client().disable_reconnection();
    assert_no_attempt(&mut changes).await;
    within(socket.client().close()).await;
    while changes.try_recv().is_ok() {}
    socket.open();
    let seen = change(&mut changes, |_| true).await;
    assert!(matches!(seen, Change::Error(_)), "{seen:?}");
    assert_no_attempt(&mut changes).await;
}

#[tokio::test]
async fn should_try_to_reconnect_twice_and_fail_with_incorrect_address() {
    let (_unheard, client) = nowhere();
    let (socket, mut changes) = watched(client.reconnection_attempts(2));
    socket.open();
    assert_eq!(attempts(&mut changes).await, [1, 2]);
}

#[tokio::test]
async fn should_not_try_to_reconnect_with_incorrect_port_when_reconnection_disabled() {
    let (_unheard, client) = nowhere();
    let (socket, mut changes) = watched(client.without_reconnection());
    within(socket.connect()).await.unwrap_err();
    change(&mut changes, |change| matches!(change, Change::Error(_))).await;
    assert_no_attempt(&mut changes).await;
    within(socket.connect()).await.unwrap_err();
    let seen = change(&mut changes, |_| true).await;
    assert!(matches!(seen, Change::Error(_)), "{seen:?}");
    assert_no_attempt(&mut changes).await;
}

#[tokio::test]
async fn should_still_try_to_reconnect_twice_after_opening_another_socket_asynchronously() {
    let (_unheard, client) = nowhere();
    let (socket, mut changes) = watched(client.reconnection_attempts(2));
    socket.open();
    change(&mut changes, |change| matches!(change, Change::Error(_))).await;
    let other = socket.client().socket("/room2").unwrap();
    other.open();
    assert_eq!(attempts(&mut changes).await, [1, 2]);
}
