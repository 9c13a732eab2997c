//! The server whose clients end in every way that there is: `tests/leaks` counts what is left of
//! them. Every time-out is short, so that many endings fit into a test.

mod support;

use std::time::Duration;

use roomcast::{Ack, Args, Config, Event, Io, Recovery, Refusal, Server};

/// The binary's allocator, so that memory comes back as it does there.
#[cfg(feature = "server")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), roomcast::Error> {
    const SHORT: Duration = Duration::from_millis(500);
    let mut io = Io::builder().config(Config {
        // A client that answers has time enough; one that does not ends within seconds.
        ping_interval: 6 * SHORT,
        ping_timeout: 6 * SHORT,
        upgrade_timeout: 6 * SHORT,
        connect_timeout: 6 * SHORT,
        message_timeout: SHORT,
        close_timeout: SHORT,
        outbox_bytes: 256 * 1024,
        ..Config::default()
    });
    if std::env::var("RECOVERY").is_ok() {
        io = io.recovery(Recovery {
            window: SHORT,
            ..Recovery::default()
        });
    }
    io.namespace("/")
        .on("join", async |event: Event, room: String| {
            Ack(event.socket.join(&room).is_ok())
        })
        .on("bye", async |event: Event, everything: bool| {
            event.socket.disconnect(everything);
            // Nobody is in a room after it has gone.
            let late = event.socket.join("late");
            assert!(late.is_err() || !event.socket.is_in("late"));
        })
        .on("ask", async |event: Event, milliseconds: u64| {
            let ask = event.socket.timeout(Duration::from_millis(milliseconds));
            let _ = ask.emit_with_ack::<Args>("question", ()).await;
        })
        .on("ask_room", async |event: Event, room: String| {
            let ask = event.io().to(&room).timeout(Duration::from_millis(100));
            let _ = ask.emit_with_acks::<Args>("question", ()).await;
        })
        .on("flood", async |event: Event| {
            let text = "x".repeat(64 * 1024);
            // Until it is cut off, which happens long before the end.
            for _ in 0..4096 {
                if !event.socket.is_connected() {
                    break;
                }
                event.socket.emit("item", &text);
                tokio::task::yield_now().await;
            }
        })
        .on("panic", async |event: Event| {
            assert!(event.name().is_empty(), "asked to");
        })
        .on("metrics", async |event: Event| {
            Ack(event.io().metrics().render())
        });
    io.namespace("/refused")
        .gate(async |_: roomcast::Connect| Err::<(), _>(Refusal::new("NO", "nobody")));
    io.namespace("/panics").on_connect(async |event: Event| {
        assert!(event.socket.is_in("never"), "as it should");
    });
    support::run(Server::new(io.build()?)).await
}
