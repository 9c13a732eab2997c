//! Tests the metrics of queued data.

use super::*;
use crate::metrics::{Size, Timing};

#[tokio::test]
async fn slow_time_is_recorded_when_client_has_caught_up() {
    let config = Config::default().outbox_bytes(64 << 20);
    let echo = echo_with(config, |session, _| {
        let text = Message::Text(Bytes::from(vec![b'x'; 1 << 20]));
        for _ in 0..16 {
            session.send(&text);
        }
    });
    let metrics = Arc::clone(&echo.engine.metrics);
    let mut client = echo.websocket(None).await;
    client.text().await;
    client.send("4more than the kernel takes").await;
    let outbox = echo.engine.sessions.all().remove(0);
    let blocked = async {
        while !outbox.lock().is_blocked() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, blocked).await.unwrap();
    assert_eq!(metrics.timed(Timing::SlowClient), 0);
    for _ in 0..16 {
        client.text().await;
    }
    let noted = async {
        while metrics.timed(Timing::SlowClient) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, noted).await.unwrap();
    assert_eq!(metrics.timed(Timing::SlowClient), 1);
}

#[tokio::test]
async fn one_round_of_a_flusher_in_sixteen_is_timed() {
    let echo = echo(Config::default());
    let mut client = echo.websocket(None).await;
    client.text().await;
    let outbox = echo.engine.sessions.all().remove(0);
    let mut timed = Vec::new();
    for _ in 0..=32 {
        let push = outbox.push(&Frame::text(b"hello"), Mode::Reliable);
        assert_eq!(push, Push::Queued);
        assert_eq!(client.text().await, "4hello");
        timed.push(echo.engine.metrics.timed(Timing::Queue));
    }
    assert_eq!(timed[32] - timed[0], 2, "{timed:?}");
}

#[tokio::test]
async fn queued_bytes_are_recorded_with_each_ping() {
    let echo = echo(Config::default().ping_interval(Duration::from_millis(30)));
    let sid = echo.open().await;
    assert_eq!(echo.poll(&sid).await, (200, "2".into()));
    assert_eq!(echo.engine.metrics.sized(Size::Queued), 1);
    let mut client = echo.websocket(None).await;
    client.text().await;
    assert_eq!(client.text().await, "2");
    assert_eq!(echo.engine.metrics.sized(Size::Queued), 2);
}
