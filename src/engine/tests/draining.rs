//! A server that drains: it moves its clients to other servers one after the other.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use roomcast_protocol::engine::CloseReason;

use super::{server::site, *};
use crate::{
    engine::session::{Application, SessionHandler},
    tasks::Tasks,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Reports that requests are in flight while the flag is set.
struct Busy(Arc<AtomicBool>);

struct BusyHandler {
    is_busy: Arc<AtomicBool>,
    outbox: Outbox,
}

impl Application for Busy {
    fn open(&self, outbox: Outbox, _: Arc<Handshake>, _: Instant) -> Box<dyn SessionHandler> {
        let is_busy = Arc::clone(&self.0);
        Box::new(BusyHandler { is_busy, outbox })
    }
}

impl SessionHandler for BusyHandler {
    fn message(&mut self, message: Message, _: Instant) -> Result<(), CloseReason> {
        let (Message::Text(data) | Message::Binary(data)) = message;
        // The message "done" stands for the end of the last request in flight.
        self.is_busy.fetch_and(data != "done", Ordering::Relaxed);
        let _ = self.outbox.push(&Frame::text(&data), Mode::Reliable);
        Ok(())
    }

    fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn draining_session_ends_when_no_longer_busy() {
    let metrics = Arc::new(Metrics::new());
    let engine = Engine::new(
        Box::new(Busy(Arc::new(AtomicBool::new(true)))),
        Arc::default(),
        Arc::default(),
        Arc::clone(&metrics),
        Tasks::new(metrics),
        None,
        None,
    );
    let listener = bind(([127, 0, 0, 1], 0).into(), &Config::default()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(site(&engine), None, Arc::new(listener)));
    let server = Echo { address, engine };
    let mut client = server.websocket(None).await;
    client.text().await;
    for outbox in server.engine.sessions.all() {
        outbox.leave(now() + HOUR);
    }
    client.send("4more").await;
    assert_eq!(client.text().await, "4more");
    client.send("4done").await;
    assert_eq!(client.text().await, "4done");
    assert_eq!(client.close_code().await, 1001);
}

#[tokio::test]
async fn draining_without_a_window_ends_sessions_of_both_transports() {
    let echo = echo(Config::default());
    let mut client = echo.websocket(None).await;
    client.text().await;
    let sid = echo.open().await;
    echo.engine.drain(Duration::ZERO).await;
    assert_eq!(client.close_code().await, 1001);
    assert_eq!(echo.poll(&sid).await, (200, "1".into()));
    drop(client);
    echo.all_closed().await;
}

#[tokio::test]
async fn draining_server_refuses_new_and_serves_open_sessions() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    let engine = Arc::clone(&echo.engine);
    let draining = tokio::spawn(async move { engine.drain(HOUR).await });
    while !echo.engine.is_draining() {
        tokio::task::yield_now().await;
    }
    let handshake =
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let upgrade = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let elsewhere = "GET /socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for request in [handshake, upgrade, elsewhere] {
        let answer = echo.exchange(request).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nretry-after: "), "{answer}");
    }
    assert_eq!(echo.engine.metrics.counter(Counter::RejectedDraining), 3);
    assert_eq!(echo.engine.metrics.gauge(Gauge::Draining), 1);
    assert_eq!(echo.post(&sid, "4still here").await.0, 200);
    assert_eq!(echo.poll(&sid).await, (200, "4still here".into()));
    // Draining ends with the last session.
    assert_eq!(echo.post(&sid, "1").await.0, 200);
    timeout(DEADLINE, draining).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn sessions_end_evenly_over_nine_tenths_of_the_window() {
    const SESSIONS: usize = 900;
    let echo = RawEngine::new(Config::default(), |_, _| {});
    let unattended = TestOutboxes::polling(Arc::default());
    for _ in 0..SESSIONS {
        assert!(
            echo.0
                .sessions
                .insert(&unattended.outbox(random_sid(), 1 << 20))
        );
    }
    let engine = Arc::clone(&echo.0);
    let draining = tokio::spawn(async move { engine.drain(Duration::from_secs(100)).await });
    let leaving = || {
        let all = echo.0.sessions.all();
        all.iter()
            .filter(|outbox| !outbox.lock().control().is_empty())
            .count()
    };
    // One session is told to leave in each tenth of a second, at a random time within it.
    let mut early = 0;
    for step in 0..900 {
        let count = leaving();
        assert!(count.abs_diff(step) <= 1, "{count} after {step} steps");
        // Time is paused; this advances it to the middle of the step.
        tokio::time::sleep(Duration::from_millis(50)).await;
        early += usize::from(leaving() > step);
        tokio::time::sleep(Duration::from_millis(50)).await; // To its end.
    }
    assert!((200..700).contains(&early), "{early} of 900 were early");
    assert!(leaving().abs_diff(SESSIONS) <= 1);
    assert!(
        !draining.is_finished(),
        "the last tenth of the window is for busy sessions"
    );
    draining.await.unwrap();
}
