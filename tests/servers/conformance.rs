//! The server that the official protocol suites of Engine.IO and Socket.IO expect.
//!
//! It serves each metric at `/metrics` twice: for Socket.IO and for plain Engine.IO.

mod support;

use std::time::Duration;

use roomcast::{Ack, Args, Config, Event, Io, NamespaceBuilder, Server, connection::RawEngine};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    // The times of the suites, unless a test sets others.
    let time =
        |variable, millis| Duration::from_millis(support::number(variable).unwrap_or(millis));
    let config = Config::default()
        .ping_interval(time("PING_INTERVAL_MS", 300))
        .ping_timeout(time("PING_TIMEOUT_MS", 200))
        .max_payload(1_000_000)
        .connect_timeout(time("CONNECT_TIMEOUT_MS", 1000));
    let engine = config.clone().path("/engine.io/");
    let echo = RawEngine::new(engine, |session, message| {
        session.send(&message);
    });

    let io = Io::builder()
        .config(config)
        .namespace("/", handle)
        .namespace("/custom", handle)
        .build()?;
    let metrics = support::tell([io.metrics(), echo.metrics()]);
    support::run(Server::new(io).raw(echo).router(metrics)).await
}

fn handle(namespace: NamespaceBuilder) -> NamespaceBuilder {
    namespace
        .on_connect(async |event: Event| {
            let payload: Option<Value> = event.socket.auth().ok().flatten();
            event
                .socket
                .emit("auth", payload.unwrap_or_else(|| json!({})));
        })
        .on("message", async |event: Event, args: Args| {
            event.socket.emit("message-back", args);
        })
        .on("message-with-ack", async |_: Event, args: Args| Ack(args))
}
