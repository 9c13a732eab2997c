//! Reasons for disconnects, with the official texts.

use std::{
    sync::{Mutex, mpsc},
    time::Duration,
};

use roomcast::{Config, DisconnectReason, Event, Io, State, metrics::Gauge};

use crate::{
    local::{Local, until},
    support::{Polling, RawClient},
};

/// Receives the reports of the `disconnect` handlers.
struct ReportSender(Mutex<mpsc::Sender<(&'static str, DisconnectReason)>>);

/// Returns the reason that both handlers report after `act` on a client in `/`.
fn reason(config: Config, act: impl FnOnce(&Local, RawClient)) -> String {
    let (sender, reports) = mpsc::channel();
    let io = Io::builder()
        .config(config)
        .state(ReportSender(Mutex::new(sender)))
        .namespace("/", |namespace| {
            namespace
                .on("kick", async |event: Event, close: bool| {
                    if close {
                        event.socket.close_connection();
                    } else {
                        event.socket.disconnect();
                    }
                })
                .on("drop", async |event: Event| event.socket.drop_connection())
                .on(
                    "disconnecting",
                    async |_: Event, reason: DisconnectReason, reports: State<ReportSender>| {
                        reports
                            .0
                            .lock()
                            .unwrap()
                            .send(("disconnecting", reason))
                            .unwrap();
                    },
                )
                .on(
                    "disconnect",
                    async |event: Event, reason: DisconnectReason, reports: State<ReportSender>| {
                        assert_eq!(event.socket.disconnect_reason(), Some(reason));
                        reports
                            .0
                            .lock()
                            .unwrap()
                            .send(("disconnect", reason))
                            .unwrap();
                    },
                )
        });
    let server = Local::serve(io);
    let (client, _) = server.connect();
    act(&server, client);
    let deadline = crate::support::DEADLINE;
    let (first, second) = (
        reports.recv_timeout(deadline),
        reports.recv_timeout(deadline),
    );
    let (Ok(("disconnecting", a)), Ok(("disconnect", b))) = (first, second) else {
        panic!("{first:?} {second:?}");
    };
    assert_eq!(a, b);
    drop(server);
    assert!(reports.try_recv().is_err(), "told twice");
    b.to_string()
}

/// Returns the reason after a client has sent one packet.
fn after(packet: &str) -> String {
    reason(Config::default(), |_, mut client| {
        client.send_text(packet);
        // The connection stays open when a client only leaves a namespace.
        if !matches!(packet, "41" | "42[\"kick\",false]") {
            client.expect_close();
        }
    })
}

#[test]
fn the_client_leaves() {
    assert_eq!(after("41"), "client namespace disconnect");
}

#[test]
fn the_server_disconnects() {
    assert_eq!(after("42[\"kick\",false]"), "server namespace disconnect");
    assert_eq!(after("42[\"kick\",true]"), "server namespace disconnect");
}

#[test]
fn connection_dropped_by_the_server_is_a_forced_close() {
    assert_eq!(after("42[\"drop\"]"), "forced close");
}

#[test]
fn misplaced_packet_is_a_forced_server_close() {
    assert_eq!(after("40"), "forced server close");
    assert_eq!(after("42/other,[\"x\"]"), "forced server close");
}

#[test]
fn invalid_socket_io_packet_is_a_forced_close() {
    assert_eq!(after("42[\"disconnect\"]"), "forced close");
    assert_eq!(after("42nonsense"), "forced close");
    assert_eq!(after("49"), "forced close");
}

#[test]
fn invalid_engine_io_packet_is_a_parse_error() {
    assert_eq!(after("x"), "parse error");
}

#[test]
fn lost_connection_reports_transport_close() {
    assert_eq!(
        reason(Config::default(), |_, client| drop(client)),
        "transport close"
    );
    assert_eq!(after("1"), "transport close");
}

#[test]
fn the_client_answers_no_ping() {
    let config = Config::default()
        .ping_interval(Duration::from_millis(50))
        // Enough time to connect, also on a slow machine.
        .ping_timeout(Duration::from_secs(10));
    let reason = reason(config, |_, mut client| client.expect_unanswered_close());
    assert_eq!(reason, "ping timeout");
}

#[test]
fn polls_overlap() {
    let reason = reason(Config::default(), |server, mut client| {
        let session = Polling::open(server.address(), "/socket.io/");
        let first = session.start_poll();
        until(|| server.io.metrics().gauge(Gauge::PollsWaiting) == 1);
        assert_eq!(session.poll().status, 400);
        drop(first);
        // That was another session; this client is unaffected until it leaves.
        client.send_text("41");
    });
    assert_eq!(reason, "client namespace disconnect");
}

#[test]
fn the_server_stops() {
    let reason = reason(Config::default(), |server, mut client| {
        server
            .runtime
            .block_on(server.io.close(Duration::from_secs(20)));
        client.expect_close();
    });
    assert_eq!(reason, "server shutting down");
}

#[test]
fn closing_the_connection_disconnects_every_namespace() {
    let io = Io::builder()
        .namespace("/", |namespace| {
            namespace.on("kick", async |event: Event| event.socket.close_connection())
        })
        .namespace("/chat", |namespace| namespace);
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    crate::local::join(&mut client, "/chat,");
    client.send_text("42[\"kick\"]");
    client.expect_text("41");
    client.expect_text("41/chat,");
    client.expect_close();
}
