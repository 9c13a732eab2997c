//! Clients that stop reading: their cost, which clients it affects, and how they are notified.

use std::{
    fs,
    net::SocketAddr,
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use roomcast::{
    Config, DisconnectReason, Event, Io, SocketId, State,
    errors::DrainError,
    metrics::{Counter, Gauge},
};

use crate::{
    local::{Local, text, until},
    support::{DEADLINE, Frame, RawClient},
};

/// The socket of a connection that has ended, the reason, and its details.
type DisconnectReport = (SocketId, DisconnectReason, Option<String>);

/// Receives these reports.
struct ReportSender(Mutex<mpsc::Sender<DisconnectReport>>);

/// Starts a server that reports why clients have disconnected.
fn server(config: Config) -> (Local, mpsc::Receiver<DisconnectReport>) {
    let (sender, reports) = mpsc::channel();
    let io = Io::builder()
        .config(config)
        .state(ReportSender(Mutex::new(sender)))
        .namespace("/", |namespace| {
            namespace.on(
                "disconnect",
                async |event: Event,
                       reason: DisconnectReason,
                       detail: Option<String>,
                       reports: State<ReportSender>| {
                    let report = (event.socket.id(), reason, detail);
                    reports.0.lock().unwrap().send(report).unwrap();
                },
            )
        });
    (Local::serve(io), reports)
}

/// Connects a client in a room, and returns its address and socket id.
fn member(server: &Local, room: &str) -> (RawClient, SocketAddr, SocketId) {
    let (client, id) = server.connect();
    let id = SocketId::parse(&id).unwrap();
    let socket = server.io.of("/").socket(id.clone()).unwrap();
    socket.join(room).unwrap();
    let address = socket.handshake().address();
    (client, address, id)
}

/// Returns the bytes that the server's kernel holds for a client: sent but not acknowledged, or not
/// yet sent.
fn kernel_holds(server: &Local, client: SocketAddr) -> usize {
    let line = |entry: &str| {
        let fields: Vec<&str> = entry.split_whitespace().collect();
        let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
        let (from, to) = (port(fields.get(1)?)?, port(fields.get(2)?)?);
        let queues = fields.get(4)?.split_once(':')?;
        let unsent = usize::from_str_radix(queues.0, 16).ok()?;
        ((from, to) == (server.address().port(), client.port())).then_some(unsent)
    };
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().find_map(line).unwrap_or(0)
}

/// Reads numbered events up to `last`, all of them and in order.
fn read_in_order(client: &mut RawClient, last: usize) {
    for expected in 0..=last {
        let message = text(client);
        let prefix = format!("42[\"n\",{expected},");
        assert!(
            message.starts_with(&prefix),
            "not {expected}: {:.40}",
            message
        );
    }
}

#[test]
fn slow_client_is_disconnected_with_a_reason_alone() {
    const EVENTS: usize = 1000;
    let (server, reports) = server(
        Config::default()
            .outbox_bytes(300_000)
            .close_timeout(Duration::from_millis(500)),
    );
    let (_stalled, _, stalled_id) = member(&server, "room");
    let mut neighbours: Vec<RawClient> = (0..4).map(|_| member(&server, "room").0).collect();
    let payload = "x".repeat(10_000);
    thread::scope(|scope| {
        let (pace, paced) = mpsc::sync_channel(0);
        for client in &mut neighbours {
            let pace = pace.clone();
            scope.spawn(move || {
                for n in (0..EVENTS).step_by(10) {
                    for n in n..n + 10 {
                        let message = text(client);
                        assert!(message.starts_with(&format!("42[\"n\",{n},")), "{n}");
                    }
                    pace.send(()).unwrap();
                }
            });
        }
        for n in (0..EVENTS).step_by(10) {
            for n in n..n + 10 {
                server.io.to("room").emit("n", (n, &payload));
            }
            for _ in 0..4 {
                paced.recv_timeout(DEADLINE).unwrap();
            }
        }
    });
    let (id, reason, detail) = reports.recv_timeout(DEADLINE).unwrap();
    assert_eq!((id, reason), (stalled_id, DisconnectReason::Overflow));
    assert_eq!(
        detail.unwrap(),
        "more than outbox_bytes waited for the client"
    );
    let metrics = server.io.metrics();
    assert_eq!(metrics.counter(Counter::SlowClientsDisconnected), 1);
    assert_eq!(metrics.counter(Counter::ClosedOverflow), 1);
    until(|| metrics.gauge(Gauge::OutboxBytes) == 0);
    assert!(reports.try_recv().is_err(), "somebody else was cut");
}

#[test]
fn disconnected_slow_client_received_a_prefix_without_gaps() {
    let (server, reports) = server(Config::default().outbox_bytes(300_000));
    let (mut client, _, _) = member(&server, "room");
    let payload = "x".repeat(10_000);
    let mut sent = 0;
    while server.io.to("room").emit("n", (sent, &payload)).queued == 1 {
        sent += 1;
    }
    assert_eq!(server.io.to("room").emit("n", (sent, &payload)).queued, 0);
    assert_eq!(
        reports.recv_timeout(DEADLINE).unwrap().1,
        DisconnectReason::Overflow
    );
    // The client reads again: everything sent so far from the first event on, then the reason for
    // the close.
    let mut got = 0;
    let code = loop {
        match client.message() {
            Frame::Text(message) => {
                assert!(
                    message.starts_with(&format!("42[\"n\",{got},")),
                    "{message:.40}"
                );
                got += 1;
            }
            Frame::Close(code) => break code,
            frame => panic!("{frame:?}"),
        }
    };
    assert_eq!(code, 1008_u16.to_be_bytes());
    assert!(0 < got && got < sent, "{got} of {sent}");
}

#[test]
fn kernel_buffers_no_more_than_configured() {
    let held = |config: Config| {
        let (server, _reports) = server(config.outbox_bytes(32 << 20));
        let (_stalled, address, id) = member(&server, "room");
        let payload = "x".repeat(10_000);
        for _ in 0..1500 {
            assert_eq!(server.io.to(&id).emit("n", &payload).queued, 1);
        }
        let mut others: Vec<RawClient> = (0..8).map(|_| member(&server, "others").0).collect();
        let (mut last, mut rounds) = ((0, 0), 0);
        while rounds < 10 {
            // Waits until nothing moves, which no other signal shows.
            thread::sleep(Duration::from_millis(20));
            // The write workers must have run in the meantime.
            server.io.to("others").emit("turn", ());
            for other in &mut others {
                other.expect_text("42[\"turn\"]");
            }
            let waiting = server.io.metrics().gauge(Gauge::OutboxBytes);
            let now = (kernel_holds(&server, address), waiting);
            rounds = if now == last && now.0 > 0 {
                rounds + 1
            } else {
                0
            };
            last = now;
        }
        last.0
    };
    let free = held(Config::default().unsent_bytes(None));
    let unsent = held(Config::default().unsent_bytes(32 << 10));
    // Data in a segment that was started is sent with it.
    assert!(unsent <= (32 << 10) + (128 << 10), "{unsent}, else {free}");
    let buffer = held(
        Config::default()
            .unsent_bytes(None)
            .send_buffer_bytes(64 << 10),
    );
    // The kernel allows twice as much, including its overhead (socket(7)).
    assert!(
        buffer <= 2 * (64 << 10) + (64 << 10),
        "{buffer}, else {free}"
    );
    assert!(free > unsent && free > buffer, "{free}, {unsent}, {buffer}");
}

#[test]
fn total_limit_disconnects_clients_with_most_pending_data() {
    let (server, reports) = server(
        Config::default()
            .outbox_bytes(4 << 20)
            .total_outbox_bytes(6 << 20)
            .unsent_bytes(32 << 10)
            .send_buffer_bytes(32 << 10),
    );
    let payload = "x".repeat(10_000);
    let emit = |id: SocketId, count: usize| {
        for n in 0..count {
            assert_eq!(server.io.to(&id).emit("n", (n, &payload)).queued, 1);
        }
    };
    let (mut light, _, light_id) = member(&server, "room");
    emit(light_id, 100);
    let heavy: Vec<_> = (0..2).map(|_| member(&server, "room")).collect();
    emit(heavy[0].2.clone(), 250);
    let metrics = server.io.metrics();
    let mut sent = 0;
    // Up to the limit at which the clients with most pending data are disconnected.
    while reports.try_recv().is_err() && metrics.gauge(Gauge::OutboxBytes) < (6 << 20) / 16 * 15 {
        sent += 1;
        assert!(sent < 2000, "nothing waits for it");
        let _ = server.io.to(heavy[1].2.clone()).emit("n", &payload);
    }
    until(|| metrics.counter(Counter::SlowClientsDisconnectedForAll) >= 1);
    assert_eq!(metrics.counter(Counter::SlowClientsDisconnected), 0);
    assert!(metrics.gauge(Gauge::OutboxBytes) <= 6 << 20);
    read_in_order(&mut light, 99);
}

#[test]
fn a_slow_client_gets_the_last_events_of_a_stream_in_order() {
    let (server, _reports) = server(Config::default());
    let (mut client, _, id) = member(&server, "room");
    let payload = "x".repeat(10_000);
    let mut queued = 0;
    for n in 0..2000 {
        queued += server
            .io
            .to("room")
            .drop_oldest("trades", 5)
            .emit("n", (n, &payload))
            .queued;
    }
    // No event is refused: older events are dropped.
    assert_eq!(queued, 2000);
    server.io.to(id).emit("end", ());
    let mut got: Vec<usize> = Vec::new();
    while got.last() != Some(&1999) {
        let message = text(&mut client);
        if let Some(rest) = message.strip_prefix("42[\"n\",") {
            got.push(rest.split_once(',').unwrap().0.parse().unwrap());
        }
    }
    assert!(got.is_sorted() && got.len() < 2000);
    assert_eq!(got[got.len() - 5..], [1995, 1996, 1997, 1998, 1999]);
}

/// Number of events of a hundred bytes each, several times what may be pending for one client.
const BURST: usize = 20_000;

fn bursting() -> Local {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on("at once", async |event: Event| {
                for n in 0..BURST {
                    event.socket.emit("n", (n, "x".repeat(100)));
                }
            })
            .on("in turns", async |event: Event| -> Result<(), DrainError> {
                for n in 0..BURST {
                    event.socket.emit("n", (n, "x".repeat(100)));
                    if n % 500 == 0 {
                        event.socket.drained().await?;
                    }
                }
                event.socket.drained().await
            })
    });
    Local::serve(io)
}

#[test]
fn burst_awaiting_drained_arrives_completely() {
    let server = bursting();
    let (mut client, _) = server.connect();
    client.send_text("421[\"in turns\"]");
    read_in_order(&mut client, BURST - 1);
    client.expect_text("431[]");
    // Queued together, it exceeds the limit.
    client.send_text("42[\"at once\"]");
    until(|| server.io.of("/").count() == 0);

    // The same by polling.
    let session = crate::support::Polling::open(server.address(), "/socket.io/");
    session.post("40");
    assert!(session.poll().body.starts_with("40{"));
    session.post("42[\"in turns\"]");
    let mut seen = 0;
    while seen < BURST {
        for packet in session.poll().body.split('\u{1e}') {
            if packet != "2" {
                assert!(packet.starts_with(&format!("42[\"n\",{seen},")), "{packet}");
                seen += 1;
            } else {
                session.post("3");
            }
        }
    }
}

#[test]
fn drained_waits_up_to_a_deadline_or_disconnect() {
    let (server, _reports) = server(
        Config::default()
            .outbox_bytes(64 << 20)
            .send_buffer_bytes(16 << 10),
    );
    let (client, _, id) = member(&server, "room");
    let socket = server.io.of("/").socket(id).unwrap();
    let drained = |timeout| {
        let socket = socket.clone();
        server
            .runtime
            .spawn(async move { socket.timeout(timeout).drained().await })
    };
    let wait = |task: tokio::task::JoinHandle<_>| server.runtime.block_on(task).unwrap();
    assert_eq!(wait(drained(DEADLINE)), Ok(()));
    // The client reads nothing, and the kernels buffer less than this.
    for _ in 0..48 {
        assert_eq!(socket.emit("big", "x".repeat(1 << 20)).queued, 1);
    }
    let late = wait(drained(Duration::from_millis(20)));
    assert_eq!(late, Err(DrainError::Timeout));
    let waiting = drained(DEADLINE);
    drop(client);
    assert_eq!(wait(waiting), Err(DrainError::Disconnected));
    assert_eq!(wait(drained(DEADLINE)), Err(DrainError::Disconnected));
}
