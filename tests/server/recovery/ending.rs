//! When a session can be recovered no more.

use super::*;

#[test]
fn memory_is_returned_when_the_time_is_over() {
    let server = Local::serve(on(Recovery::default().window(Duration::from_secs(10))));
    let (client, mut session) = member(&server);
    lose(&server, client);
    server.io.to("room").emit("n", "x".repeat(1000));
    assert!(kept_bytes(&server) > 1000);
    until(|| recoverable(&server) == 0);
    until(|| kept_bytes(&server) == 0);
    assert_eq!(server.io.metrics().gauge(Gauge::Rooms), 0);
    assert!(!come_back(&server, &mut session).2);
}

#[test]
fn a_handler_that_blocks_the_end_of_a_socket_delays_nobody_for_long_who_comes_back() {
    let (begin, begun) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (begin, released) = (Mutex::new(begin), Mutex::new(released));
    let mut io = on(Recovery::default());
    io.namespace("/").on("disconnect", move |_: Event| {
        let _ = begin.lock().unwrap().send(());
        // This holds up the task of the connection, and ends when the test says so or is over.
        let _ = tokio::task::block_in_place(|| released.lock().unwrap().recv());
        async {}
    });
    let server = Local::serve(io);
    // A test that fails lets the handler go before it waits for the end of the server.
    let release = release;
    let (client, mut session) = member(&server);
    drop(client);
    begun.recv().unwrap();
    let (_client, missed, is_same) = come_back(&server, &mut session);
    assert!(!is_same && missed.is_empty());
    assert_eq!(recoverable(&server), 0);
    drop(release);
    until(|| recoverable(&server) == 1);
}

#[test]
fn whoever_is_sent_away_by_the_handlers_of_its_own_end_does_not_come_back() {
    let mut io = on(Recovery::default());
    io.namespace("/").on("disconnect", async |event: Event| {
        let io = event.socket.io();
        io.in_(event.socket.id()).disconnect(true);
    });
    let server = Local::serve(io);
    let (client, mut session) = member(&server);
    drop(client);
    until(|| server.io.metrics().gauge(Gauge::Rooms) == 0);
    assert_eq!(recoverable(&server), 0);
    assert!(!come_back(&server, &mut session).2);
}

#[test]
fn a_session_whose_client_was_refused_ends_in_its_time_even_if_all_others_have() {
    let (open, opened) = tokio::sync::watch::channel(false);
    let mut io = on(Recovery::default()
        .window(Duration::from_secs(10))
        .skip_middlewares(false));
    io.namespace("/").middleware(move |connect: Connect| {
        let mut opened = opened.clone();
        async move {
            if connect.recovered() {
                let _ = opened.wait_for(|is_open| *is_open).await;
                return Err(Refusal::new("", "no"));
            }
            Ok(())
        }
    });
    let server = Local::serve(io);
    let (first, _) = member(&server);
    let (second, session) = member(&server);
    lose(&server, first);
    // The second session is to end after the first; what is waited for is time itself.
    thread::sleep(Duration::from_secs(1));
    drop(second);
    until(|| server.io.count() == 0);
    let mut client = server.open();
    client.send_text(format!("40{}", session.offer()));
    // The second one is in the hands of the middleware when the first one's time is over.
    until(|| recoverable(&server) == 0);
    open.send_replace(true);
    client.expect_text("44{\"message\":\"no\"}");
    until(|| recoverable(&server) == 0 && kept_bytes(&server) == 0);
    assert_eq!(server.io.metrics().gauge(Gauge::Rooms), 0);
}

#[test]
fn the_oldest_session_ends_when_there_are_too_many() {
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
        .map(|session| come_back(&server, session))
        .collect();
    let recovered: Vec<bool> = back.iter().map(|(_, _, is_same)| *is_same).collect();
    assert_eq!(recovered, [false, true, true]);
}

#[test]
fn who_has_missed_more_than_is_kept_starts_afresh() {
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
            let (_client, got, is_same) = come_back(&server, &mut session);
            assert_eq!(is_same, recovers);
            assert_eq!(got.len(), if recovers { missed } else { 0 });
        }
    }
}

#[test]
fn when_too_much_is_kept_for_all_whoever_has_missed_most_starts_afresh() {
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
    // It is one of these that is too much.
    for _ in 0..3 {
        server.io.to(&*little.sid).emit("n", "x".repeat(8000));
    }
    until(|| kept_bytes(&server) <= 100_000);
    let (_client, got, is_same) = come_back(&server, &mut little);
    assert_eq!((got.len(), is_same), (3, true));
    let (_other, got, is_same) = come_back(&server, &mut much);
    assert_eq!((got.len(), is_same), (0, false));
}

#[test]
fn a_pong_frees_what_its_client_has() {
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
    while kept_bytes(&server) > 0 {
        if client.wait() == Some(true) && text_or_ping(&mut client) == "2" {
            client.send_text("3");
        }
    }
    lose(&server, client);
    server.io.to("room").emit("n", 2);
    let (_client, missed, is_same) = come_back(&server, &mut session);
    assert!(is_same);
    assert_eq!(missed, ["42[\"n\",2]"]);
}

fn text_or_ping(client: &mut RawClient) -> String {
    match client.frame() {
        crate::support::Frame::Text(text) => text,
        frame => panic!("{frame:?}"),
    }
}
