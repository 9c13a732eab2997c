//! When a session can no longer be recovered.

use super::*;

#[test]
fn memory_is_returned_after_the_recovery_window() {
    let server = Local::serve(on(Recovery::default().window(Duration::from_secs(10))));
    let (client, mut session) = member(&server);
    lose(&server, client);
    server.io.to("room").emit("n", "x".repeat(1000));
    assert!(stored_bytes(&server) > 1000);
    until(|| recoverable(&server) == 0);
    until(|| stored_bytes(&server) == 0);
    assert_eq!(server.io.metrics().gauge(Gauge::Rooms), 0);
    assert!(!reconnect(&server, &mut session).2);
}

#[test]
fn blocking_disconnect_handler_delays_recovery_only_briefly() {
    let (begin, begun) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (begin, released) = (Mutex::new(begin), Mutex::new(released));
    let io = on(Recovery::default()).namespace("/", |namespace| {
        namespace.on("disconnect", move |_: Event| {
            let _ = begin.lock().unwrap().send(());
            // This blocks the task of the connection until the test ends it.
            let _ = tokio::task::block_in_place(|| released.lock().unwrap().recv());
            async {}
        })
    });
    let server = Local::serve(io);
    // If the test fails, this releases the handler before the server is dropped.
    let release = release;
    let (client, mut session) = member(&server);
    drop(client);
    begun.recv().unwrap();
    let (_client, missed, is_same) = reconnect(&server, &mut session);
    assert!(!is_same && missed.is_empty());
    assert_eq!(recoverable(&server), 0);
    drop(release);
    until(|| recoverable(&server) == 1);
}

#[test]
fn client_disconnected_by_its_own_handler_is_not_recovered() {
    let io = on(Recovery::default()).namespace("/", |namespace| {
        namespace.on("disconnect", async |event: Event| {
            let io = event.socket.io();
            io.in_(event.socket.id()).close_connections();
        })
    });
    let server = Local::serve(io);
    let (client, mut session) = member(&server);
    drop(client);
    until(|| server.io.metrics().gauge(Gauge::Rooms) == 0);
    assert_eq!(recoverable(&server), 0);
    assert!(!reconnect(&server, &mut session).2);
}

#[test]
fn session_of_a_refused_client_expires_on_time() {
    let (open, opened) = tokio::sync::watch::channel(false);
    let io = on(Recovery::default()
        .window(Duration::from_secs(10))
        .run_middlewares())
    .namespace("/", |namespace| {
        namespace.middleware(move |connect: Connect| {
            let mut opened = opened.clone();
            async move {
                if connect.recovered() {
                    let _ = opened.wait_for(|is_open| *is_open).await;
                    return Err(Refusal::new("", "no"));
                }
                Ok(())
            }
        })
    });
    let server = Local::serve(io);
    let (first, _) = member(&server);
    let (second, session) = member(&server);
    lose(&server, first);
    // Makes the second session end after the first; the test waits for time itself.
    thread::sleep(Duration::from_secs(1));
    drop(second);
    until(|| server.io.count() == 0);
    let mut client = server.open();
    client.send_text(format!("40{}", session.offer()));
    // The middleware holds the second session when the first expires.
    until(|| recoverable(&server) == 0);
    open.send_replace(true);
    client.expect_text("44{\"message\":\"no\"}");
    until(|| recoverable(&server) == 0 && stored_bytes(&server) == 0);
    assert_eq!(server.io.metrics().gauge(Gauge::Rooms), 0);
}

#[test]
fn oldest_session_ends_when_the_limit_is_exceeded() {
    let server = Local::serve(on(Recovery::default().max_sessions(2)));
    let mut sessions = Vec::new();
    for n in 1..=3 {
        let (client, session) = member(&server);
        drop(client);
        until(|| server.io.count() == 0 && recoverable(&server) == i64::from(n.min(2)));
        sessions.push(session);
    }
    let back: Vec<_> = sessions
        .iter_mut()
        .map(|session| reconnect(&server, session))
        .collect();
    let recovered: Vec<bool> = back.iter().map(|(_, _, is_same)| *is_same).collect();
    assert_eq!(recovered, [false, true, true]);
}

#[test]
fn client_that_missed_too_much_gets_a_new_session() {
    for (recovery, size) in [
        (Recovery::default().max_messages(3), 1),
        (Recovery::default().max_bytes(1500), 400),
    ] {
        for (missed, recovers) in [(2, true), (4, false)] {
            let server = Local::serve(on(recovery.clone()));
            let (client, mut session) = member(&server);
            lose(&server, client);
            for _ in 0..missed {
                server.io.to("room").emit("n", "x".repeat(size));
            }
            let (_client, got, is_same) = reconnect(&server, &mut session);
            assert_eq!(is_same, recovers);
            assert_eq!(got.len(), if recovers { missed } else { 0 });
        }
    }
}

#[test]
fn total_limit_drops_the_session_with_most_missed_bytes() {
    let server = Local::serve(on(Recovery::default()
        .max_bytes(100_000)
        .max_total_bytes(100_000)));
    let [mut much, mut little] = [(); 2].map(|()| {
        let (client, session) = member(&server);
        lose(&server, client);
        session
    });
    for _ in 0..8 {
        server.io.to(&*much.sid).emit("n", "x".repeat(10_000));
    }
    // Exceeds the limit: these events are the excess.
    for _ in 0..3 {
        server.io.to(&*little.sid).emit("n", "x".repeat(8000));
    }
    until(|| stored_bytes(&server) <= 100_000);
    let (_client, got, is_same) = reconnect(&server, &mut little);
    assert_eq!((got.len(), is_same), (3, true));
    let (_other, got, is_same) = reconnect(&server, &mut much);
    assert_eq!((got.len(), is_same), (0, false));
}

#[test]
fn pong_frees_received_events() {
    let server = Local::serve(
        on(Recovery::default()).config(
            Config::default()
                .ping_interval(Duration::from_millis(50))
                .recovery(Recovery::default()),
        ),
    );
    let (mut client, mut session) = member(&server);
    server.io.to("room").emit("n", 1);
    session.expect(&mut client, "42[\"n\",1]");
    // Answers a ping.
    client.send_text("421[\"who\"]");
    while stored_bytes(&server) > 0 {
        if client.wait() == Some(true) && text_or_ping(&mut client) == "2" {
            client.send_text("3");
        }
    }
    lose(&server, client);
    server.io.to("room").emit("n", 2);
    let (_client, missed, is_same) = reconnect(&server, &mut session);
    assert!(is_same);
    assert_eq!(missed, ["42[\"n\",2]"]);
}

fn text_or_ping(client: &mut RawClient) -> String {
    match client.frame() {
        crate::support::Frame::Text(text) => text,
        frame => panic!("{frame:?}"),
    }
}
