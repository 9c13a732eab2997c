//! The server under attack in `tests/server/hostile`.
//!
//! `CONFIG` has options (JSON), `LIMITS` the limits of a guard (JSON; no guard without it), and
//! `GRACE` the seconds for shutdown (10). The server serves its metrics at `/metrics` and by an
//! event.

mod support;

use std::{env, time::Duration};

use roomcast::{
    Ack, AckError, Args, Connect, Event, Io, NamespaceBuilder, Refusal, Server, limit::Proxies,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = env::var("CONFIG").unwrap_or_else(|_| "{}".to_owned());
    let grace = env::var("GRACE").map_or(Ok(10), |seconds| seconds.parse())?;
    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let mut io = Io::builder().config(serde_json::from_str(&config)?);
    if let Ok(limits) = env::var("LIMITS") {
        io = io.guard(&serde_json::from_str(&limits)?, Proxies::default());
    }
    let on_demand = |name: &str| {
        name.strip_prefix("/dyn-")
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let io = io
        .namespace("/", events)
        .namespace("/custom", events)
        .namespace("/slow", |namespace| {
            events(namespace).middleware(async |_: Connect| {
                // Time for a client to send more before it is admitted.
                sleep(Duration::from_millis(300)).await;
                Ok::<(), Refusal>(())
            })
        })
        .namespaces(on_demand, events)
        .build()?;
    let metrics = support::tell([io.metrics()]);
    let server = Server::new(io)
        .router(metrics)
        .grace(Duration::from_secs(grace))
        .bind(&format!("127.0.0.1:{port}"))
        .await?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    let mut stop = signal(SignalKind::terminate())?;
    server
        .run_until(async move {
            stop.recv().await;
        })
        .await;
    Ok(())
}

fn events(namespace: NamespaceBuilder) -> NamespaceBuilder {
    namespace
        .on("echo", async |event: Event, args: Args| {
            if !event.wants_ack() {
                event.socket.emit("echo", args.clone());
            }
            Ack(args)
        })
        .on("join", async |event: Event, room: String| {
            Ack(match event.socket.join(room.as_str()) {
                Ok(()) => "joined".to_owned(),
                Err(error) => error.to_string(),
            })
        })
        .on("ask", async |event: Event, milliseconds: u64| {
            let direct = event.socket.timeout(Duration::from_millis(milliseconds));
            Ack(match direct.emit_with_ack::<String>("question", ()).await {
                Ok(answer) => answer,
                Err(AckError::Timeout) => "timeout".to_owned(),
                Err(error) => error.to_string(),
            })
        })
        .on("stream", async |event: Event, count: usize, size: usize| {
            let text = "x".repeat(size);
            for _ in 0..count {
                event.socket.emit("item", &text);
            }
        })
        .on(
            "publish",
            async |event: Event, room: String, first: usize, count: usize, size: usize| {
                let text = "x".repeat(size);
                for n in first..first + count {
                    event.io().to(&room).emit("item", (n, &text));
                }
                Ack(first + count)
            },
        )
        .on("panic", async |event: Event| {
            assert!(event.name().is_empty(), "asked to")
        })
        .on("metrics", async |event: Event| {
            Ack(event.io().metrics().render())
        })
}
