//! Tests pings and pongs over real connections.

use super::*;

const INTERVAL: Duration = Duration::from_millis(40);

fn pinging(ping_timeout: Duration) -> Echo {
    echo(
        Config::default()
            .ping_interval(INTERVAL)
            .ping_timeout(ping_timeout),
    )
}

#[tokio::test]
async fn pings_follow_pongs_and_are_never_early() {
    let echo = pinging(10 * DEADLINE);
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(echo.websocket(None).await);
    }
    for client in &mut clients {
        client.text().await;
        let mut answered = None;
        for _ in 0..5 {
            assert_eq!(client.text().await, "2");
            let now = now();
            assert!(answered.is_none_or(|answered| now - answered >= INTERVAL));
            answered = Some(now);
            client.send("3").await;
        }
    }
    drop(clients);
    echo.all_closed().await;
    assert_eq!(
        echo.engine.metrics.counter(Counter::ClosedTransportClose),
        5
    );
}

#[tokio::test]
async fn unanswered_ping_times_out_without_second_ping() {
    let timeout = Duration::from_secs(5);
    let echo = pinging(timeout);
    let start = now();
    let mut client = echo.websocket(None).await;
    client.text().await;
    assert_eq!(client.text().await, "2");
    // Other messages do not count as pongs.
    client.send("4hello").await;
    assert_eq!(client.text().await, "4hello");
    assert!(client.next().await.is_none());
    assert!(now() - start >= INTERVAL + timeout);
    echo.all_closed().await;
    assert_eq!(echo.engine.metrics.counter(Counter::ClosedPingTimeout), 1);
}

#[tokio::test]
async fn pings_continue_after_an_upgrade() {
    let echo = pinging(DEADLINE);
    for is_answered_first in [true, false] {
        let sid = echo.open().await;
        assert_eq!(echo.poll(&sid).await, (200, "2".into()));
        if is_answered_first {
            assert_eq!(echo.post(&sid, "3").await.0, 200);
        }
        let mut client = echo.websocket(Some(&sid)).await;
        client.send("2probe").await;
        assert_eq!(client.text().await, "3probe");
        client.send("5").await;
        if !is_answered_first {
            client.send("3").await;
        }
        for _ in 0..4 {
            assert_eq!(client.text().await, "2");
            client.send("3").await;
        }
    }
    echo.all_closed().await;
    // Only pings of the timer wheel are timed: the wheel sends all pings after an upgrade. On a
    // busy machine a ping may be due before the upgrade ends, so the first is not counted.
    let timed = echo.engine.metrics.timed(Timing::Ping);
    assert!((6..=8).contains(&timed), "{timed} pings of the timer wheel");
}

#[tokio::test]
async fn unanswered_polling_ping_times_out_after_upgrade() {
    let echo = pinging(Duration::from_secs(5));
    let sid = echo.open().await;
    assert_eq!(echo.poll(&sid).await, (200, "2".into()));
    let mut client = echo.websocket(Some(&sid)).await;
    client.send("2probe").await;
    assert_eq!(client.text().await, "3probe");
    client.send("5").await;
    assert!(client.next().await.is_none());
    echo.all_closed().await;
    assert_eq!(echo.engine.metrics.counter(Counter::ClosedPingTimeout), 1);
}

#[tokio::test]
async fn ended_session_is_dropped_immediately() {
    let echo = echo(Config::default());
    let mut client = echo.websocket(None).await;
    client.text().await;
    let outbox = Arc::downgrade(echo.engine.sessions.all().remove(0).inner());
    drop(client);
    echo.all_closed().await;
    // Its first ping is due in 25 seconds.
    let closed = async {
        while outbox.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, closed).await.unwrap();
}
